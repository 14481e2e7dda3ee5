"""The target folder of an export: files are written atomically, and no link is followed.

Anyone who can write to the folder could place a symbolic link there to redirect an export. So
folders and files in it are opened one by one, relative to the folder's descriptor, and never
through a link. The folder itself may be a link.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, Self

from versioned_zarr import process_identity
from versioned_zarr.errors import AlreadyExistsError, StorageFullError

_TEMPORARY: Final = ".vz-export-"
"""The prefix of incomplete files; the identity of the writing process follows."""
_IS_LINK: Final = "an export never follows symbolic links; remove it, or choose another folder"
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TargetFolder:
    """A folder that is created if it does not exist. Thread-safe. A context manager.

    Args:
        path: its path; a symbolic link is followed.

    Raises:
        OSError: it cannot be created or opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(path, exist_ok=True)
        self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the files in it by their paths, with their sizes in bytes.

        Removes files left incomplete by a killed export.

        Raises:
            AlreadyExistsError: it contains a symbolic link.
        """
        return self._files(os.dup(self._folder), "")

    def _files(self, folder: int, start: str) -> Iterator[tuple[str, int]]:
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    path = start + entry.name
                    if entry.is_symlink():
                        raise self._link_at(path)
                    if entry.is_dir(follow_symlinks=False):
                        below = os.open(entry.name, _FOLDER, dir_fd=folder)
                        yield from self._files(below, f"{path}/")
                    elif entry.name.startswith(_TEMPORARY):
                        _remove_if_left(entry.name, folder)
                    else:
                        yield path, entry.stat(follow_symlinks=False).st_size
        finally:
            os.close(folder)

    def read(self, path: str, size_bytes: int) -> bytes | None:
        """The content of a file if it exists and has this size."""
        try:
            with self._above(path, make=False) as (folder, name):
                file = os.open(name, _READ, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError:
            self._refuse_links(path)
            raise
        with os.fdopen(file, "rb") as opened:
            state = os.fstat(file)
            if not stat.S_ISREG(state.st_mode) or state.st_size != size_bytes:
                return None
            return opened.read()

    def write(self, path: str, pieces: Iterable[memoryview]) -> None:
        """Write a file atomically, replacing any existing one.

        Raises:
            AlreadyExistsError: a part of the path is a symbolic link.
            OSError: it cannot be written.
        """
        writer = process_identity.current().replace(":", "-")
        temporary = f"{_TEMPORARY}{writer}-{secrets.token_hex(8)}"
        with self._above(path, make=True) as (folder, name):
            try:
                file = os.open(temporary, _WRITE, 0o666, dir_fd=folder)
                with os.fdopen(file, "wb") as opened:
                    opened.writelines(pieces)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    @contextmanager
    def _above(self, path: str, *, make: bool) -> Iterator[tuple[int, str]]:
        """Open the parent folder of a path; also returns the last part of the path."""
        *folders, name = path.split("/")
        folder = os.dup(self._folder)
        try:
            for part in folders:
                try:
                    below = _open_folder(part, folder, make=make)
                except OSError:
                    self._refuse_links(path)
                    raise
                os.close(folder)
                folder = below
            yield folder, name
        finally:
            os.close(folder)

    def _refuse_links(self, path: str) -> None:
        """Raise an error if a part of the path is a symbolic link."""
        parts = path.split("/")
        for end in range(1, len(parts) + 1):
            there = "/".join(parts[:end])
            if os.path.islink(os.path.join(self.path, there)):
                raise self._link_at(there)

    def _link_at(self, path: str) -> AlreadyExistsError:
        return AlreadyExistsError(
            f"{self.path!r} contains the symbolic link {path!r}; {_IS_LINK}", name=self.path
        )


def check_free(path: str, size_bytes: int) -> None:
    """Make sure that there is enough space at the path of a folder.

    Raises:
        StorageFullError: there is not enough.
    """
    there = os.path.abspath(path)
    while not os.path.exists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    state = os.statvfs(there)
    free_bytes = state.f_bavail * state.f_frsize
    if state.f_blocks and size_bytes > free_bytes:  # unknown on some file systems
        raise StorageFullError(
            f"cannot write {size_bytes:,} bytes to {path!r}, where {free_bytes:,} bytes are "
            f"free; free some space, or write anyway with max_bytes={size_bytes}",
            where=path,
        )


def _open_folder(name: str, above: int, *, make: bool) -> int:
    with suppress(FileNotFoundError):
        return os.open(name, _FOLDER, dir_fd=above)
    if make:
        with suppress(FileExistsError):  # another thread created it
            os.mkdir(name, dir_fd=above)
    return os.open(name, _FOLDER, dir_fd=above)


def _remove_if_left(name: str, folder: int) -> None:
    """Remove a file left incomplete by a killed export."""
    writer = name.removeprefix(_TEMPORARY).rpartition("-")[0]
    if process_identity.is_known_dead(writer.replace("-", ":")) or _has_no_process(writer):
        os.unlink(name, dir_fd=folder)


def _has_no_process(number: str) -> bool:
    """Whether a process ID, the only thing that early versions recorded, is unused."""
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (ValueError, OverflowError, OSError):
        return False
    return False
