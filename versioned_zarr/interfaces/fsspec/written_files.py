"""Written files: puts, deletes and moves of fsspec in a session."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from contextlib import suppress
from typing import Any, NamedTuple

from versioned_zarr.errors import InvalidInputError, InvalidKeyError, SessionClosedError
from versioned_zarr.interfaces.fsspec import opened_files
from versioned_zarr.interfaces.fsspec.bulk_paths import pairs, whole_folder
from versioned_zarr.interfaces.fsspec.read_files import ReadFiles
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.node_moves import relink
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import FoundValue
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.keys import check_key

_TEXT = ("encoding", "errors", "newline")


class _Move(NamedTuple):
    """A value to move: the snapshot or session it is in, the value, and its old and new paths."""

    view: Any
    value: FoundValue
    source: str
    target: str


class WrittenFiles(ReadFiles):
    """The writing half of the file system; a subclass provides the session."""

    @property
    @abstractmethod
    def session(self) -> Session:
        """The session for writes; opened on first use."""

    # Values

    def pipe_file(self, path: str, value: Bytes, mode: str = "overwrite", **_: Any) -> None:
        """See fsspec."""
        key = self._strip_protocol(path)
        if mode == "create" and self.exists(key):
            raise FileExistsError(path)
        try:
            self.session.write(key, bytes(value))
        except SessionClosedError:  # there was a commit in between
            self.session.write(key, bytes(value))

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **options: Any,
    ) -> Any:
        """See fsspec; if an exception ends the block, the writes are discarded, including text."""
        if "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **options)
        of_text = {name: options.pop(name) for name in _TEXT if name in options}
        in_bytes = mode if "b" in mode else f"{mode.replace('t', '')}b"
        value = super().open(path, in_bytes, block_size, cache_options, **options)
        file = value if compression is None else opened_files.compressed(value, compression)
        return file if "b" in mode else opened_files.text(file, value, **of_text)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        **options: Any,
    ) -> Any:
        if mode == "rb":
            known = {k: v for k, v in options.items() if k in ("cache_type", "cache_options")}
            return self.open_value(path, block_size, known)
        if mode not in ("wb", "xb"):
            raise ValueError(f"mode must be 'rb', 'wb' or 'xb', not {mode!r}")
        if mode == "xb" and self.exists(path):
            raise FileExistsError(path)
        return opened_files.WrittenValue(
            self,
            self._strip_protocol(path),
            mode,
            blocksize=block_size if isinstance(block_size, int) else self.blocksize,
            autocommit=autocommit or self._intrans,  # a transaction commits the session itself
        )

    def rm_file(self, path: str) -> None:
        """See fsspec."""
        with self.failures():
            is_gone = self.session.delete(self._strip_protocol(path))
        if not is_gone:
            raise FileNotFoundError(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """See fsspec; a folder is deleted at once. Nothing is deleted unless everything can be.

        Raises:
            FileNotFoundError: a path does not exist, or no path matches the pattern.
            IsADirectoryError: it is a folder, and `recursive` is false.
        """
        found = self.expand_path(path, recursive and maxdepth is not None, maxdepth)
        infos = [self.info(each) for each in found]
        folders = [info["name"] for info in infos if info["type"] == "directory"]
        if folders and not recursive:
            raise IsADirectoryError(f"{folders[0]!r} is a folder; pass recursive=True")
        with self.failures():
            for info in infos:
                if info["type"] == "file":
                    self.session.delete(info["name"])
                elif maxdepth is None:
                    self.session.clear(info["name"])

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Does nothing: a folder exists if it contains something."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """See `mkdir`."""

    # Copying and moving

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """See fsspec; folders are not copied by themselves. A committed value is not read."""
        if self.info(path1)["type"] == "file":
            self._put_moved(self._move(path1, path2))

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **_: Any,
    ) -> None:
        """See fsspec; laid out as in the local and memory file systems, also for the root.

        A folder that is copied to where nothing is costs the same however much is in it.
        """
        known = self.session._working.position()
        whole = whole_folder(self, path1, path2) if recursive and maxdepth is None else None
        if whole is not None:
            with self.failures():
                relink(self.session, *whole, known)
            return
        for source, target in pairs(self, path1, path2, recursive=recursive, maxdepth=maxdepth):
            try:
                self.cp_file(source, target)
            except FileNotFoundError:
                if not (on_error == "ignore" or (on_error is None and recursive)):
                    raise
                if self.exists(source):  # the source is not what is missing
                    raise

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **_: Any,
    ) -> None:
        """See fsspec. All values are found before the first one moves, and none is lost.

        A value that is moved to its own path, in any spelling, is unchanged. A folder that is moved
        to where nothing is costs the same however much is in it.

        Raises:
            FileNotFoundError: a source does not exist.
            IsADirectoryError: it is a folder, and `recursive` is false.
            InvalidInputError: a folder would be moved into itself, or two values to one path.
            InvalidKeyError: a target is not a valid key.
        """
        if isinstance(path1, str) and isinstance(path2, str):
            here = self._strip_protocol(path1)
            if here == self._strip_protocol(path2) and self.exists(here):
                return
        known = self.session._working.position()
        whole = whole_folder(self, path1, path2) if recursive and maxdepth is None else None
        if whole is not None:
            with self.failures():
                relink(self.session, *whole, known)
                self.session._working.clear(whole[0], known)
            return
        found = pairs(self, path1, path2, recursive=recursive, maxdepth=maxdepth)
        given = [path1] if isinstance(path1, str) else list(path1)
        folders = [key for key in self._strip_protocol(given) if self.isdir(key)]
        if folders and not recursive:
            raise IsADirectoryError(f"{folders[0]!r} is a folder; pass recursive=True")
        _check_not_into_itself(folders, found)
        moves = [move for move in self._moves(found) if move.source != move.target]
        targets = [move.target for move in moves]
        self._check_targets(targets)
        with self.failures():
            for move in moves:
                self._put_moved(move)
            for gone in {move.source for move in moves} - set(targets):
                self.session.delete(gone)

    def _moves(self, found: list[tuple[str, str]]) -> list[_Move]:
        """The values among the moved paths; folders are not moved by themselves."""
        moves = []
        for source, target in found:
            try:
                moves.append(self._move(source, target))
            except FileNotFoundError:
                if not self.exists(source):
                    raise
        return moves

    def _move(self, source: str, target: str) -> _Move:
        view, value = self.find_value(source)
        if value is None:
            raise FileNotFoundError(source)
        return _Move(view, value, self._strip_protocol(source), self._strip_protocol(target))

    def _put_moved(self, move: _Move) -> None:
        """Let the target of a move have its value: by a link, if the session's base has it."""
        session = self.session
        here = session._find(move.source)
        if isinstance(here, Link) and here.cid == move.value.cid:
            with suppress(SessionClosedError):  # there was a commit in between
                session._working.link(move.target, here, session._known)
                return
        self.pipe_file(move.target, move.view._read_found(move.value))

    def _check_targets(self, targets: list[str]) -> None:
        """Make sure that values can be written to all of these paths."""
        counts = Counter(targets)
        for target, count in counts.items():
            if count > 1:
                raise InvalidInputError(f"cannot move {count} values to {target!r}; only one fits")
            check_key(target)
            if self.isdir(target):
                raise InvalidKeyError(f"{target!r} is a folder", key=target)
            parts = target.split("/")
            for end in range(1, len(parts)):
                above = "/".join(parts[:end])
                if self.isfile(above) or above in counts:
                    raise InvalidKeyError(f"{target!r} is below the value {above!r}", key=target)


def _check_not_into_itself(folders: list[str], found: list[tuple[str, str]]) -> None:
    for folder in folders:
        start = f"{folder}/" if folder else ""
        for source, target in found:
            rest = source.removeprefix(start)
            if not source.startswith(start) or not target.endswith(rest):
                continue
            to = target.removesuffix(rest).strip("/")
            if to != folder and (to.startswith(start) or not folder):
                raise InvalidInputError(
                    f"{repr(folder) if folder else 'the root'} cannot be moved to {to!r}, "
                    "which is inside it"
                )
