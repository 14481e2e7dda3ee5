"""Cache storage: a local folder for data that can be fetched again; a torn file is a miss.

Files are not memory-mapped: the system kills a process that reads a mapped page of a truncated
file, and cache files may be truncated at any time.
"""

from __future__ import annotations

import errno
import os

from versioned_zarr.backends.local import LocalStorage


class CacheStorage(LocalStorage):
    """See the module, and `LocalStorage`."""

    def view(self, path: str) -> memoryview | None:
        """See `Storage.view`: not supported."""
        del path
        return None

    def _keep(self, path: str, mapped: memoryview) -> None:
        """Do not keep a map."""

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `Storage.read`.

        Raises:
            FileNotFoundError: the file does not exist, or is shorter than requested.
        """
        found = super().read(path, start, end)
        if end is not None and len(found) < end - start:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found
