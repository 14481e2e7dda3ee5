"""The session protocol: the interface between a session and the store of its uncommitted writes.

Most repositories use `LocalSession`, with a journal and drafts on a `Storage`. A server with its
own branches stores sessions there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeAlias

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import RecordKind, SessionHead
from versioned_zarr.errors import SessionClosedError
from versioned_zarr.history.commit_object import format_time
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes

Known: TypeAlias = int | Mapping[int, int]
"""What a process knows of the writes to a session: all up to a position in its journal, or up to
a write of each process."""


class StagingChangedError(Exception):
    """Others have written to the staged data of a session on a server since the commit began.

    The commit reads the writes and is prepared again. Package-internal.
    """


class SessionState(Protocol):
    """A session as one process sees it.

    `SessionReader` and `LocalSession` specify what each method does and raises.

    Attributes:
        head: the session.
        is_remote: whether writing a value waits for a network.
    """

    @property
    def head(self) -> SessionHead: ...
    @property
    def is_remote(self) -> bool: ...

    @property
    def state(self) -> ChangeSet:
        """The writes of the session, over its base."""
        ...

    @property
    def consumed(self) -> int:
        """The position up to which this process has read the writes of all processes."""
        ...

    @property
    def closed(self) -> str | None:
        """How it ended; None while it has not."""
        ...

    @property
    def exists(self) -> bool: ...
    def find(self, key: str) -> PendingWrite | Link | None: ...
    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview: ...
    def read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview: ...
    def walk(self, prefix: str = "") -> Iterator[tuple[str, PendingWrite | Link]]: ...
    def list_dir(self, path: str) -> list[str]: ...
    def is_empty(self, path: str) -> bool: ...
    def size(self, found: PendingWrite | Link) -> int: ...
    def changed(self) -> list[tuple[str, PendingWrite | Link | None]]: ...
    def write(
        self, key: str, data: Bytes, known: Known | None = None, *, only_new: bool = False
    ) -> None: ...
    def delete(self, key: str, known: Known | None = None) -> bool: ...
    def clear(self, path: str, known: Known | None = None) -> None: ...
    def link(self, path: str, found: Link, known: Known | None = None) -> None: ...
    def values_at(self, path: str, found: Link) -> list[tuple[str, Link]]: ...
    def linked(
        self, path: str
    ) -> tuple[Link | None, list[tuple[str, PendingWrite | Link | None]]]: ...
    def frozen(self) -> AbstractContextManager[None]: ...
    def check_open(self) -> None: ...
    def share(self) -> None: ...
    def position(self) -> Known: ...
    def known(self) -> Known: ...
    def look_again(self) -> None: ...
    def refresh(self) -> None: ...
    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None: ...
    def drop_drafts(self) -> None: ...
    def drop_damaged(self) -> list[str]: ...
    def end(self, how: str, *, keep_folder: bool) -> None: ...
    def release(self) -> None: ...
    def writer_name(self, writer: int) -> str: ...
    def before_fork(self) -> None: ...
    def after_fork(self) -> None: ...


@dataclass(frozen=True)
class SessionInfo:
    """Facts about a session, available without opening it.

    Attributes:
        id: its id, for `Repository.resume` and `Repository.sessions`.
        branch: the branch to which it commits.
        base: the CID of its base commit.
        author: who opened it.
        started: when it was opened, UTC.
        last_write: when its journal last grew, UTC.
        host: the machine that opened it.
        process: the process ID on that machine.
        keys: the number of keys written or deleted since its last commit.
        is_alive: whether a process holds one of its drafts open for writing.
        purpose: the note given when it was opened, if any.
        problem: what is wrong with its journal, if anything.
        size_bytes: the size in bytes of the values written since its last commit, one per key.
    """

    id: str
    branch: str
    base: str
    author: str
    started: datetime
    last_write: datetime
    host: str
    process: int
    keys: int
    is_alive: bool
    purpose: str = ""
    problem: str | None = None
    size_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON data."""
        times = {"started": format_time(self.started), "last_write": format_time(self.last_write)}
        return {**self.__dict__, **times}


class SessionStore(Protocol):
    """Stores the sessions of a repository."""

    def begin(self, head: SessionHead, root: Cid) -> SessionState:
        """A new session, based on a tree; nothing is stored before its first write."""
        ...

    def resume(self, session: str) -> SessionState:
        """The session with this id, with all its writes.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        ...

    def mend(self, session: str) -> str | None:
        """Truncate a damaged session before the damage; returns a description of the loss.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        ...

    def publish(self, writing: SessionState, root: Cid) -> Sequence[Block]:
        """Store the writes of a session that are to be committed.

        Returns the values that should go into the commit's own pack.

        Args:
            writing: the session.
            root: the tree with all writes.
        """
        ...

    def sessions(self) -> Sequence[SessionInfo]:
        """The sessions that have written and not ended, oldest first."""
        ...

    def info(self, session: str) -> SessionInfo:
        """The facts about the session with this id, without listing the others.

        Raises:
            SessionNotFoundError: there is no such session, or it has written nothing yet.
        """
        ...

    def delete(self, session: str) -> None:
        """Remove a session and its writes.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        ...


def unnamed(writer: int) -> str:
    """The name of a writer of which only the number is known."""
    return f"an unknown process (writer {writer:08x})"


def ended_error(head: SessionHead, how: str) -> SessionClosedError:
    """The error for a write to a session that has ended."""
    return SessionClosedError(
        f"session {head.id} on {head.branch!r} {how}; open a new one with repo.session()",
        session=head.id,
    )
