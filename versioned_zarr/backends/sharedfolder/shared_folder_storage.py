"""Shared folder storage: a folder that several machines mount, as a `ConditionalStore`.

Exclusive creation is decided by the server, and no lock, append or map is used. What network file
systems remember of names may be old; docs/design/shared-folders.md says what is done about that.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from versioned_zarr.backends.local.file_io import naming_failures
from versioned_zarr.backends.sharedfolder import folder_calls
from versioned_zarr.backends.sharedfolder.open_files import OpenFiles, read_once
from versioned_zarr.backends.sharedfolder.whole_files import (
    INNER,
    TEMPORARY,
    create_by_link,
    create_in_folder,
    link_whole,
    remove_quietly,
    replace_whole,
    write_temporary,
)
from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.packs.pack_registry import PACKS
from versioned_zarr.errors import ReadOnlyError, StorageError
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.object_store import Bytes, Stored

_SWEEP_AGE_S: Final = 24 * 3600
_IS_GONE: Final = (errno.ENOENT, errno.ESTALE)
"""The errors for a file that is missing, or that another machine has just replaced."""
_IS_FOLDER: Final = (errno.EISDIR, errno.EACCES, errno.EPERM)
"""The errors of opening a folder for reading; Windows denies it."""


class SharedFolderStorage:
    """See the module. Thread-safe; also in forked children.

    Args:
        folder: the path; subfolders are created on demand.
        url: the URL for errors and the repository.
    """

    can_list = True

    def __init__(self, folder: str | os.PathLike[str], url: str) -> None:
        self.folder, self.url = os.path.abspath(folder), url
        self._open = OpenFiles()
        self._has_links = True

    def __repr__(self) -> str:
        return f"SharedFolderStorage({self.folder!r})"

    def check_process(self) -> None:
        """See `ConditionalStore.check_process`: any process may use it."""

    # Reading

    def view(self, path: str) -> memoryview | None:
        """See `ObjectStore.view`: there is none."""
        del path
        return None

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `ObjectStore.read`; a file that seems missing is looked for in a fresh folder."""
        full = self._path(path)
        with self._naming(full):
            try:
                return self._read(path, full, start, end)
            except OSError as error:
                if error.errno not in _IS_GONE:
                    raise
                self._revisit(os.path.dirname(full))
                return self._read(path, full, start, end)

    def _read(self, path: str, full: str, start: int, end: int | None) -> memoryview:
        # Packs are never changed, unlike records; and many ranges of them are read.
        is_kept = path.startswith(f"{PACKS}/")
        read = self._open.read if is_kept else read_once
        try:
            return memoryview(read(full, start, end))
        except OSError as error:
            if error.errno not in _IS_FOLDER or not os.path.isdir(full):
                raise
            return memoryview(read_once(os.path.join(full, INNER), start, end))

    def _revisit(self, folder: str) -> None:
        """Let the system look at a folder afresh, and at those above it, if that one is missing.

        NFS answers from memory that a name is missing, until the folder is opened.
        """
        try:
            folder_calls.revisit(folder)
        except FileNotFoundError:
            if len(folder) > len(self.folder):
                self._revisit(os.path.dirname(folder))
                with contextlib.suppress(FileNotFoundError):
                    folder_calls.revisit(folder)

    # Listing

    def list(self, prefix: str) -> list[Stored]:
        """See `ObjectStore.list`; omits temporary files."""
        return sorted(self._below(prefix, self._path(prefix)))

    def _below(self, prefix: str, root: str) -> Iterator[Stored]:
        pending = [(prefix, root)]
        while pending:
            name, folder = pending.pop()
            start = f"{name}/" if name else ""
            for entry in self._entries(folder):
                path = name if entry.name == INNER else start + entry.name
                if entry.name[0] == "." and entry.name != INNER:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((path, entry.path))
                elif found := self._stored(path):
                    yield found

    def _entries(self, folder: str) -> Sequence[os.DirEntry[str]]:
        """What is in a folder; nothing if it does not exist."""
        with self._naming(folder):
            try:
                with os.scandir(folder) as found:
                    return [*found]
            except FileNotFoundError:
                return []

    def first(
        self, prefix: str, counts: Callable[[str], bool] = lambda path: True
    ) -> Stored | None:
        """See `ConditionalStore.first`; reads all names in the folder, and asks about one."""
        start = f"{prefix}/" if prefix else ""
        root = self._path(prefix)
        names = (entry.name for entry in self._entries(root) if entry.name[0] != ".")
        for path in sorted(start + name for name in names):
            if counts(path) and (found := self._stored(path)):
                return found
        return min(self._below(prefix, root), default=None)

    def named(self, folder: str, beginning: str) -> Sequence[Stored]:
        """See `ConditionalStore.named`."""
        names = sorted(entry.name for entry in self._entries(self._path(folder)))
        found = (self._stored(f"{folder}/{name}") for name in names if name.startswith(beginning))
        return [stored for stored in found if stored is not None]

    def _stored(self, path: str) -> Stored | None:
        """The object at a path; None if it is a folder, or was deleted."""
        full = self._path(path)
        with naming_failures(full):
            for each in (full, os.path.join(full, INNER)):
                try:
                    status = os.stat(each)
                except (FileNotFoundError, NotADirectoryError):
                    return None
                if not os.path.isdir(each):
                    return Stored(path, status.st_size, status.st_mtime)
        return None

    def folders(self, prefix: str) -> Sequence[str]:
        """See `ConditionalStore.folders`."""
        return sorted(
            entry.name
            for entry in self._entries(self._path(prefix))
            if entry.name[0] != "." and entry.is_dir(follow_symlinks=False)
        )

    def renew(self, prefix: str) -> bool:
        """See `ConditionalStore.renew`: creates a file in the folder and removes it.

        A machine forgets what it remembers of a folder in which it has changed a name itself.
        Opening the folder is not enough on servers whose times are coarse: two changes within a
        tick look like one.
        """
        self._server_time_s(prefix)
        return True

    def _server_time_s(self, prefix: str) -> float:
        """The time by the clock that sets the times of files."""
        target = os.path.join(self._path(prefix), "renewed")
        with naming_failures(target, is_made=True):
            path = write_temporary(target, [], self.folder, durable=False)
            try:
                return os.stat(path).st_mtime
            finally:
                remove_quietly(path)

    # Writing

    def create(self, path: str, data: bytes) -> None:
        """See `ConditionalStore.create`; it is durable."""
        full = self._path(path)
        is_taken = False
        with naming_failures(full, is_made=True):
            try:
                self._create(full, data)
            except FileExistsError:
                is_taken = True
            # Also if it exists: it may be ours, and its name not be durable yet.
            folder_calls.sync_folder(os.path.dirname(full))
        if is_taken:
            raise FileExistsError(path)

    def _create(self, full: str, data: bytes) -> None:
        if self._has_links:
            try:
                create_by_link(full, data, self.folder)
            except OSError as error:
                if error.errno not in folder_calls.NO_LINKS:
                    raise
                self._has_links = False
        if not self._has_links:
            create_in_folder(full, data, self.folder)

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """See `ObjectStore.put`: a temporary file, fsync, rename, fsync of the folder."""
        full = self._path(path)
        with naming_failures(full, is_made=True):
            replace_whole(full, parts, self.folder, durable=durable)
        self._open.forget(full)

    def take(self, path: str, draft: PackWriter, root: Cid) -> bytes | None:
        """Let the file of a finished draft be a pack, durably; returns its tail.

        None if the draft is on another file system, or there are no links.
        """
        full = self._path(path)
        with naming_failures(full, is_made=True):
            return link_whole(full, lambda name: draft.link(name, root), self.folder)

    def delete(self, path: str, *, durable: bool = False) -> None:
        """See `ObjectStore.delete`."""
        full = self._path(path)
        self._open.forget(full)
        with naming_failures(full):
            try:
                self._delete(full)
            except FileNotFoundError:
                self._check_writable(os.path.dirname(full))
                return
            if durable:
                folder_calls.sync_folder(os.path.dirname(full))

    def _delete(self, full: str) -> None:
        try:
            folder_calls.unlink(full)
        except OSError:
            if not os.path.isdir(full):
                raise
            folder_calls.unlink(os.path.join(full, INNER))
            with contextlib.suppress(OSError):  # another one may be there already
                os.rmdir(full)

    def _check_writable(self, folder: str) -> None:
        """Check that names in a folder may be removed.

        Raises:
            ReadOnlyError: they may not.
        """
        while not os.path.isdir(folder) and len(folder) > len(self.folder):
            folder = os.path.dirname(folder)
        if not os.access(folder, os.W_OK):
            raise ReadOnlyError(
                f"no permission for {folder!r}: nothing can be deleted there; check who owns the "
                "folder and how it is mounted",
                url=folder,
            )

    def sweep(self) -> None:
        """Remove the temporary files and folders that writers left more than a day ago.

        Who needs one of them after all gets an error, and nothing else happens.
        """
        limit_s = self._server_time_s("") - _SWEEP_AGE_S
        for folder, folders, names in os.walk(self.folder, topdown=False):
            for name in (*names, *folders):
                if TEMPORARY.fullmatch(name):
                    self._sweep_one(os.path.join(folder, name), limit_s)

    def _sweep_one(self, path: str, limit_s: float) -> None:
        with contextlib.suppress(OSError):
            if os.stat(path).st_mtime < limit_s:
                if os.path.isdir(path):
                    remove_quietly(os.path.join(path, INNER))
                    os.rmdir(path)
                else:
                    remove_quietly(path)

    # Names and errors

    def _path(self, path: str) -> str:
        """The path of an object, which is below the folder.

        Raises:
            StorageError: it is not the path of one: a damaged record or index file names it.
        """
        parts = path.split("/") if path else []
        is_plain = all(part and part[0] != "." for part in parts)
        if not is_plain or any(each in path for each in ("\0", "\\", ":")):
            raise StorageError(f"{path!r} is no path of an object in {self.url!r}", where=self.url)
        return os.path.join(self.folder, *parts)

    @contextmanager
    def _naming(self, full: str) -> Iterator[None]:
        """Raise this package's errors; a stale handle that is not gone says what to do."""
        try:
            with naming_failures(full):
                yield
        except StorageError as error:
            if not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.ESTALE:
                raise
            raise StorageError(
                f"{full!r} failed: the server no longer knows this file or folder (stale handle); "
                "try again, and mount the file system again if that does not help",
                where=full,
            ) from error
