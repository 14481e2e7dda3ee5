"""What a folder asks of Linux and macOS; `windows` does the same there, and `system` chooses."""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import socket
from collections.abc import Sequence

from versioned_zarr.storage.protocol import Bytes, FilePart

_POPULATE = getattr(mmap, "MAP_POPULATE", 0)  # Linux has it


def open_file(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file as `os.open` does; it can be renamed and deleted while it is open."""
    return os.open(path, flags, 0o666)


def read_at(fd: int, size: int, offset: int) -> bytes:
    """Read so many bytes from `offset` on, or those before the end. Thread-safe."""
    return os.pread(fd, size, offset)


def write_at(fd: int, data: Bytes, offset: int) -> int:
    """Write bytes to `offset`; returns how many the system took. Thread-safe."""
    return os.pwrite(fd, data, offset)


def write_parts_at(fd: int, parts: Sequence[Bytes], offset: int) -> int:
    """As `write_at`, for at most IOV_MAX parts, one behind the other."""
    return os.pwritev(fd, parts, offset)


def append(fd: int, data: Bytes) -> tuple[int, int]:
    """Write behind the last byte of a file that is open with O_APPEND, mixed with nobody else's.

    Returns:
        How many bytes the system took, and the position behind them.
    """
    return os.write(fd, data), os.lseek(fd, 0, os.SEEK_CUR)


def reserve(fd: int, offset: int, size: int) -> None:
    """Give a file room on the disk in advance, where the system can: writes go faster then."""
    if hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(fd, offset, size)


def sync_data(fd: int) -> None:
    """Make durable what was written to a file, and as much as is needed to read it."""
    getattr(os, "fdatasync", os.fsync)(fd)  # macOS has the second


def sync_names(folder: str | os.PathLike[str]) -> None:
    """Make durable which names there are in a folder."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file or a folder another name at once; a file of that name is replaced."""
    os.rename(source, target)


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Give a file the name of another at once, which somebody may be reading."""
    os.replace(source, target)


def lock(fd: int, *, shared: bool, wait: bool) -> bool:
    """Lock an open file against all who open it for themselves, by `flock`, until it is closed.

    Args:
        fd: the file.
        shared: together with others who share it.
        wait: until it is free.

    Returns:
        Whether it is held; always if `wait`.

    Raises:
        OSError: the file system has no locks.
    """
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def map_file(fd: int, size: int, *, is_at_hand: bool, is_private: bool) -> memoryview:
    """The first bytes of an open file, mapped read-only; they outlive its name.

    Args:
        fd: the file; may be closed afterwards.
        size: how many bytes; not 0.
        is_at_hand: whether they lie in the page cache, so that they can be mapped all at once,
            rather than a few pages each time they are read.
        is_private: whether the map is one that file systems without shared maps may grant.

    Raises:
        OSError: the file system has no such maps, or there is no memory for them.
    """
    flags = mmap.MAP_PRIVATE if is_private else mmap.MAP_SHARED
    flags |= _POPULATE if is_at_hand else 0
    return memoryview(mmap.mmap(fd, size, flags=flags, prot=mmap.PROT_READ))


def part_of(fd: int, start: int, end: int) -> Bytes | FilePart:
    """The bytes of an open file between two offsets, which may be closed then."""
    return PosixFilePart(os.dup(fd), start, end)


class PosixFilePart(FilePart):
    """Part of a file that the system sends by `sendfile`.

    Args:
        fd: the file; belongs to this part, which closes it when nobody needs it any more.
        start: the first byte.
        end: the byte behind the last.
    """

    __slots__ = ("_end", "_fd", "_start")

    def __init__(self, fd: int, start: int, end: int) -> None:
        self._fd, self._start, self._end = fd, start, end

    def __len__(self) -> int:
        return self._end - self._start

    def read(self, offset: int, size: int) -> bytes:
        """See `FilePart.read`."""
        return os.pread(self._fd, min(size, len(self) - offset), self._start + offset)

    def send(self, sock: socket.socket, offset: int, timeout_s: float | None) -> int:
        """See `FilePart.send`."""
        sock.settimeout(timeout_s)  # and so it does not block
        poll = select.poll()  # `select.select` takes no descriptor from 1024 on
        poll.register(sock, select.POLLOUT)
        if timeout_s is not None and not poll.poll(timeout_s * 1000):
            raise TimeoutError("timed out")
        return os.sendfile(sock.fileno(), self._fd, self._start + offset, len(self) - offset)

    def __del__(self) -> None:
        os.close(self._fd)
