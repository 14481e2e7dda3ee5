"""A repository over HTTP, read-only: a trustless IPFS gateway and plain Zarr."""

from versioned_zarr.interfaces.web.edge import app, serve

__all__ = ["app", "serve"]
