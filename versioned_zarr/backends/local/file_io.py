"""File I/O: writes to the file system, and the meaning of its errors."""

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
"""The errors by which a file system reports that an operation is not supported."""
_MAPS_REFUSED = (*NOT_SUPPORTED, errno.EACCES, errno.EPERM, errno.ENOMEM)
_LOCKS_REFUSED = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
MAX_PARTS = 512
"""The number of buffers per call: fewer than IOV_MAX of every system."""


class naming_failures:  # noqa: N801 - used as a statement, on every write
    """Convert errors of the system to errors that say what, where and what to do.

    A missing path remains a `FileNotFoundError`, also if it cannot exist.

    Args:
        path: the path.
        is_made: whether something is created there, so that a missing path is a failure.
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
    """Whether a text is a valid path."""
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
    """Sync a folder, which makes the names in it durable.

    If a file system cannot sync folders (CIFS, some FUSE), names are as durable as that file system
    makes them by itself.
    """
    try:
        system.sync_names(folder)
    except OSError as error:
        if error.errno not in (*NOT_SUPPORTED, errno.EBADF):
            raise


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        sync_folder(each.parent)


def lock_file(fd: int, path: str | os.PathLike[str], *, shared: bool, wait: bool) -> bool:
    """Lock an open file until it is closed; returns whether it is locked, always true if `wait`.

    Raises:
        StorageError: the file system does not support `flock`, so writing would not be safe.
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
    """Write every byte of the parts, in order, beginning at `offset`."""
    for first in range(0, len(parts), MAX_PARTS):
        batch = parts[first : first + MAX_PARTS]
        size = sum(map(len, batch))
        done = system.write_parts_at(fd, batch, offset)
        offset += size
        if done < size:
            write_rest(fd, b"".join(batch)[done:], offset - size + done)


def write_rest(fd: int, data: bytes, offset: int) -> None:
    """Continue after a partial write; a full disk raises an error now."""
    rest = memoryview(data)
    while rest:
        done = system.write_at(fd, rest, offset)
        rest, offset = rest[done:], offset + done


def map_file(fd: int, size: int, *, is_at_hand: bool = False) -> memoryview:
    """The first bytes of an open file, mapped read-only.

    Args:
        fd: the file; may be closed afterward.
        size: the number of bytes.
        is_at_hand: whether they are in the page cache, so that all pages can be mapped at once
            instead of on access.

    Raises:
        OSError: maps are not supported, or there is not enough memory; see `cannot_map`.
    """
    if not size:
        return memoryview(b"")
    try:
        return system.map_file(fd, size, is_at_hand=is_at_hand, is_private=False)
    except OSError as error:
        if error.errno not in _MAPS_REFUSED:
            raise
    # GPFS, 9p and FUSE may refuse shared maps and allow private ones, which read the same.
    return system.map_file(fd, size, is_at_hand=is_at_hand, is_private=True)


def cannot_map(error: OSError) -> bool:
    """Whether an error means that the file can be read but not mapped."""
    return error.errno in _MAPS_REFUSED
