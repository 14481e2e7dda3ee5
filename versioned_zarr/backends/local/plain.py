"""What a folder asks of any system that Python runs on; `posix` documents what each function does.

An open file has one position, and reading and writing move it. There are no locks, so that folders
are only read; `windows` has some, and this has the rest for it.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence
from typing import Final

from versioned_zarr.storage.protocol import Bytes, FilePart

_POSITIONS: Final = [threading.Lock() for _ in range(64)]
"""Who moves the position of a file holds the lock of its number."""


def open_file(path: str | os.PathLike[str], flags: int) -> int:
    """See `posix.open_file`; whether it can be renamed while it is open, the system decides."""
    return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """See `posix.read_at`."""
    with _POSITIONS[fd % len(_POSITIONS)]:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def write_at(fd: int, data: Bytes, offset: int) -> int:
    """See `posix.write_at`."""
    with _POSITIONS[fd % len(_POSITIONS)]:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def write_parts_at(fd: int, parts: Sequence[Bytes], offset: int) -> int:
    """See `posix.write_parts_at`."""
    return write_at(fd, parts[0] if len(parts) == 1 else b"".join(parts), offset)


def reserve(fd: int, offset: int, size: int) -> None:
    """See `posix.reserve`: there is no way."""
    del fd, offset, size


def sync_data(fd: int) -> None:
    """See `posix.sync_data`."""
    os.fsync(fd)


def sync_names(folder: str | os.PathLike[str]) -> None:
    """See `posix.sync_names`: folders cannot be opened; NTFS has a journal of names."""
    del folder


def append(fd: int, data: Bytes) -> tuple[int, int]:
    """See `posix.append`: not without a lock."""
    del fd, data
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def lock(fd: int, *, shared: bool, wait: bool) -> bool:
    """See `posix.lock`: there are none."""
    del fd, shared, wait
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """See `posix.rename`."""
    os.replace(source, target)


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """See `posix.replace`."""
    os.replace(source, target)


def map_file(fd: int, size: int, *, is_at_hand: bool, is_private: bool) -> memoryview:
    """See `posix.map_file`: no maps outlive a file's name."""
    del fd, size, is_at_hand, is_private
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def part_of(fd: int, start: int, end: int) -> Bytes | FilePart:
    """See `posix.part_of`: a copy."""
    return read_at(fd, end - start, start)
