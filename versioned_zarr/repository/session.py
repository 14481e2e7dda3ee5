"""A session: the writable view of a branch, shared by threads and by processes that unpickle it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from versioned_zarr import _hooks
from versioned_zarr.engine.commit import CommitMessage
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.diff import Diff
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve, check_resolve
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.engine.sessions.open_sessions import OpenSessions
from versioned_zarr.engine.sessions.protocol import Known, SessionState
from versioned_zarr.engine.sessions.session_commit import CommitRequest, commit_session
from versioned_zarr.errors import (
    InvalidInputError,
    NothingToCommitError,
    VersionedZarrError,
)
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.mapping import SessionMapping
from versioned_zarr.repository.missing_methods import MissingMethods
from versioned_zarr.repository.node_methods import NodeMethods
from versioned_zarr.repository.session_end import add_resume_note, warn_of_strays, warn_uncommitted
from versioned_zarr.repository.session_forks import prepare_for_forks
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.tree.diff_tree import KeyChange
from versioned_zarr.tree.keys import check_text

if TYPE_CHECKING:
    from zarr.abc.store import Store


class SessionOrigin(Protocol):
    """The repository that a session belongs to. Pickles."""

    url: str
    _stores: RepositoryContext
    _open_sessions: OpenSessions

    def _tidy(self) -> None:
        """Merge the packs of small commits if there are many."""
        ...


class Session(MissingMethods, NodeMethods, _hooks.HintsAtNames, _hooks.Shown, _hooks.ZarrStoreLike):
    """A writable, isolated view of a branch. Open one with `Repository.session`.

    A session sees the branch as it was when the session was opened, and its own writes. Others see
    nothing until `commit`. Threads can share a session. It is pickled by reference: a copy in
    another process writes to the same session. After a commit, it stays open, based on that commit.

    As a context manager, a session commits at a clean end if a message was given. After an
    exception, it commits nothing and keeps the journal, so that `Repository.resume` can resume it.

    Attributes:
        repository: the repository to which it writes.
        message: the message with which a clean end of the `with` block commits.
        dropped: writes that `Repository.resume` could not recover, one line each; usually empty.

    Example:
        >>> import versioned_zarr as vz
        >>> session = vz.create("memory://written").session("main")
        >>> session.write("a", b"hello")
        >>> bytes(session.read("a", 1, 3)), session.delete("b")
        (b'el', False)
        >>> session.commit("Say hello").message
        'Say hello'
    """

    def __init__(
        self,
        repository: SessionOrigin,
        working: SessionState,
        message: str | None = None,
        known: Known | None = None,
        dropped: Sequence[str] = (),
        on_nothing: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.repository = repository
        self.message = message
        self._working = working
        self.dropped = tuple(dropped)
        self._known = known
        self._on_nothing = on_nothing
        self._store: Store | None = None
        prepare_for_forks(self)

    @property
    def id(self) -> str:
        """The id under which `Repository.sessions` lists the session."""
        return self._working.head.id

    @property
    def branch(self) -> str:
        """The branch to which the session commits."""
        return self._working.head.branch

    @property
    def base(self) -> Commit:
        """The commit on which the session is based."""
        return self.repository._stores.commit(self._working.state.base)

    @property
    def _session(self) -> Session:
        return self

    @property
    def read_only(self) -> bool:
        """Always false."""
        return False

    def __repr__(self) -> str:
        state = self._working.closed or "open"
        return f"<Session {self.id} on {self.branch!r} of {self.repository.url}, {state}>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Session)
            and other.id == self.id
            and other.repository.url == self.repository.url
        )

    def __hash__(self) -> int:
        return hash((self.id, self.repository.url))

    def __reduce__(self) -> tuple[Any, ...]:
        self._working.check_open()
        self._working.share()
        return _unpickle, (self.repository, self.id, self._working.position())

    # Interfaces

    @property
    def store(self) -> Store:
        """The session as a zarr v3 store."""
        if self._store is None:
            self._store = _hooks.interfaces.zarr_store(self)
        return self._store

    @property
    def mapping(self) -> SessionMapping:
        """The session as a MutableMapping from keys to bytes, for zarr v2 and other libraries."""
        return SessionMapping(self)

    @property
    def url(self) -> str:
        """The URL of the session, for engines that take only strings: fsspec, xarray, zarr, Dask.

        Other processes that open it read this session and write to it; this process commits. Add
        the path of an array or group before `::`. Asking for the URL shares the session, as
        pickling does: from then on, it looks for the writes of others.

        Raises:
            SessionClosedError: the session has ended.

        Example:
            >>> import versioned_zarr as vz
            >>> session = vz.create("memory://joined").session()
            >>> session.url.replace(session.id, "ID")
            'vzarr://session/ID@/::memory://joined'
        """
        self._working.check_open()
        self._working.share()
        return _hooks.interfaces.session_url(self)

    # Values; the same methods as a snapshot

    def _find(self, key: str) -> PendingWrite | Link | None:
        """The value of a key: pending, committed, or None.

        Raises:
            InvalidKeyError: the key is not text; the same class in all lookups here.
        """
        check_text(key)
        return self._working.find(key)

    def _read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """The bytes of a value that `_find` returned, or a range of them."""
        return self._working.read_found(found, start, end)

    def _size_of(self, found: PendingWrite | Link) -> int:
        """The size in bytes of a value that `_find` returned."""
        return self._working.size(found)

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value, or a range of them, clamped like a slice.

        Raises:
            KeyNotFoundError: there is no value under this key.
            InvalidKeyError: the key is not text.
        """
        check_text(key)
        return self._working.read(key, start, end)

    def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview | None:
        """Like `read`, but returns None for a missing key."""
        found = self._find(key)
        return None if found is None else self._working.read_found(found, start, end)

    def size(self, key: str) -> int | None:
        """The size of a value in bytes, without reading it; None if the key is missing."""
        found = self._find(key)
        return None if found is None else self._working.size(found)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The current keys in a folder and below it."""
        check_text(prefix)
        return (key for key, _ in self._working.walk(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """The keys in a folder and below it, with the sizes of their values in bytes."""
        check_text(prefix)
        return ((key, self._working.size(found)) for key, found in self._working.walk(prefix))

    def list_dir(self, path: str = "") -> list[str]:
        """The names directly in a folder, sorted."""
        check_text(path)
        return self._working.list_dir(path)

    def is_empty(self, path: str = "") -> bool:
        """Whether a folder contains no values."""
        check_text(path)
        return self._working.is_empty(path)

    def write(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """Write a value under a key. It survives the death of the process once this returns.

        Raises:
            InvalidKeyError: the key is not valid, or it is above or below the key of another value.
            SessionClosedError: the session has ended.
            StorageError: the value could not be stored; the session is unchanged.
        """
        self._working.write(key, value, self._known)

    def write_new(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """Like `write`, but does nothing if the key already has a value."""
        self._working.write(key, value, self._known, only_new=True)

    def delete(self, key: str) -> bool:
        """Delete a key; returns whether it existed."""
        check_text(key)
        return self._working.delete(key, self._known)

    def clear(self, path: str = "") -> None:
        """Delete all keys in a folder and below it."""
        check_text(path)
        self._working.clear(path, self._known)

    # Version control

    def status(self) -> Diff:
        """The changes of the session relative to its base commit."""
        working, trees = self._working, self.repository._stores.trees
        root = working.state.root
        changes = []
        for key, now in sorted(working.changed(), key=lambda item: item[0]):
            old = trees.find(root, key)
            new = None if now is None else Link(key, now.cid, now.tsize)
            if (old and old.cid) != (new and new.cid):
                changes.append(KeyChange(key, old, new))
        stores = self.repository._stores
        return Diff(
            changes,
            read_old=lambda key: (
                stores.read_link(link) if (link := trees.find(root, key)) else None
            ),
            read_new=lambda key: None if (value := self.get(key)) is None else bytes(value),
            old_name=self._working.state.base,
            new_name=f"session {self.id}",
            size=self._size_of_link,
            read_range=self._read_link,
            sides=lambda: (Snapshot(self.repository, root), self),
        )

    def _size_of_link(self, link: Link) -> int:
        found = self._pending_of(link)
        return self.repository._stores.trees.size(link) if found is None else found.size

    def _read_link(self, link: Link, start: int, end: int) -> memoryview:
        """A range of a value from the base or from the session."""
        found = self._pending_of(link)
        return self._working.read_found(link if found is None else found, start, end)

    def _pending_of(self, link: Link) -> PendingWrite | None:
        entry = self._working.state.entries.get(link.name)
        return entry if entry is not None and entry.cid == link.cid else None

    def commit(
        self,
        message: str,
        *,
        author: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        allow_empty: bool = False,
        on_moved: Literal["merge", "fail"] = "merge",
        resolve: Resolve = None,
    ) -> Commit:
        """Commit everything that the session wrote, in all its processes, to its branch.

        The cost is proportional to the change. The commit is durable when this returns.

        Args:
            message: the commit message.
            author: the author; by default, $VERSIONED_ZARR_AUTHOR or user@host.
            metadata: JSON to store with the commit.
            allow_empty: commit even if nothing changed.
            on_moved: if the branch has moved: "merge" merges compatible changes; "fail" refuses,
                for work that depends on everything that it read.
            resolve: resolves conflicts with a branch that moved; see `Repository.merge`.

        Raises:
            NothingToCommitError: nothing changed.
            ConflictError: the changes conflict with those on the branch, or two processes
                independently wrote different bytes to one key.
            BranchMovedError: the branch moved, and `on_moved` is "fail".
            RefNotFoundError: the branch was deleted.
            InvalidInputError: `on_moved` or `resolve` is not valid.
        """
        check_resolve(resolve)
        if on_moved not in ("merge", "fail"):
            raise InvalidInputError(f"on_moved must be 'merge' or 'fail', not {on_moved!r}")
        text, may_merge = CommitMessage(message, author, metadata), on_moved == "merge"
        request = CommitRequest(text, allow_empty, may_merge, resolve, self.dropped)
        store = self.repository._open_sessions.store
        with self._working.frozen():
            commit = commit_session(self.repository._stores, store, self._working, request)
        # The commit is complete, even if merging small packs fails: the next commit tries again.
        with suppress(VersionedZarrError, OSError):
            self.repository._tidy()
        return commit

    def discard(self, *, keep: bool = False) -> None:
        """Discard the writes since the last commit, in all processes, and end the session.

        Args:
            keep: go on from the last commit: this object, and its store, become a new session with
                another id. Copies in other processes end.

        Raises:
            SessionClosedError: the session has ended, and `keep` is true.
        """
        if keep:
            self._working.check_open()
        if self._working.closed is not None:
            return
        head, state = self._working.head, self._working.state
        self._end("was discarded", keep_folder=False)
        if keep:
            anew = SessionHead.new(head.branch, state.base, head.author, head.purpose)
            self._working = self.repository._open_sessions.begin(anew, state.root)
            self._known, self.dropped = None, ()

    def _end(self, how: str, *, keep_folder: bool) -> None:
        self._working.end(how, keep_folder=keep_folder)
        self.repository._open_sessions.forget(self.id)

    def __enter__(self) -> Self:
        self._working.check_open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._working.closed is not None:
            return
        if kind is not None:
            how = "was ended by an exception; resume it with repo.resume(id)"
            is_kept = self._may_have_changes()
            self._end(how, keep_folder=is_kept)
            if is_kept:
                add_resume_note(error, self.id)
            return
        try:
            self._end_well()
        finally:
            warn_of_strays(self.repository._stores, self.repository.url)

    def _end_well(self) -> None:
        if self.message is not None:
            try:
                self.commit(self.message)
            except NothingToCommitError as nothing:
                self._end("has ended", keep_folder=False)
                if self._on_nothing == "skip":
                    return
                nothing.add_note("To skip this commit instead: repo.session(…, on_nothing='skip').")
                raise
            except BaseException as failed:
                self._end(
                    "could not be committed; resume it with repo.resume(id)", keep_folder=True
                )
                add_resume_note(failed, self.id)
                raise
        is_kept = self._may_have_changes()
        self._end("has ended", keep_folder=is_kept)
        if is_kept and self.message is None:
            warn_uncommitted(self.id, self.branch)

    def _may_have_changes(self) -> bool:
        """Whether this process or another has written since the last commit, or may have."""
        try:
            self._working.refresh()
        except (VersionedZarrError, OSError):
            return True
        return self._working.state.has_changes


def join(repository: SessionOrigin, session: str) -> Session:
    """A session that another process opened, with all that it wrote so far. Writes nothing.

    Raises:
        SessionNotFoundError: there is no such session.
    """
    working = repository._open_sessions.state_of(session)
    return Session(repository, working, known=working.position())


def _unpickle(repository: SessionOrigin, session: str, known: Known) -> Session:
    return Session(repository, repository._open_sessions.state_of(session), known=known)
