"""A repository over HTTP, read-only: a trustless IPFS gateway and plain Zarr."""

from versioned_zarr.interfaces.web.web_api import app, serve

__all__ = ["app", "serve"]
