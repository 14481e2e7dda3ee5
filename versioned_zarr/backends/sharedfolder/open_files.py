"""Open files: those that were read last stay open, because opening asks the server each time.

Only for files that are never changed. One that was removed can be read until it is closed, or
fails as stale; then it is opened again, and found to be missing.
"""

from __future__ import annotations

import errno
import os
from collections import OrderedDict
from typing import Final

from versioned_zarr.backends.local import system
from versioned_zarr.backends.sharedfolder import folder_calls
from versioned_zarr.fork_local import ForkSafeLock

_KEPT: Final = 64


class _OpenFile:
    """An open file, which is closed when nobody reads it any more."""

    __slots__ = ("fd",)

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.fd = folder_calls.open_for_reading(path)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class OpenFiles:
    """See the module. Thread-safe."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, _OpenFile] = OrderedDict()
        self._guard = ForkSafeLock()

    def read(self, path: str, start: int, end: int | None) -> bytes:
        """The bytes of a file, as `ObjectStore.read` counts them.

        Raises:
            FileNotFoundError: it does not exist.
        """
        file = self._open(path)
        try:
            return read_range(file.fd, start, end)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        self.forget(path)
        return read_range(self._open(path).fd, start, end)

    def _open(self, path: str) -> _OpenFile:
        with self._guard:
            file = self._files.get(path)
            if file is not None:
                self._files.move_to_end(path)
                return file
        file = _OpenFile(path)
        with self._guard:
            file = self._files.setdefault(path, file)
            while len(self._files) > _KEPT:
                self._files.popitem(last=False)
        return file

    def forget(self, path: str) -> None:
        """Close a file, once its readers are done."""
        with self._guard:
            self._files.pop(path, None)


def read_once(path: str, start: int, end: int | None) -> bytes:
    """As `OpenFiles.read`, of a file that is opened for this alone."""
    fd = folder_calls.open_for_reading(path)
    try:
        return read_range(fd, start, end)
    finally:
        os.close(fd)


def read_range(fd: int, start: int, end: int | None) -> bytes:
    """The bytes of an open file between two offsets, or from the end if `start` is negative."""
    if end is None or start < 0:
        size = os.fstat(fd).st_size
        start = max(0, size + start) if start < 0 else start
        end = size if end is None else min(end, size)
    data = system.read_at(fd, max(0, end - start), start)
    if not data or len(data) >= end - start:
        return data
    parts = [data]  # a network file system may return less than there is
    start += len(data)
    while start < end and (data := system.read_at(fd, end - start, start)):
        parts.append(data)
        start += len(data)
    return b"".join(parts)
