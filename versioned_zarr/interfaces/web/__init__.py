"""The web interface: a repository over HTTP, as a trustless IPFS gateway and plain Zarr."""

from versioned_zarr.interfaces.web.web_api import app, serve

__all__ = ["app", "serve"]
