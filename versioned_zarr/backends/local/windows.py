"""What a folder asks of Windows, by its C runtime; `posix` documents what each function does.

Three things differ from Linux and macOS:

- A lock on bytes keeps others from reading and writing them, and there are no shared ones. So the
  bytes that are locked lie far behind those that files have: a holder that shares takes one of
  them at random, one that does not takes them all.
- A file can be renamed and deleted while it is open if all opened it with FILE_SHARE_DELETE, but
  not while it is mapped. So nothing is mapped.
- An open file has one position, and reading and writing move it.
"""

from __future__ import annotations

import _winapi
import errno
import msvcrt
import os
import secrets
import threading
import time
from collections.abc import Sequence
from typing import Final

from versioned_zarr.storage.protocol import Bytes, FilePart

# See https://learn.microsoft.com/windows/win32/api/fileapi/nf-fileapi-createfilew
_GENERIC_READ: Final = 0x80000000
_GENERIC_WRITE: Final = 0x40000000
_SHARE_ALL: Final = 7  # FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE
_CREATE_NEW, _OPEN_EXISTING, _OPEN_ALWAYS = 1, 3, 4
_ATTRIBUTE_NORMAL: Final = 0x80

# `_locking` of the C runtime knows positions of 31 bits. Drafts and logs, which alone are locked
# and read, are shorter.
_LOCKED_BYTES: Final = 1 << 20
_LOCKED_AT: Final = (1 << 31) - 1 - _LOCKED_BYTES
_TRIES_TO_SHARE: Final = 3
"""Two who share take the same byte once in a million times, and this often once in 10^18."""
_FIRST_PAUSE_S: Final = 0.001
_LONGEST_PAUSE_S: Final = 0.05
_REPLACED_WITHIN_S: Final = 2.0

_POSITIONS: Final = [threading.Lock() for _ in range(64)]
"""Who moves the position of a file holds the lock of its number."""


def open_file(path: str | os.PathLike[str], flags: int) -> int:
    """See `posix.open_file`."""
    if flags & os.O_RDWR:
        access = _GENERIC_READ | _GENERIC_WRITE
    else:
        access = _GENERIC_WRITE if flags & os.O_WRONLY else _GENERIC_READ
    how = _OPEN_EXISTING
    if flags & os.O_CREAT:
        how = _CREATE_NEW if flags & os.O_EXCL else _OPEN_ALWAYS
    handle = _winapi.CreateFile(  # type: ignore[attr-defined]  # on Windows
        os.fspath(path), access, _SHARE_ALL, 0, how, _ATTRIBUTE_NORMAL, 0
    )
    try:
        return msvcrt.open_osfhandle(handle, 0)  # type: ignore[attr-defined,no-any-return]
    except BaseException:
        _winapi.CloseHandle(handle)  # type: ignore[attr-defined]
        raise


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


def append(fd: int, data: Bytes) -> tuple[int, int]:
    """See `posix.append`; under a lock, since O_APPEND is two steps here."""
    lock(fd, shared=False, wait=True)
    try:
        end = os.lseek(fd, 0, os.SEEK_END)
        written = os.write(fd, data)
        return written, end + written
    finally:
        os.lseek(fd, _LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, _LOCKED_BYTES)  # type: ignore[attr-defined]


def reserve(fd: int, offset: int, size: int) -> None:
    """See `posix.reserve`: Windows needs the right to manage the volume."""
    del fd, offset, size


def sync_data(fd: int) -> None:
    """See `posix.sync_data`."""
    os.fsync(fd)


def sync_names(folder: str | os.PathLike[str]) -> None:
    """See `posix.sync_names`: NTFS writes names to its journal, in order and by itself."""
    del folder


def rename(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """See `posix.rename`."""
    replace(source, target)


def replace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """See `posix.replace`; waits for a moment in which nobody has the other file open."""
    ends_s = time.monotonic() + _REPLACED_WITHIN_S
    while True:
        try:
            os.replace(source, target)
        except PermissionError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(_FIRST_PAUSE_S)
        else:
            return


def lock(fd: int, *, shared: bool, wait: bool) -> bool:
    """See `posix.lock`."""
    pause_s = _FIRST_PAUSE_S
    while not (_lock_one(fd) if shared else _lock_bytes(fd, _LOCKED_AT, _LOCKED_BYTES)):
        if not wait:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    return True


def _lock_one(fd: int) -> bool:
    """Lock one byte of those that are locked, whichever; says whether it is held."""
    places = (secrets.randbelow(_LOCKED_BYTES) for _ in range(_TRIES_TO_SHARE))
    return any(_lock_bytes(fd, _LOCKED_AT + place, 1) for place in places)


def _lock_bytes(fd: int, offset: int, size: int) -> bool:
    """Lock bytes, which need not be there; says whether they are held."""
    os.lseek(fd, offset, os.SEEK_SET)
    try:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, size)  # type: ignore[attr-defined]
    except PermissionError:
        return False
    return True


def map_file(fd: int, size: int, *, is_at_hand: bool, is_private: bool) -> memoryview:
    """See `posix.map_file`: there are no maps that outlive a file's name."""
    del fd, size, is_at_hand, is_private
    raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def part_of(fd: int, start: int, end: int) -> Bytes | FilePart:
    """See `posix.part_of`: a copy, as the system sends none from a position of its own."""
    return read_at(fd, end - start, start)
