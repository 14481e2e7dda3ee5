"""An append log: a file that many processes append records to."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from versioned_zarr.backends.local import system
from versioned_zarr.backends.local.file_io import (
    FORBIDDEN,
    make_folder,
    named,
    naming_failures,
    sync_folder,
)


class LocalAppendLog:
    """See `versioned_zarr.storage.protocol.AppendLog`: a file opened with O_APPEND."""

    _fd = -1

    def __init__(self, path: Path, create: bool) -> None:
        self._path = path
        with naming_failures(path, is_made=create):
            if create:
                make_folder(path.parent)
            flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
            try:
                self._fd = system.open_file(path, flags)
            except OSError as error:
                if create or error.errno not in FORBIDDEN:
                    raise
                self._fd = system.open_file(path, os.O_RDONLY)
            self._is_new = create and not os.fstat(self._fd).st_size

    def append(self, record: bytes) -> int:
        """See `AppendLog.append`."""
        try:
            written, end = system.append(self._fd, record)
            if written != len(record):
                if self.end() == end:
                    os.ftruncate(self._fd, end - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return end
        except OSError as error:
            raise named(error, self._path) from error

    def end(self) -> int:
        """See `AppendLog.end`: one system call."""
        try:
            return os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise named(error, self._path) from error

    def read(self, start: int, end: int) -> bytes:
        """See `AppendLog.read`."""
        with naming_failures(self._path):
            return system.read_at(self._fd, end - start, start)

    def is_removed(self) -> bool:
        """See `AppendLog.is_removed`: whether the file has no name any more."""
        with naming_failures(self._path):
            return not os.fstat(self._fd).st_nlink

    def sync(self) -> None:
        """See `AppendLog.sync`; the first time, also syncs the folder."""
        with naming_failures(self._path):
            system.sync_data(self._fd)
            if self._is_new:
                sync_folder(self._path.parent)
                self._is_new = False

    def close(self) -> None:
        """See `AppendLog.close`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close
