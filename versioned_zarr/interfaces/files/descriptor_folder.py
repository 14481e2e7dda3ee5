"""An open folder on Linux and macOS: what lies in it is opened relative to its descriptor."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress
from typing import BinaryIO, Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


class DescriptorFolder:
    """A folder of which no link, put there at any time, leads out. Every name is a single part.

    Args:
        fd: its descriptor, which belongs to it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def again(self) -> DescriptorFolder:
        """The same folder, to be closed for itself."""
        return DescriptorFolder(os.dup(self._fd))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def entries(self) -> Generator[os.DirEntry[str]]:
        """Yield what lies in it."""
        with os.scandir(self._fd) as entries:
            yield from entries

    def folder(self, name: str, *, make: bool = False) -> DescriptorFolder:
        """Open a folder in it.

        Args:
            name: what it is called.
            make: make it if it is not there.

        Raises:
            OSError: it is a link, or no folder, or cannot be opened.
        """
        with suppress(FileNotFoundError):
            return self._folder(name)
        if make:
            with suppress(FileExistsError):  # another thread made it
                os.mkdir(name, dir_fd=self._fd)
        return self._folder(name)

    def _folder(self, name: str) -> DescriptorFolder:
        return DescriptorFolder(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=self._fd))

    def open_file(self, name: str) -> BinaryIO:
        """Open a file in it for reading, which may be no regular one.

        Raises:
            OSError: it is a link, or cannot be opened.
        """
        return os.fdopen(os.open(name, _READ, dir_fd=self._fd), "rb")

    def new_file(self, name: str) -> BinaryIO:
        """Make a file in it.

        Raises:
            OSError: something of this name is there, or it cannot be made.
        """
        return os.fdopen(os.open(name, _WRITE, 0o666, dir_fd=self._fd), "wb")

    def replace(self, name: str, to: str) -> None:
        """Give a file in it another name at once; what had that name is gone."""
        os.replace(name, to, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove a file in it."""
        os.unlink(name, dir_fd=self._fd)

    def remove_folder(self, name: str) -> None:
        """Remove an empty folder in it.

        Raises:
            OSError: it is not empty, or no folder.
        """
        os.rmdir(name, dir_fd=self._fd)


def open_folder(path: str) -> DescriptorFolder:
    """Open a folder; a symbolic link is followed."""
    return DescriptorFolder(os.open(path, _FOLDER))


def is_no_process(number: int) -> bool:
    """Whether there is no process of this number."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except (OverflowError, OSError):
        return False
    return False
