"""An open folder where the system opens nothing relative to a folder, as on Windows: its path.

`descriptor_folder` documents what each method does. Links are looked for before something is
opened, so whoever can write to the folder can put one there in between.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Generator
from contextlib import suppress
from typing import BinaryIO, Final

# See https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_NO_NAME: Final = re.compile(
    r'.*[\x00-\x1f<>:"/\\|?*].*|.*[. ]|'
    r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9\xb9\xb2\xb3])\s*(?:\..*)?",
    re.DOTALL | re.IGNORECASE,
)


class PathFolder:
    """See `descriptor_folder.DescriptorFolder`.

    Args:
        path: where it is.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def again(self) -> PathFolder:
        """See `descriptor_folder.DescriptorFolder.again`."""
        return self

    def close(self) -> None:
        """See `descriptor_folder.DescriptorFolder.close`."""

    def entries(self) -> Generator[os.DirEntry[str]]:
        """See `descriptor_folder.DescriptorFolder.entries`."""
        with os.scandir(self._path) as entries:
            yield from entries

    def folder(self, name: str, *, make: bool = False) -> PathFolder:
        """See `descriptor_folder.DescriptorFolder.folder`."""
        path = self._unlinked(name)
        if make:
            with suppress(FileExistsError):
                os.mkdir(path)
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return PathFolder(path)

    def open_file(self, name: str) -> BinaryIO:
        """See `descriptor_folder.DescriptorFolder.open_file`."""
        path = self._unlinked(name)
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would wait for a writer
            raise OSError(errno.EINVAL, "no regular file", path)
        return open(path, "rb")

    def new_file(self, name: str) -> BinaryIO:
        """See `descriptor_folder.DescriptorFolder.new_file`."""
        return open(self._below(name), "xb")

    def replace(self, name: str, to: str) -> None:
        """See `descriptor_folder.DescriptorFolder.replace`."""
        os.replace(self._below(name), self._below(to))

    def remove(self, name: str) -> None:
        """See `descriptor_folder.DescriptorFolder.remove`."""
        os.unlink(self._below(name))

    def remove_folder(self, name: str) -> None:
        """See `descriptor_folder.DescriptorFolder.remove_folder`."""
        os.rmdir(self._unlinked(name))

    def _below(self, name: str) -> str:
        """The path of what has a name in this folder, and nowhere else."""
        if _NO_NAME.fullmatch(name):
            raise OSError(errno.EINVAL, "no name of a file here", name)
        return os.path.join(self._path, name)

    def _unlinked(self, name: str) -> str:
        """The path of what is no link."""
        path = self._below(name)
        is_junction = getattr(os.path, "isjunction", os.path.islink)  # from Python 3.12 on
        if os.path.islink(path) or is_junction(path):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return path


def open_folder(path: str) -> PathFolder:
    """See `descriptor_folder.open_folder`."""
    return PathFolder(os.path.realpath(path))


def is_no_process(number: int) -> bool:
    """See `descriptor_folder.is_no_process`: nobody can know; `os.kill` would kill it."""
    del number
    return False
