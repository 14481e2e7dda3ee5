"""The shared session: all file systems of a process on one branch write to it.

Forked children, and processes that unpickle a file system with a session, write to it too. Only the
process that opened it ends it.
"""

from __future__ import annotations

import atexit
import os
import warnings
import weakref
from contextlib import suppress

from versioned_zarr.errors import (
    InvalidInputError,
    NothingToCommitError,
    ReadOnlyError,
    SessionClosedError,
)
from versioned_zarr.fork_local import ForkSafeLock, at_fork
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session

_GUARD = ForkSafeLock()


class SharedSession:
    """The session to which file systems write; opened on first use.

    Attributes:
        repository: the repository.
        ref: the branch, or any ref for reading only.
        ends: the number of sessions that ended here; data read before that may be outdated.
    """

    def __init__(
        self,
        repository: Repository,
        ref: str,
        joined: Session | None = None,
        *,
        may_open: bool = True,
    ) -> None:
        self.repository, self.ref = repository, ref
        self.ends = 0
        self._session = joined
        self._process = None if joined is not None else os.getpid()
        self._may_open = may_open
        self._is_handed_on = False

    @classmethod
    def of(cls, repository: Repository, ref: str, place: str = "") -> SharedSession:
        """The instance of this process for a branch.

        Args:
            repository: the repository.
            ref: the branch.
            place: distinguishes repositories with the same URL on different servers.
        """
        key = (repository.url, ref, place)
        with _GUARD:
            found = _KNOWN.get(key)
            if found is None:
                found = _KNOWN[key] = cls(repository, ref)
            return found

    @property
    def _is_own(self) -> bool:
        return self._process == os.getpid()

    def found(self) -> Session | None:
        """The session, if one is open."""
        session = self._session
        is_open = session is not None and session._working.closed is None
        return session if is_open else None

    def to_read(self) -> Session | None:
        """The session, if it differs from the branch."""
        session = self.found()
        if session is None or not (self._is_handed_on and self._is_own):
            return session
        return session if _has_changes(session) else None

    def to_write(self) -> Session:
        """The session, opened if there is none.

        A session that others know is kept for them when it is committed. If the branch has moved
        since, this process opens another.

        Raises:
            ReadOnlyError: the file system was pickled by another process without an open session.
            RefNotFoundError: there is no such branch.
        """
        with _GUARD:
            session = self.found()
            if session is not None and not self._is_behind(session):
                return session
            if not self._may_open:
                raise ReadOnlyError(
                    f"cannot write to {self.ref!r} of {self.repository.url!r}: another process "
                    "pickled this file system before it wrote; touch fs.session there before "
                    "pickling, "
                    "or create a file system from the URL here and commit it in this process",
                    url=self.repository.url,
                )
            self._session = session = self.repository.session(self.ref)
            self._process, self._is_handed_on = os.getpid(), False
            _OPEN.add(self)
            atexit.unregister(_at_exit)
            atexit.register(_at_exit)  # again, because multiprocessing clears it in children
            return session

    def _is_behind(self, session: Session) -> bool:
        if not (self._is_handed_on and self._is_own):
            return False
        if _has_changes(session):
            return False
        head = self.repository.checkout(self.ref).commit
        return head is not None and head.cid != session._working.state.base

    def hand_on(self) -> Session | None:
        """The open session, if any, prepared for writes by other processes."""
        with _GUARD:
            session = self.found()
            if session is None or self._is_behind(session):
                return None
            session._working.share()
            self._is_handed_on = True
            return session

    def commit(self, message: str) -> Commit:
        """Commit all writes; later reads and writes continue from the branch.

        Raises:
            NothingToCommitError: nothing was written.
            ConflictError: the branch has moved, and the changes conflict.
        """
        session = self.to_write()
        try:
            commit = session.commit(message)
        except NothingToCommitError:
            self._let_go(session)
            raise
        self._let_go(session)
        return commit

    def _let_go(self, session: Session) -> None:
        """End a committed session, unless somebody has written to it since or may do so."""
        with _GUARD:
            self.ends += 1
            if not self._is_own or self._is_handed_on or session._working.closed is not None:
                return
            with session._working.frozen():
                if not session._working.state.has_changes:
                    session.discard()
                    self._forget()

    def end(self, message: str | None) -> None:
        """End the session, if one is open.

        Args:
            message: commit any writes with this message; None discards them.

        Raises:
            InvalidInputError: another process opened it.
            ConflictError: the branch has moved; the session can be resumed by its id.
        """
        self.check_is_own()
        session = self.found()
        try:
            if session is not None and message is not None and session.status():
                session.message = message
                with session:
                    pass  # after a failure, the writes are kept for `resume`
            elif session is not None:
                session.discard()
        finally:
            with _GUARD:
                self.ends += 1
                self._forget()

    def check_is_own(self) -> None:
        """Raise InvalidInputError if ending the session would end it for another process."""
        session = self.found()
        if session is not None and not self._is_own:
            raise InvalidInputError(
                f"session {session.id} on {self.ref!r} belongs to the process that opened it; "
                "end it there, and do not use a transaction here"
            )

    def finish(self) -> None:
        """At the end of the process: end an empty session, and report one with writes."""
        session = self.found()
        if session is None or not self._is_own:
            return
        with suppress(OSError):  # also if the repository no longer exists
            session._working.refresh()
        if not session._working.state.has_changes:
            with suppress(OSError):
                session.discard()
            return
        warnings.warn(
            f"session {session.id} on {self.ref!r} of {self.repository.url!r} ends uncommitted; "
            "call commit() on the file system that wrote, or resume it with repo.resume(id)",
            stacklevel=2,
        )

    def _forget(self) -> None:
        self._session = None
        _OPEN.discard(self)


class JoinedSession(SharedSession):
    """A session that a URL names, opened elsewhere. It is never ended here.

    Args:
        repository: the repository.
        session: the session.
    """

    def __init__(self, repository: Repository, session: Session) -> None:
        super().__init__(repository, session.branch, session, may_open=False)
        self._joined = session

    def to_read(self) -> Session:
        """The session.

        Raises:
            SessionClosedError: it has ended.
        """
        session = self._joined
        try:
            session._working.check_open()
        except SessionClosedError as error:
            raise SessionClosedError(
                f"session {session.id} on {self.ref!r} of {self.repository.url!r} has ended: it "
                "was committed or discarded; read the branch, or open a new session and use its "
                f"URL: repo.session({self.ref!r}).url",
                session=session.id,
            ) from error
        return session

    def to_write(self) -> Session:
        """The session; see `to_read`."""
        return self.to_read()

    def hand_on(self) -> Session:
        """The session; see `to_read`. It is shared already."""
        return self.to_read()

    def check_is_own(self) -> None:
        """Raise InvalidInputError: a transaction would end the session for all."""
        raise InvalidInputError(
            f"session {self._joined.id} on {self.ref!r} belongs to the process that opened it; "
            "end it there, and do not use a transaction here"
        )


def _has_changes(session: Session) -> bool:
    """Whether any process has written since the last commit; queries others only if necessary."""
    working = session._working
    if not working.state.has_changes:
        working.refresh()
    return working.state.has_changes


_KNOWN: weakref.WeakValueDictionary[tuple[str, str, str], SharedSession] = (
    weakref.WeakValueDictionary()
)
_OPEN: set[SharedSession] = set()
"""Instances with a session, kept alive because a forked child loses fsspec's cache."""


def _before_fork() -> None:
    for shared in list(_OPEN):
        shared.hand_on()


def _at_exit() -> None:
    for shared in list(_OPEN):
        shared.finish()


at_fork(before=_before_fork)
