"""What a folder asks of Windows; `posix` documents each function, and `plain` has the rest.

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
import time
from typing import Final

from versioned_zarr.backends.local.plain import (
    map_file,
    part_of,
    read_at,
    reserve,
    sync_data,
    sync_names,
    write_at,
    write_parts_at,
)
from versioned_zarr.storage.protocol import Bytes

__all__ = [
    "append",
    "lock",
    "map_file",
    "open_file",
    "part_of",
    "read_at",
    "rename",
    "replace",
    "reserve",
    "sync_data",
    "sync_names",
    "write_at",
    "write_parts_at",
]

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


def open_file(path: str | os.PathLike[str], flags: int) -> int:
    """See `posix.open_file`."""
    if flags & os.O_RDWR:
        access = _GENERIC_READ | _GENERIC_WRITE
    else:
        access = _GENERIC_WRITE if flags & os.O_WRONLY else _GENERIC_READ
    how = _OPEN_EXISTING
    if flags & os.O_CREAT:
        how = _CREATE_NEW if flags & os.O_EXCL else _OPEN_ALWAYS
    try:
        handle = _winapi.CreateFile(  # type: ignore[attr-defined]  # on Windows
            os.fspath(path), access, _SHARE_ALL, 0, how, _ATTRIBUTE_NORMAL, 0
        )
    except PermissionError:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path) from None
        raise
    try:
        return msvcrt.open_osfhandle(handle, 0)  # type: ignore[attr-defined,no-any-return]
    except BaseException:
        _winapi.CloseHandle(handle)  # type: ignore[attr-defined]
        raise


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
