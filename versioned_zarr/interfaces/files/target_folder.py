"""The target folder of an export: each file appears whole, and no link is followed.

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
"""How files begin that are not whole; what tells the process that writes them follows."""
_IS_LINK: Final = "an export never follows symbolic links; remove it, or choose another folder"


class TargetFolder:
    """A folder that is made if it is not there. Threads may share it. A context manager.

    Args:
        path: where it is; a symbolic link is followed.

    Raises:
        OSError: it cannot be made or opened.
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

        Removes what an export was writing when it was killed.

        Raises:
            AlreadyExistsError: a symbolic link is among them.
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
        """The content of a file if it is there and has this size."""
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
        """Put a file in its place, whole, in place of what is there.

        Raises:
            AlreadyExistsError: a symbolic link lies on the way.
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

    @contextmanager
    def _above(self, path: str, *, make: bool) -> Iterator[tuple[OpenFolder, str]]:
        """Open the folder that a path lies in, and give the last part of the path."""
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
        """Raise the error that says so if a symbolic link lies on the way to a path."""
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
    """Make sure that there is room where a folder is, or will be.

    Raises:
        StorageFullError: there is not.
    """
    there = os.path.abspath(path)
    while not os.path.exists(there) and there != os.path.dirname(there):
        there = os.path.dirname(there)
    disk = shutil.disk_usage(there)
    if disk.total and size_bytes > disk.free:  # some file systems do not tell
        raise StorageFullError(
            f"cannot write {size_bytes:,} bytes to {path!r}, where {disk.free:,} bytes are "
            f"free; free some space, or write anyway with max_bytes={size_bytes}",
            where=path,
        )


def _remove_if_left(name: str, folder: OpenFolder) -> None:
    """Remove a file that an export was writing when it was killed."""
    writer = name.removeprefix(_TEMPORARY).rpartition("-")[0]
    if process_identity.is_known_dead(writer.replace("-", ":")) or _has_no_process(writer):
        folder.remove(name)


def _has_no_process(number: str) -> bool:
    """Whether a number, which is all that early versions wrote, is that of no process."""
    try:
        return is_no_process(int(number))
    except ValueError:
        return False
