"""A folder of the local file system as a `Storage`."""

from versioned_zarr.backends.local.storage import LocalStorage

__all__ = ["LocalStorage"]
