"""The target folder of an export: files are written atomically, and no link is followed.

Anyone who can write to the folder could place a symbolic link there to redirect an export. So
folders and files in it are opened one by one, relative to the folder that they lie in, and never
through a link. The folder itself may be a link.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final, Self

from versioned_zarr import process_identity
from versioned_zarr.errors import AlreadyExistsError, StorageFullError

if os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW"):
    from versioned_zarr.interfaces.files.descriptor_folder import DescriptorFolder as OpenFolder
    from versioned_zarr.interfaces.files.descriptor_folder import is_no_process, open_folder
else:
    from versioned_zarr.interfaces.files.path_folder import (  # type: ignore[assignment]
        PathFolder as OpenFolder,
    )
    from versioned_zarr.interfaces.files.path_folder import (  # type: ignore[assignment]
        is_no_process,
        open_folder,
    )

_TEMPORARY: Final = ".vz-export-"
"""The prefix of incomplete files; the identity of the writing process follows."""
_IS_LINK: Final = "an export never follows symbolic links; remove it, or choose another folder"


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
        self._folder = open_folder(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.close()

    def files(self) -> Iterator[tuple[str, int]]:
        """Yield the files in it by their paths, with their sizes in bytes.

        Removes files left incomplete by a killed export.

        Raises:
            AlreadyExistsError: it contains a symbolic link.
        """
        return self._files(self._folder.again(), "")

    def _files(self, folder: OpenFolder, start: str) -> Iterator[tuple[str, int]]:
        with closing(folder), closing(folder.entries()) as entries:
            for entry in entries:
                path = start + entry.name
                if entry.is_symlink():
                    raise self._link_at(path)
                if entry.is_dir(follow_symlinks=False):
                    yield from self._files(folder.folder(entry.name), f"{path}/")
                elif entry.name.startswith(_TEMPORARY):
                    _remove_if_left(entry.name, folder)
                else:
                    yield path, entry.stat(follow_symlinks=False).st_size

    def read(self, path: str, size_bytes: int) -> bytes | None:
        """The content of a file if it exists and has this size."""
        try:
            with self._above(path, make=False) as (folder, name):
                opened = folder.open_file(name)
        except FileNotFoundError:
            return None
        except OSError:
            self._refuse_links(path)
            raise
        with opened:
            state = os.fstat(opened.fileno())
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
                with folder.new_file(temporary) as opened:
                    opened.writelines(pieces)
                folder.replace(temporary, name)
            except BaseException:
                with suppress(FileNotFoundError):
                    folder.remove(temporary)
                raise

    def remove(self, path: str) -> None:
        """Remove a file, and the folders above it that are empty then.

        Raises:
            AlreadyExistsError: a part of the path is a symbolic link.
            OSError: it cannot be removed.
        """
        with self._above(path, make=False) as (folder, name):
            folder.remove(name)
        while "/" in path:
            path = path.rpartition("/")[0]
            try:
                with self._above(path, make=False) as (folder, name):
                    folder.remove_folder(name)
            except OSError:
                return  # it holds something else

    @contextmanager
    def _above(self, path: str, *, make: bool) -> Iterator[tuple[OpenFolder, str]]:
        """Open the parent folder of a path; also returns the last part of the path."""
        *folders, name = path.split("/")
        folder = self._folder.again()
        try:
            for part in folders:
                try:
                    below = folder.folder(part, make=make)
                except OSError:
                    self._refuse_links(path)
                    raise
                folder.close()
                folder = below
            yield folder, name
        finally:
            folder.close()

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
    disk = shutil.disk_usage(there)
    if disk.total and size_bytes > disk.free:  # unknown on some file systems
        raise StorageFullError(
            f"cannot write {size_bytes:,} bytes to {path!r}, where {disk.free:,} bytes are "
            f"free; free some space, or write anyway with max_bytes={size_bytes}",
            where=path,
        )


def _remove_if_left(name: str, folder: OpenFolder) -> None:
    """Remove a file left incomplete by a killed export."""
    writer = name.removeprefix(_TEMPORARY).rpartition("-")[0]
    if process_identity.is_known_dead(writer.replace("-", ":")) or _has_no_process(writer):
        folder.remove(name)


def _has_no_process(number: str) -> bool:
    """Whether a process ID, the only thing that early versions recorded, is unused."""
    try:
        return is_no_process(int(number))
    except ValueError:
        return False
