"""A session: the writable view of a branch, shared by threads and by processes that unpickle it."""

from __future__ import annotations

import os
import weakref
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
from versioned_zarr.engine.sessions.open_sessions import OpenSessions
from versioned_zarr.engine.sessions.protocol import (
    Known,
    SessionState,
    StagingChangedError,
)
from versioned_zarr.engine.sessions.session_commit import SessionCommit, already_committed
from versioned_zarr.errors import (
    InvalidInputError,
    NothingToCommitError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.mapping import SessionMapping
from versioned_zarr.tree.diff_tree import KeyChange
from versioned_zarr.tree.keys import check_text

if TYPE_CHECKING:
    from zarr.abc.store import Store


_ATTEMPTS = 8


class SessionOrigin(Protocol):
    """The repository that a session belongs to. Pickles."""

    url: str
    _stores: RepositoryContext
    _open_sessions: OpenSessions

    def _tidy(self) -> None:
        """Join the packs of small commits once there are many of them."""
        ...


class Session(_hooks.Shown):
    """A writable, isolated view of a branch. Got from `Repository.session`.

    It sees the branch as it was when the session was opened, and its own writes; others see
    nothing until `commit`. Threads may share it. It pickles by reference: a copy in another
    process writes into the same session. After a commit it stays open, based on that commit.

    As a context manager, a clean end commits if a message was given; an exception commits
    nothing and keeps the journal, so that `Repository.resume` can resume it.

    Attributes:
        repository: where it writes.
        message: what a clean end of the `with` block commits with.
        dropped: what `Repository.resume` could not bring back, a line each; as a rule nothing.
    """

    def __init__(
        self,
        repository: SessionOrigin,
        working: SessionState,
        message: str | None = None,
        known: Known | None = None,
        dropped: Sequence[str] = (),
    ) -> None:
        self.repository = repository
        self.message = message
        self._working = working
        self.dropped = tuple(dropped)
        self._known = known
        self._store: Store | None = None
        _OPEN.add(self)

    @property
    def id(self) -> str:
        """The name under which `Repository.sessions` lists it."""
        return self._working.head.id

    @property
    def branch(self) -> str:
        """The branch that it commits to."""
        return self._working.head.branch

    @property
    def base(self) -> Commit:
        """The commit that it is based on."""
        return self.repository._stores.commit(self._working.state.base)

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
        """The session as a MutableMapping of keys to bytes, for zarr v2 and everything else."""
        return SessionMapping(self)

    # Values; what a snapshot has too

    def _find(self, key: str) -> PendingWrite | Link | None:
        """What lies under a key: something pending, something committed, or nothing.

        Raises:
            InvalidKeyError: the key is not text; of this class in all look-ups here.
        """
        check_text(key)
        return self._working.find(key)

    def _read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """The bytes of what `_find` gave, or a range of them."""
        return self._working.read_found(found, start, end)

    def _size_of(self, found: PendingWrite | Link) -> int:
        """The length in bytes of what `_find` gave."""
        return self._working.size(found)

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value, or a range of them clamped as slices are.

        Raises:
            KeyNotFoundError: there is no value under this key.
            InvalidKeyError: the key is not text.
        """
        check_text(key)
        return self._working.read(key, start, end)

    def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview | None:
        """As `read`, with None for a key that holds no value."""
        found = self._find(key)
        return None if found is None else self._working.read_found(found, start, end)

    def size(self, key: str) -> int | None:
        """The length in bytes of a value, without reading it; None if there is none."""
        found = self._find(key)
        return None if found is None else self._working.size(found)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys in a folder and below it, as they are now."""
        check_text(prefix)
        return (key for key, _ in self._working.walk(prefix))

    def sizes(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """The keys in a folder and below it with their values' lengths in bytes."""
        check_text(prefix)
        return ((key, self._working.size(found)) for key, found in self._working.walk(prefix))

    def list_dir(self, path: str = "") -> list[str]:
        """The names directly in a folder, sorted."""
        check_text(path)
        return self._working.list_dir(path)

    def is_empty(self, path: str = "") -> bool:
        """Whether no value lies in a folder."""
        check_text(path)
        return self._working.is_empty(path)

    def write(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """Put a value under a key; it survives the death of the process once this returns.

        Raises:
            InvalidKeyError: no such key can be, or it lies above or below another key's value.
            SessionClosedError: the session has ended.
            StorageError: the value could not be stored; the session is as it was.
        """
        self._working.write(key, value, self._known)

    def write_new(self, key: str, value: bytes | bytearray | memoryview) -> None:
        """As `write`, unless the key holds a value already."""
        self._working.write(key, value, self._known, only_new=True)

    def delete(self, key: str) -> bool:
        """Take a key away; says whether it was there."""
        check_text(key)
        return self._working.delete(key, self._known)

    def clear(self, path: str = "") -> None:
        """Take away all that lies in a folder and below it."""
        check_text(path)
        self._working.clear(path, self._known)

    # Version control

    def status(self) -> Diff:
        """What the session changed, against the commit that it is based on."""
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
        )

    def _size_of_link(self, link: Link) -> int:
        found = self._pending_of(link)
        return self.repository._stores.trees.size(link) if found is None else found.size

    def _read_link(self, link: Link, start: int, end: int) -> memoryview:
        """A range of a value that is in the base, or that the session wrote."""
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
        """Commit what the session wrote, from all its processes, to its branch.

        Costs in proportion to what changed. The commit is durable when this returns.

        Args:
            message: why.
            author: who; by default $VERSIONED_ZARR_AUTHOR or user@host.
            metadata: JSON to go with the commit.
            allow_empty: commit even if nothing changed.
            on_moved: "merge": if the branch has moved, changes that go together are merged;
                "fail": refuse, for work that depends on all that it read.
            resolve: settles conflicts with a branch that moved; see `Repository.merge`.

        Raises:
            NothingToCommitError: nothing changed.
            ConflictError: the branch's changes and these do not go together, or two processes
                wrote different bytes to one key, unaware of each other.
            BranchMovedError: the branch moved, and `on_moved` is "fail".
            RefNotFoundError: the branch was deleted.
            InvalidInputError: `on_moved` or `resolve` is nothing that decides.
        """
        check_resolve(resolve)
        if on_moved not in ("merge", "fail"):
            raise InvalidInputError(f"on_moved must be 'merge' or 'fail', not {on_moved!r}")
        draft = CommitMessage(message, author, metadata)
        with self._working.frozen():
            commit = self._commit_what_is_there(draft, allow_empty, on_moved == "merge", resolve)
        # The commit is made, whatever keeps packs from being joined: the next one does it.
        with suppress(VersionedZarrError, OSError):
            self.repository._tidy()
        return commit

    def _commit_what_is_there(
        self, draft: CommitMessage, allow_empty: bool, may_merge: bool, resolve: Resolve
    ) -> Commit:
        """Commit; where others write on a server meanwhile, look at that, and commit again."""
        for _ in range(_ATTEMPTS):
            try:
                return self._commit(draft, allow_empty, may_merge, resolve)
            except StagingChangedError:
                self._working.look_again()
        raise StorageError(
            f"session {self.id} cannot be committed while other processes keep writing to it; let "
            "them finish, and commit again; nothing was committed",
            where=self.repository.url,
        )

    def _commit(
        self, draft: CommitMessage, allow_empty: bool, may_merge: bool, resolve: Resolve
    ) -> Commit:
        session, stores = self._working, self.repository._stores
        session.refresh()
        done = already_committed(stores, session)
        if done is not None and not session.state.has_changes:
            session.drop_drafts()
            return done
        update = SessionCommit(
            stores,
            self.repository._open_sessions.store,
            session,
            draft,
            may_merge=may_merge,
            resolve=resolve,
        )
        if update.root.cid == session.state.root and not allow_empty:
            if done is not None:
                return done
            lost = "".join(f"; {each}" for each in self.dropped)
            raise NothingToCommitError(
                f"nothing to commit: nothing changed on {self.branch!r} since "
                f"{update.base.cid}; pass allow_empty=True to commit anyway{lost}",
                branch=self.branch,
            )
        return update.run()

    def discard(self) -> None:
        """End the session and forget what it wrote since its last commit, in all processes."""
        if self._working.closed is None:
            self._end("was discarded", keep_folder=False)

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
            self._end(how, keep_folder=self._may_have_changes())
            return
        if self.message is not None:
            try:
                self.commit(self.message)
            except NothingToCommitError:
                self._end("has ended", keep_folder=False)
                raise
            except BaseException:
                self._end(
                    "could not be committed; resume it with repo.resume(id)", keep_folder=True
                )
                raise
        self._end("has ended", keep_folder=self._may_have_changes())

    def _may_have_changes(self) -> bool:
        """Whether this process or another has written since the last commit, or nobody can tell."""
        try:
            self._working.refresh()
        except (VersionedZarrError, OSError):
            return True
        return self._working.state.has_changes


_OPEN: weakref.WeakSet[Session] = weakref.WeakSet()


def _before_fork() -> None:
    """The child is to be as good as a copy that was pickled: it may write into the session."""
    for session in list(_OPEN):
        if session._working.closed is None:
            session._working.before_fork()


def _after_fork() -> None:
    """A thread of the parent may have held a session's lock at the fork."""
    for session in list(_OPEN):
        if session._working.closed is None:
            session._known = session._working.known()
            session._working.after_fork()


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def _unpickle(repository: SessionOrigin, session: str, known: Known) -> Session:
    return Session(repository, repository._open_sessions.state_of(session), known=known)
