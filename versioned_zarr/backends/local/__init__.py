"""The local backend: a folder of the local file system as a `Storage`."""

from versioned_zarr.backends.local.local_storage import LocalStorage

__all__ = ["LocalStorage"]
