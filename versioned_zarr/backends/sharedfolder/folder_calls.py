"""Folder calls: all that a shared folder asks of the operating system to change names.

Reading and writing of bytes is in `backends.local.system`.
"""

from __future__ import annotations

import errno
import os

from versioned_zarr.backends.local import system
from versioned_zarr.backends.local.file_io import NOT_SUPPORTED
from versioned_zarr.backends.local.file_io import sync_folder as _sync_folder

NO_LINKS = (*NOT_SUPPORTED, errno.EPERM, errno.EXDEV, errno.EMLINK)
"""The errors by which a file system says that it has no hard links; FAT says EPERM."""


def open_new(path: str) -> int:
    """Create a file, which must not exist, and open it for writing."""
    return system.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def open_for_reading(path: str) -> int:
    """Open a file for reading."""
    return system.open_file(path, os.O_RDONLY)


def sync_file(fd: int) -> None:
    """Make the content of an open file durable, and on NFS visible to other machines."""
    os.fsync(fd)


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable, if the file system can."""
    _sync_folder(folder)


def link(source: str, target: str) -> None:
    """Give a file another name, which must not exist."""
    os.link(source, target)


def rename_folder(source: str, target: str) -> None:
    """Rename a folder; fails if there is a file, or a folder that is not empty."""
    os.rename(source, target)


def replace(source: str, target: str) -> None:
    """Give a file the name of another at once."""
    system.replace(source, target)


def unlink(path: str) -> None:
    """Remove a name of a file."""
    os.unlink(path)


def revisit(folder: str) -> None:
    """Open a folder, upon which NFS asks the server whether its cache of names is current."""
    with os.scandir(folder):
        pass
