"""Local storage: a folder as a `Storage`, by file locks, appends and atomic renames.

It relies on these properties of local file systems on Linux and macOS: appends to a file opened
with O_APPEND do not interleave; a rename is atomic; `flock` ends with the process that holds it; a
mapped file remains readable after its name is removed. Network file systems do not guarantee all of
them. `system` is all that it asks of the operating system; `windows` says what differs there.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path

from versioned_zarr.backends.local import system
from versioned_zarr.backends.local.append_log import LocalAppendLog
from versioned_zarr.backends.local.file_io import (
    cannot_map,
    lock_file,
    make_folder,
    map_file,
    named,
    naming_failures,
    sync_folder,
    write_all,
)
from versioned_zarr.backends.local.staged_pack import LocalStagedPack
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.storage.protocol import AppendLog, Bytes, StagedPack, Stored

_MAPPED_FILES = 512
_SWEEP_AGE_S = 24 * 3600
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}", re.DOTALL)
"""The suffix of incomplete files of `put`."""


class LocalStorage:
    """A folder of the local file system. Subfolders are created on demand.

    Args:
        folder: the path.
        url: the URL for errors and the repository; by default that of the folder.
    """

    def __init__(self, folder: str | os.PathLike[str], url: str | None = None) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.url = self.folder.as_uri() if url is None else url
        self._root = os.path.join(self.folder, "")
        self._maps: dict[str, memoryview] = {}
        self._guard = ForkSafeLock()

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.folder)!r})"

    def _path(self, path: str) -> Path:
        return self.folder / path

    def view(self, path: str) -> memoryview | None:
        """See `Storage.view`: the file mapped read-only, if the file system supports it."""
        found = self._maps.get(path)
        if found is not None:
            return found
        with naming_failures(self._path(path)):
            fd = system.open_file(self._path(path), os.O_RDONLY)
            try:
                mapped = map_file(fd, os.fstat(fd).st_size)
            except OSError as error:
                if not cannot_map(error):
                    raise
                return None
            finally:
                os.close(fd)
        self._keep(path, mapped)
        return mapped

    def _keep(self, path: str, mapped: memoryview) -> None:
        with self._guard:
            self._maps[path] = mapped
            if len(self._maps) > _MAPPED_FILES:
                del self._maps[next(iter(self._maps))]

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `Storage.read`; never from a map, because logs and refs grow."""
        full_path = f"{self._root}{path}"
        with naming_failures(full_path):
            fd = system.open_file(full_path, os.O_RDONLY)
            try:
                size = os.fstat(fd).st_size if end is None else end
                start = max(0, size + start) if start < 0 else start
                return memoryview(system.read_at(fd, max(0, size - start), start))
            finally:
                os.close(fd)

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """See `Storage.put`: a temporary file, fsync, rename, fsync of the folder."""
        target = self._path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with naming_failures(target, is_made=True):
            make_folder(target.parent)
            try:
                fd = system.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                try:
                    write_all(fd, parts, 0)
                    if durable:
                        os.fsync(fd)
                finally:
                    os.close(fd)
                system.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            if durable:
                sync_folder(target.parent)
        self._forget(path)

    def list(self, prefix: str) -> list[Stored]:
        """See `Storage.list`; omits the temporary files of `put`."""
        root = self._path(prefix)
        found: list[Stored] = []
        with naming_failures(root):
            folders = [(prefix, root)]
            while folders:
                name, folder = folders.pop()
                try:
                    entries = list(os.scandir(folder))
                except FileNotFoundError:
                    continue
                start = f"{name}/" if name else ""
                for entry in entries:
                    path = start + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((path, folder / entry.name))
                    elif entry.name[0] != ".":
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat()
                            found.append(Stored(path, status.st_size, status.st_mtime))
        return sorted(found)

    def delete(self, path: str, *, durable: bool = False) -> None:
        """See `Storage.delete`."""
        target = self._path(path)
        with naming_failures(target), contextlib.suppress(FileNotFoundError):
            target.unlink()
            if durable:
                sync_folder(target.parent)
        self._forget(path)

    def move(self, path: str, to: str) -> None:
        """See `Storage.move`: one rename."""
        source, target = self._path(path), self._path(to)
        with naming_failures(source):
            make_folder(target.parent)
            system.rename(source, target)
            for folder in {source.parent, target.parent}:
                sync_folder(folder)
        self._forget(path)
        self._forget(to)

    def delete_folder(self, prefix: str) -> None:
        """See `Storage.delete_folder`."""
        with naming_failures(self._path(prefix)), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def sweep(self, folders: Iterable[str]) -> None:
        """See `Storage.sweep`: temporary files of `put`, and drafts of packs."""
        limit = time.time() - _SWEEP_AGE_S
        beside = itertools.islice(os.walk(self.folder), 1)
        below = (os.walk(self._path(folder)) for folder in folders)
        for folder, _, names in itertools.chain(beside, *below):
            for name in names:
                is_draft = name.endswith(".draft") and Path(folder).name == "packs"
                if _TEMPORARY.fullmatch(name) or is_draft:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        if path.stat().st_mtime < limit:
                            path.unlink()

    def stamp(self, prefix: str) -> object:
        """See `Storage.stamp`: the inode, time and size of the folder."""
        try:
            status = os.stat(f"{self._root}{prefix}")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise named(error, self._path(prefix)) from error
        return status.st_ino, status.st_mtime_ns, status.st_size

    def open_log(self, path: str, *, create: bool = False) -> AppendLog:
        """See `Storage.open_log`."""
        return LocalAppendLog(self._path(path), create)

    def open_draft(self, path: str) -> StagedPack:
        """See `Storage.open_draft`: the claim is an exclusive lock on the file."""
        target = self._path(path)
        with naming_failures(target, is_made=True):
            make_folder(target.parent)
            fd = system.open_file(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            draft = LocalStagedPack(self.folder, path, fd, self._keep)
            try:
                lock_file(fd, target, shared=False, wait=True)
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return draft

    def adopt_draft(self, path: str) -> StagedPack | None:
        """See `Storage.adopt_draft`."""
        target = self._path(path)
        with naming_failures(target):
            fd = system.open_file(target, os.O_RDWR)
            draft = LocalStagedPack(self.folder, path, fd, self._keep)
            return draft if lock_file(fd, target, shared=False, wait=False) else None

    def is_claimed(self, path: str) -> bool:
        """See `Storage.is_claimed`: by a shared lock, which needs no permission to write."""
        target = self._path(path)
        with naming_failures(target), FileIO(system.open_file(target, os.O_RDONLY)) as file:
            return not lock_file(file.fileno(), target, shared=True, wait=False)

    def read_draft(self, path: str) -> StagedPack:
        """See `Storage.read_draft`."""
        with naming_failures(self._path(path)):
            return LocalStagedPack(
                self.folder, path, system.open_file(self._path(path), os.O_RDONLY), self._keep
            )

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[bool]:
        """See `Storage.lock`: a lock on a separate file, so it also works between threads."""
        path = self.folder / "locks" / name
        # A FileIO is closed when it is garbage-collected, wherever an interrupt occurs.
        with naming_failures(path, is_made=True):
            try:
                file = FileIO(system.open_file(path, os.O_RDWR | os.O_CREAT))
            except FileNotFoundError:
                make_folder(path.parent)
                file = FileIO(system.open_file(path, os.O_RDWR | os.O_CREAT))
        with file:
            with naming_failures(path, is_made=True):
                is_held = lock_file(file.fileno(), path, shared=shared, wait=wait)
            yield is_held

    def _forget(self, path: str) -> None:
        with self._guard:
            self._maps.pop(path, None)
