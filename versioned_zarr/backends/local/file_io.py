"""File I/O: writes to the file system, and what its errors mean."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from versioned_zarr.backends.local import system
from versioned_zarr.errors import ReadOnlyError, StorageError, StorageFullError
from versioned_zarr.storage.protocol import Bytes

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
NOT_SUPPORTED = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV)
"""How a file system says that it lacks what it was asked for."""
_MAPS_REFUSED = (*NOT_SUPPORTED, errno.EACCES, errno.EPERM, errno.ENOMEM)
_LOCKS_REFUSED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
MAX_PARTS = 512
"""So many buffers at a time: fewer than IOV_MAX of every system."""


class naming_failures:  # noqa: N801 - used as a statement, on every write
    """Turn what the system says into errors that say what, where and what to do.

    That nothing is at the path stays a `FileNotFoundError`, also where nothing can be.

    Args:
        path: where.
        is_made: whether something is made there, so that it is no answer that nothing is.
    """

    __slots__ = ("_is_made", "_path")

    def __init__(self, path: str | os.PathLike[str], *, is_made: bool = False) -> None:
        self._path, self._is_made = path, is_made

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError) and not _is_path(self._path):
            error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._path))
            if not self._is_made:
                raise error
        if not isinstance(error, OSError) or isinstance(error, StorageError):
            return
        if self._is_made or not isinstance(error, FileNotFoundError):
            raise named(error, self._path) from error


def _is_path(path: str | os.PathLike[str]) -> bool:
    """Whether a file can be called so."""
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def named(error: OSError, path: str | os.PathLike[str]) -> Exception:
    """Map a failure of the operating system to an error of this package."""
    where = os.fspath(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            f"no space left to write {where!r}; free some and try again; all commits are intact",
            where=where,
        )
    if error.errno in FORBIDDEN:
        return ReadOnlyError(
            f"no permission for {where!r}: {error.strerror}; "
            "check who owns the folder and how it is mounted",
            url=where,
        )
    return StorageError(f"{where!r} failed: {error.strerror or error}", where=where)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Make durable which names there are in a folder.

    Where a file system cannot do that for folders (CIFS, some FUSE), it is as durable as that
    file system makes names by itself.
    """
    try:
        system.sync_names(folder)
    except OSError as error:
        if error.errno not in (*NOT_SUPPORTED, errno.EBADF):
            raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, so that they are there after a loss of power too."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


def lock_file(fd: int, path: str | os.PathLike[str], *, shared: bool, wait: bool) -> bool:
    """Lock an open file until it is closed; says whether it is held, as it always is if `wait`.

    Raises:
        StorageError: the file system has no such locks, so that nothing can be written safely.
    """
    try:
        return system.lock(fd, shared=shared, wait=wait)
    except OSError as error:
        if error.errno not in _LOCKS_REFUSED:
            raise
        where = os.fspath(path)
        raise StorageError(
            f"the file system of {where!r} has no file locks ({error.strerror}); without them, "
            "two writers could destroy each other's work; reading works; write to a repository on "
            "a local disk and push it here, or mount with locks (Lustre: -o flock)",
            where=where,
        ) from error


def write_all(fd: int, parts: Sequence[Bytes], offset: int) -> None:
    """Write every byte of the parts, one behind the other, the first at `offset`."""
    for first in range(0, len(parts), MAX_PARTS):
        batch = parts[first : first + MAX_PARTS]
        size = sum(map(len, batch))
        done = system.write_parts_at(fd, batch, offset)
        offset += size
        if done < size:
            write_rest(fd, b"".join(batch)[done:], offset - size + done)


def write_rest(fd: int, data: bytes, offset: int) -> None:
    """Go on after the system wrote less than it was given; a full disk says so now."""
    rest = memoryview(data)
    while rest:
        done = system.write_at(fd, rest, offset)
        rest, offset = rest[done:], offset + done


def map_file(fd: int, size: int, *, is_at_hand: bool = False) -> memoryview:
    """The first bytes of an open file, mapped read-only.

    Args:
        fd: the file; may be closed afterwards.
        size: how many bytes.
        is_at_hand: whether they lie in the page cache, so that they can be mapped all at once,
            rather than a few pages each time they are read.

    Raises:
        OSError: there are no maps here, or there is no memory for them; `cannot_map` tells.
    """
    if not size:
        return memoryview(b"")
    try:
        return system.map_file(fd, size, is_at_hand=is_at_hand, is_private=False)
    except OSError as error:
        if error.errno not in _MAPS_REFUSED:
            raise
    # GPFS, 9p and FUSE may refuse shared maps and grant private ones, which read the same.
    return system.map_file(fd, size, is_at_hand=is_at_hand, is_private=True)


def cannot_map(error: OSError) -> bool:
    """Whether a file may be read though it cannot be mapped."""
    return error.errno in _MAPS_REFUSED
