"""A branch, tag or commit as an fsspec file system: `vzarr://REF@/PATH::REPOSITORY`.

Reading goes to a snapshot. The first write opens a session on the branch, which all file systems of
this process on that branch read and write from then on, since fsspec makes one for each thread;
`commit`, or the end of a `with fs.transaction:`, commits it. A file system that is pickled takes
its session, or else its snapshot, to the process that unpickles it.
"""

from __future__ import annotations

import io
import os
import pickle
import secrets
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import unquote

from fsspec import AbstractFileSystem
from fsspec.transaction import Transaction

from versioned_zarr import location
from versioned_zarr.errors import InvalidUrlError, SessionClosedError, SessionNotFoundError
from versioned_zarr.history.commit import Commit
from versioned_zarr.interfaces.shared_session import SharedSession
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.repository.protocol import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot

_START = "vzarr://"
_OF_LAKEFS = {"host": "endpoint", "username": "access_key_id", "password": "secret_access_key"}
_PROCESS = secrets.token_hex(8)
"""With the process's number, what tells it from all others."""


class _Commit(Transaction):  # type: ignore[misc]  # fsspec has no types
    """What is written within it becomes one commit, or is discarded if an exception ends it."""

    fs: VersionedFileSystem

    def start(self) -> None:
        self.fs.check_may_end()
        super().start()

    def complete(self, commit: bool = True) -> None:
        files = self.fs  # which the next lines forget
        is_whole = False
        try:
            super().complete(commit)
            is_whole = commit
        finally:
            files.end_session(commit=is_whole)


class VersionedFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """See the module. The version is looked up once; `invalidate_cache` looks again.

    Args:
        fo: the repository, as fsspec hands it on from what follows `::`; without a scheme if
            `target_protocol` has it.
        ref: a branch, or for reading any ref.
        target_protocol: the scheme of the repository's URL.
        target_options: how to reach it, as `vz.open` takes it; for lakeFS, lakefs-spec's names too.
        message: what commits say that are given no message.
        handed_on: names what an unpickled file system reads or writes; not for callers.
        storage_options: for fsspec.

    Raises:
        InvalidUrlError: no repository is named.
        RepositoryNotFoundError: there is none.
    """

    protocol = "vzarr"
    root_marker = ""
    transaction_type = _Commit

    def __init__(
        self,
        fo: str = "",
        ref: str = "main",
        target_protocol: str | None = None,
        target_options: Mapping[str, Any] | None = None,
        message: str = "Write through fsspec",
        handed_on: str = "",
        **storage_options: Any,
    ) -> None:
        super().__init__(**storage_options)
        if not fo:
            raise InvalidUrlError(
                "name the repository behind '::', as in vzarr://main@/air::file:///data/air.vz",
                url=_START,
            )
        url = fo
        if target_protocol not in (None, "file", "local") and "://" not in fo:
            url = f"{target_protocol}://{fo.lstrip('/')}"
        options = {_OF_LAKEFS.get(k, k): value for k, value in (target_options or {}).items()}
        self.repository: Repository = location.open(url, **options)
        self.ref, self.message = ref, message
        if handed_on:
            self._shared = SharedSession(self.repository, ref, may_open=False)
        else:
            self._shared = SharedSession.of(self.repository, ref)
        self._seen: tuple[int, Snapshot] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        view = self._shared.hand_on() or self.view
        of = (type(self), self.storage_args, self.storage_options)
        return _unpickle, (*of, _process(), pickle.dumps(view), _name_of(view))

    def take_over(self, view: bytes) -> None:
        """Read and write what another process does: its session, or its snapshot to read only."""
        found: Snapshot | Session | None = None
        with suppress(SessionNotFoundError):  # it has ended; what became of it is on the branch
            found = pickle.loads(view)  # noqa: S301 - a part of what is unpickled already
        session = found if isinstance(found, Session) else None
        self._shared = SharedSession(self.repository, self.ref, session, may_open=False)
        self._seen = (self._shared.ends, found) if isinstance(found, Snapshot) else None

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        text = str(path).partition("::")[0]
        if text.startswith(_START):
            text = text.removeprefix(_START).rpartition("@/")[2]
            text = "" if text.endswith("@") else text
        return text.strip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        text = path.partition("::")[0].removeprefix(_START)
        ref, at, _ = text.rpartition("@/")
        if not at and text.endswith("@"):
            ref = text[:-1]
        return {"ref": unquote(ref)} if ref else {}

    # The version

    @property
    def view(self) -> Snapshot | Session:
        """What is read: the session once something was written, else the snapshot."""
        session = self._shared.to_read()
        if session is not None:
            return session
        ends, seen = self._shared.ends, self._seen
        if seen is None or seen[0] != ends:
            self._seen = seen = ends, self.repository.checkout(self.ref)
        return seen[1]

    @property
    def session(self) -> Session:
        """What is written to; opened when first asked for.

        Raises:
            ReadOnlyError: this is a copy from a process that had no session.
        """
        return self._shared.to_write()

    def commit(self, message: str | None = None) -> Commit:
        """Commit what was written on this branch, in whatever thread or process.

        What is read and written next begins at the branch's head.

        Raises:
            NothingToCommitError: nothing was.
            ConflictError: the branch has moved on to something else.
        """
        return self._shared.commit(message or self.message)

    def end_session(self, *, commit: bool) -> None:
        """Commit what was written, if anything was, or discard it; writing again begins anew.

        Raises:
            InvalidInputError: another process opened the session.
        """
        self._shared.end(self.message if commit else None)

    def check_may_end(self) -> None:
        """Raise InvalidInputError if the session is another process's."""
        self._shared.check_is_own()

    def invalidate_cache(self, path: str | None = None) -> None:
        """Look again which commit the ref names; a session that wrote goes on."""
        super().invalidate_cache(path)
        self._seen = None

    # Reading

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """See fsspec; `cid` is that of a value, or of all below a folder of a snapshot."""
        key = self._strip_protocol(path)
        view = self.view
        found = view.find(key) if key else None
        if found is not None:
            size = view.size_of(found)
            return {"name": key, "size": size, "type": "file", "cid": to_text(found.cid)}
        if key and view.is_empty(key):
            raise FileNotFoundError(path)
        return {"name": key, "size": 0, "type": "directory"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """See fsspec."""
        key = self._strip_protocol(path)
        own = self.info(key)
        if own["type"] == "file":
            return [own] if detail else [key]
        names = [f"{key}/{name}".lstrip("/") for name in self.view.list_dir(key)]
        return [self.info(name) for name in names] if detail else names

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        """See fsspec; a range reads only that range."""
        key = self._strip_protocol(path)
        found = self.view.find(key) if key else None
        if found is None:
            raise FileNotFoundError(path)
        size = self.view.size_of(found)
        low, high, _step = slice(start, end).indices(size)
        return bytes(self.view.read_found(found, low, max(low, high)))

    def ukey(self, path: str) -> str:
        """The CID of a value."""
        info = self.info(path)
        if info["type"] != "file":
            raise FileNotFoundError(path)
        return str(info["cid"])

    def checksum(self, path: str) -> str:
        """See `ukey`."""
        return self.ukey(path)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        if mode == "rb":
            return io.BytesIO(self.cat_file(path))
        if mode in ("wb", "xb"):
            if mode == "xb" and self.exists(path):
                raise FileExistsError(path)
            return _Writer(self, path)
        raise ValueError(f"mode must be 'rb', 'wb' or 'xb', not {mode!r}")

    # Writing

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> None:
        """See fsspec."""
        key = self._strip_protocol(path)
        if mode == "create" and self.exists(key):
            raise FileExistsError(path)
        try:
            self.session.write(key, bytes(value))
        except SessionClosedError:  # a commit came between
            self.session.write(key, bytes(value))

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        """See fsspec; a folder is nothing by itself."""
        if self.info(path1)["type"] == "file":
            self.pipe_file(path2, self.cat_file(path1))

    def rm_file(self, path: str) -> None:
        """See fsspec."""
        if not self.session.delete(self._strip_protocol(path)):
            raise FileNotFoundError(path)

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """See fsspec; a folder goes at once."""
        for each in path if isinstance(path, list) else [path]:
            info = self.info(each)
            if info["type"] == "file":
                self.rm_file(each)
            elif not recursive or maxdepth is not None:
                raise IsADirectoryError(f"{each!r} is a folder; give recursive=True")
            else:
                self.session.clear(info["name"])

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Nothing: a folder is there when something lies in it."""

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """See `mkdir`."""


def _process() -> tuple[int, str]:
    return os.getpid(), _PROCESS


def _name_of(view: Snapshot | Session) -> str:
    return view.id if isinstance(view, Session) else view.cid


def _unpickle(
    kind: type[VersionedFileSystem],
    args: tuple[Any, ...],
    options: dict[str, Any],
    process: tuple[int, str],
    view: bytes,
    name: str,
) -> VersionedFileSystem:
    if process == _process() and not options.get("handed_on"):
        return kind(*args, **options)
    files = kind(*args, **{**options, "handed_on": name})
    files.take_over(view)
    return files


class _Writer(io.BytesIO):
    """A value that is written when the file is closed, unless an exception closed it."""

    def __init__(self, files: VersionedFileSystem, path: str) -> None:
        super().__init__()
        self._files, self._path = files, path
        self._is_given_up = False

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_given_up = kind is not None
        super().__exit__(kind, failure, trace)

    def close(self) -> None:
        if not self.closed and not self._is_given_up:
            self._files.pipe_file(self._path, self.getvalue())
        super().close()

    def commit(self) -> None:
        """At the end of a transaction: write what was not closed."""
        self.close()

    def discard(self) -> None:
        """At the end of a transaction that failed: write nothing."""
        self._is_given_up = True
        self.close()
