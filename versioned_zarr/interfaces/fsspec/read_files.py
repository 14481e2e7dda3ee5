"""Reads files of a snapshot or session for fsspec: listings, sizes, times.

A folder exists while it contains something. A path is used as a key unchanged. In a pattern, a part
that exists under exactly that name means that name.
"""

from __future__ import annotations

import glob
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import has_magic
from fsspec.utils import stringify_path

from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.errors import KeyNotFoundError, NotFoundError, StorageError
from versioned_zarr.interfaces.fsspec import branch_urls
from versioned_zarr.interfaces.fsspec.bulk_paths import pairs
from versioned_zarr.interfaces.fsspec.opened_files import OpenedValue
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import FoundValue, Snapshot

EPOCH = datetime.fromtimestamp(0, UTC)
"""The time of a tree without a commit: unknown, and constant."""


class _PathOf:
    """`_strip_protocol`: on the class, accepts any URL; on an instance, only URLs of its ref."""

    def __get__(self, files: ReadFiles | None, _kind: object) -> Callable[[Any], Any]:
        return partial(_path_of, files)


def _path_of(files: ReadFiles | None, path: Any) -> Any:
    if isinstance(path, (list, tuple, set)):
        return [_path_of(files, each) for each in path]
    text = str(stringify_path(path))
    if not branch_urls.is_url(text):
        return text.strip("/")
    url = branch_urls.read(text)
    if files is not None:
        files.check_is_own(url)
    return url.path


class ReadFiles(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """The reading half of the file system; a subclass provides the data and its version."""

    protocol = "vzarr"
    root_marker = ""
    _strip_protocol = _PathOf()

    @property
    @abstractmethod
    def view(self) -> Snapshot | Session:
        """The data to read."""

    @abstractmethod
    def check_is_own(self, url: branch_urls.BranchUrl) -> None:
        """Make sure that a URL refers to this ref of this repository.

        Raises:
            InvalidUrlError: it refers to another.
        """

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Distinguish damaged or missing data from a path that does not exist.

        The errors for a missing block or ref are also a FileNotFoundError, which callers would
        treat as a path that was never written: zarr would read fill values.
        """
        try:
            yield
        except KeyNotFoundError:
            raise
        except NotFoundError as error:
            raise StorageError(str(error), where=self.view_name) from error

    @property
    def view_name(self) -> str:
        """The name of the data in errors."""
        return str(self.protocol)

    # Existence

    def find_value(self, path: str) -> tuple[Snapshot | Session, FoundValue | None]:
        """The data, and the value at a path in it, if there is one."""
        key = self._strip_protocol(path)
        with self.failures():
            view = self.view
            return view, view._find(key) if key else None

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """See fsspec; `cid` is that of a value."""
        key = self._strip_protocol(path)
        view, found = self.find_value(key)
        with self.failures():
            if found is not None:
                return _details(key, _size_of(view, found), found)
            if key and view.is_empty(key):
                raise FileNotFoundError(path)
        return {"name": key, "size": 0, "type": "directory"}

    def exists(self, path: str, **_: Any) -> bool:
        """See fsspec; a failure raises an error, and does not count as a missing path."""
        return self._type_of(path) is not None

    def isfile(self, path: str) -> bool:
        """See fsspec; like `exists`."""
        return self._type_of(path) == "file"

    def isdir(self, path: str) -> bool:
        """See fsspec; like `exists`."""
        return self._type_of(path) == "directory"

    def _type_of(self, path: str) -> str | None:
        key = self._strip_protocol(path)
        view, found = self.find_value(key)
        if found is not None:
            return "file"
        with self.failures():
            return None if key and view.is_empty(key) else "directory"

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """See fsspec."""
        key = self._strip_protocol(path)
        own = self.info(key)
        if own["type"] == "file":
            return [own] if detail else [key]
        with self.failures():
            names = [f"{key}/{name}".lstrip("/") for name in self.view.list_dir(key)]
        return self._infos(names) if detail else names

    def _infos(self, names: list[str]) -> list[dict[str, Any]]:
        """The info of these names, if they still exist: others write to sessions."""
        infos = []
        for name in names:
            try:
                infos.append(self.info(name))
            except FileNotFoundError:
                continue
        return infos

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = "omit",
        **options: Any,
    ) -> Iterator[Any]:
        """See fsspec; silently omits only missing folders, and no other errors."""
        on_error = _omit_if_gone if on_error == "omit" else on_error
        yield from super().walk(path, maxdepth, topdown, on_error, **options)

    def expand_path(
        self, path: Any, recursive: bool = False, maxdepth: int | None = None, **_: Any
    ) -> list[str]:
        """See fsspec; an existing path with exactly this name is not a pattern."""
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        found: set[str] = set()
        for key in self._strip_protocol(_listed(path)):
            pattern = self._pattern_of(key)
            if pattern is None:
                found |= self._expanded(key, recursive, maxdepth)
                continue
            met = self.glob(pattern, maxdepth=maxdepth)
            found.update(met)
            if recursive and (maxdepth is None or maxdepth > 1):
                below = None if maxdepth is None else maxdepth - 1
                found.update(*(self._expanded(each, recursive, below) for each in met))
        if not found:
            raise FileNotFoundError(path)
        return sorted(found)

    def _expanded(self, key: str, recursive: bool, maxdepth: int | None) -> set[str]:
        if not recursive:
            return {key}
        found = set(self.find(key, maxdepth=maxdepth, withdirs=True))
        return found | {key} if found or self.exists(key) else found

    def _pattern_of(self, key: str) -> str | None:
        """A path as a pattern for `glob`; None if it is not one.

        Leading parts that exist under exactly that name are not patterns.
        """
        parts, start = key.split("/"), 0
        for end in range(1, len(parts) + 1):
            if has_magic(parts[end - 1]) and self.exists("/".join(parts[:end])):
                start = end
        if not has_magic("/".join(parts[start:])):
            return None
        return "/".join([*map(glob.escape, parts[:start]), *parts[start:]])

    # Values

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """See fsspec; a range reads only that range."""
        view, found = self.find_value(path)
        if found is None:
            raise FileNotFoundError(path)
        with self.failures():
            low, high, _step = slice(start, end).indices(_size_of(view, found))
            return _bytes_of(view, found, low, max(low, high))

    def ukey(self, path: str) -> str:
        """The CID of a value."""
        info = self.info(path)
        if info["type"] != "file":
            raise FileNotFoundError(path)
        return str(info["cid"])

    def checksum(self, path: str) -> str:
        """See `ukey`."""
        return self.ukey(path)

    def open_value(self, path: str, block_size: int | None, options: dict[str, Any]) -> OpenedValue:
        """A value opened for reading; it does not change when it is overwritten.

        In a snapshot, ranges are read on demand. A value in a session may disappear when the
        session ends, so it is read completely.
        """
        key = self._strip_protocol(path)
        view, found = self.find_value(key)
        if found is None:
            raise FileNotFoundError(path)
        with self.failures():
            size = _size_of(view, found)
            details = _details(key, size, found)
            data = _bytes_of(view, found, 0, size) if isinstance(view, Session) else None

        def fetch(start: int, end: int) -> bytes:
            if data is not None:
                return data[start:end]
            with self.failures():
                return _bytes_of(view, found, start, end)

        return OpenedValue(self, key, details, fetch, block_size=block_size, **options)

    def get(self, rpath: Any, lpath: Any, recursive: bool = False, **options: Any) -> None:
        """See fsspec; laid out as in the local and memory file systems, also for the root."""
        maxdepth = options.pop("maxdepth", None)
        if isinstance(rpath, str) and isinstance(lpath, str):
            found = pairs(self, rpath, lpath, recursive=recursive, maxdepth=maxdepth, is_local=True)
            rpath, lpath = [source for source, _ in found], [target for _, target in found]
        super().get(rpath, lpath, recursive=recursive, maxdepth=maxdepth, **options)

    # Times

    def created(self, path: str) -> datetime:
        """The time when a path was created: that of the commit, or the beginning of the session.

        For a tree that was checked out by its CID, without a commit, it is the epoch.
        """
        view, found = self._data_and_value(path)
        return _began(view) if isinstance(found, PendingWrite) else _time_of(view)

    def modified(self, path: str) -> datetime:
        """The time when a path was changed: that of the commit, or of the session's last write.

        For a tree that was checked out by its CID, without a commit, it is the epoch.
        """
        view, found = self._data_and_value(path)
        if not isinstance(found, PendingWrite):
            return _time_of(view)
        info = view.repository.sessions.get(view.id)
        return _began(view) if info is None else info.last_write

    def _data_and_value(self, path: str) -> tuple[Any, FoundValue | None]:
        """The data, and the value at a path.

        Raises:
            FileNotFoundError: there is no value.
        """
        view, found = self.find_value(path)
        if found is None and not self.exists(path):
            raise FileNotFoundError(path)
        return view, found


def _listed(path: Any) -> list[Any]:
    return list(path) if isinstance(path, (list, tuple, set)) else [path]


def _omit_if_gone(error: Exception) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _details(key: str, size_bytes: int, found: FoundValue) -> dict[str, Any]:
    return {"name": key, "size": size_bytes, "type": "file", "cid": to_text(found.cid)}


def _size_of(view: Any, found: FoundValue) -> int:
    return int(view._size_of(found))


def _bytes_of(view: Any, found: FoundValue, start: int, end: int) -> bytes:
    return bytes(view._read_found(found, start, end))


def _began(session: Session) -> datetime:
    return session._working.head.started


def _time_of(view: Snapshot | Session) -> datetime:
    commit = view.base if isinstance(view, Session) else view.commit
    return EPOCH if commit is None else commit.time
