"""Whole files: each appears under its name with all of its bytes, or not at all.

The bytes go into a temporary file beside it, which is synced and then gets the name. Temporary
files begin with a dot, are never listed, and those of killed writers are swept after a day.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Sequence
from typing import Final

from versioned_zarr.backends.local.file_io import write_all
from versioned_zarr.backends.sharedfolder import folder_calls
from versioned_zarr.storage.object_store import Bytes

INNER: Final = ".object"
"""The file with the bytes of an object, if a folder has its name; see `create_in_folder`."""
TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{8}", re.DOTALL)
_ATTEMPTS: Final = 3
_PERMISSIONS: Final = 0o7777
_READABLE: Final = 0o444


def make_folders(folder: str, root: str) -> None:
    """Create a folder and those above it, durably, with the permissions of the root.

    So who may write in the root may write everywhere in it, whatever the umask of others.
    """
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each)
            if len(each) > len(root):
                _give_permissions(each, os.stat(each).st_mode, os.stat(root).st_mode)
        folder_calls.sync_folder(os.path.dirname(each))


def _give_permissions(path: str, found: int, wanted: int) -> None:
    if stat.S_IMODE(found) != stat.S_IMODE(wanted):
        with contextlib.suppress(OSError):  # some file systems have none
            os.chmod(path, wanted & _PERMISSIONS)


def write_temporary(target: str, parts: Sequence[Bytes], root: str, *, durable: bool = True) -> str:
    """Write a temporary file beside a target; returns its path.

    Raises:
        OSError: it was not written, and is gone.
    """
    path, fd = _open_temporary(target, root)
    try:
        try:
            write_all(fd, parts, 0)
            found = os.fstat(fd).st_mode
            _give_permissions(path, found, found | (os.stat(root).st_mode & _READABLE))
            if durable:
                folder_calls.sync_file(fd)
        finally:
            os.close(fd)  # some file systems report here that the disk is full
    except BaseException:
        remove_quietly(path)
        raise
    return path


def _open_temporary(target: str, root: str) -> tuple[str, int]:
    folder, name = os.path.split(target)
    left = _ATTEMPTS
    while True:
        left -= 1
        path = os.path.join(folder, f".{name[:200]}.{secrets.token_hex(4)}")
        try:
            return path, folder_calls.open_new(path)
        except (FileNotFoundError, FileExistsError) as error:
            if not left:
                raise
            if isinstance(error, FileNotFoundError):
                make_folders(folder, root)  # else the answer of a server was lost


def replace_whole(target: str, parts: Sequence[Bytes], root: str, *, durable: bool) -> None:
    """Write a file, replacing it if it exists."""
    temporary = write_temporary(target, parts, root, durable=durable)
    try:
        try:
            folder_calls.replace(temporary, target)
        except OSError:
            if not os.path.isdir(target):
                raise
            folder_calls.replace(temporary, os.path.join(target, INNER))
    except BaseException:
        remove_quietly(temporary)
        raise
    if durable:
        folder_calls.sync_folder(os.path.dirname(target))


def link_whole(target: str, link: Callable[[str], bytes | None], root: str) -> bytes | None:
    """Let a file that is elsewhere on the file system have this name, too.

    Args:
        target: the name.
        link: gives the file a name that does not exist, and finishes it; None if it cannot.
        root: the folder of the repository.

    Returns:
        What `link` returned.
    """
    folder, name = os.path.split(target)
    make_folders(folder, root)
    temporary = os.path.join(folder, f".{name}.{secrets.token_hex(4)}")
    try:
        found = link(temporary)
        if found is not None:
            mode = os.stat(temporary).st_mode
            _give_permissions(temporary, mode, mode | (os.stat(root).st_mode & _READABLE))
            folder_calls.replace(temporary, target)
            folder_calls.sync_folder(folder)
    except BaseException:
        remove_quietly(temporary)
        raise
    return found


def create_by_link(target: str, data: bytes, root: str) -> None:
    """Write a file that does not exist, by a hard link to a temporary file.

    Raises:
        FileExistsError: it exists.
        OSError: one of `folder_calls.NO_LINKS` if there are no links.
    """
    temporary = write_temporary(target, [data], root)
    try:
        folder_calls.link(temporary, target)
    except OSError:
        # NFS repeats a request whose answer was lost, and gets the error of the second one.
        if not _is_same(temporary, target):
            raise
    finally:
        remove_quietly(temporary)


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.stat(other))
    except OSError:
        return False


def create_in_folder(target: str, data: bytes, root: str) -> None:
    """Write an object that does not exist, where there are no hard links.

    The file is put in a temporary folder, which is renamed: a rename never replaces a file, nor a
    folder that is not empty. O_EXCL on the final name would be as exclusive, but a reader could see
    a part of the object, and a killed writer would leave that part for ever.

    Raises:
        FileExistsError: it exists.
    """
    temporary = write_temporary(target, [data], root)
    holder = f"{os.path.dirname(temporary)}/.{os.path.basename(target)}.{secrets.token_hex(4)}"
    try:
        os.mkdir(holder)
        _give_permissions(holder, os.stat(holder).st_mode, os.stat(root).st_mode)
        folder_calls.replace(temporary, os.path.join(holder, INNER))
        folder_calls.sync_folder(holder)
        folder_calls.rename_folder(holder, target)
    except OSError as error:
        if os.path.lexists(target) and (
            os.path.isfile(target) or os.path.exists(os.path.join(target, INNER))
        ):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        raise
    finally:
        remove_quietly(temporary)
        remove_quietly(os.path.join(holder, INNER))
        with contextlib.suppress(OSError):
            os.rmdir(holder)


def remove_quietly(path: str) -> None:
    """Remove a temporary file; if that fails, it is swept later."""
    with contextlib.suppress(OSError):
        folder_calls.unlink(path)
