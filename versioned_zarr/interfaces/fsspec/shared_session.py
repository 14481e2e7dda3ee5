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
)
from versioned_zarr.fork_local import ForkSafeLock, at_fork
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session

_GUARD = ForkSafeLock()


class SharedSession:
    """Where file systems write; a session is opened when first asked for.

    Attributes:
        repository: the repository.
        ref: the branch, or any ref where nothing is written.
        ends: how many sessions were committed or ended here; what was read before may be old.
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
    def of(cls, repository: Repository, ref: str) -> SharedSession:
        """The one of this process for a branch."""
        with _GUARD:
            found = _KNOWN.get((repository.url, ref))
            if found is None:
                found = _KNOWN[repository.url, ref] = cls(repository, ref)
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
        """The session, if there is more to read in it than on the branch."""
        session = self.found()
        if session is None or not (self._is_handed_on and self._is_own):
            return session
        return session if _has_changes(session) else None

    def to_write(self) -> Session:
        """The session, which is opened if there is none.

        One that others know stays for them when it was committed. Where the branch has moved on
        since, this process goes on with another.

        Raises:
            ReadOnlyError: another process had no session open when it pickled the file system.
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
            atexit.register(_at_exit)  # anew, as multiprocessing clears what its children inherit
            return session

    def _is_behind(self, session: Session) -> bool:
        if not (self._is_handed_on and self._is_own):
            return False
        if _has_changes(session):
            return False
        head = self.repository.checkout(self.ref).commit
        return head is not None and head.cid != session._working.state.base

    def hand_on(self) -> Session | None:
        """The session, ready for other processes to write into, if one is open."""
        with _GUARD:
            session = self.found()
            if session is None or self._is_behind(session):
                return None
            session._working.share()
            self._is_handed_on = True
            return session

    def commit(self, message: str) -> Commit:
        """Commit what was written; what is read and written next begins at the branch.

        Raises:
            NothingToCommitError: nothing was.
            ConflictError: the branch has moved on to something else.
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
        """End a session that was committed, unless somebody has written on or may do so."""
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
            message: commit with it what was written, if anything was; None discards it.

        Raises:
            InvalidInputError: another process opened it.
            ConflictError: the branch has moved on; the session can be resumed by its id.
        """
        self.check_is_own()
        session = self.found()
        try:
            if session is not None and message is not None and session.status():
                session.message = message
                with session:
                    pass  # a failure leaves what was written for `resume`
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
        """At the end of the process: end a session that holds nothing, tell of one that does."""
        session = self.found()
        if session is None or not self._is_own:
            return
        with suppress(OSError):  # of a place that is gone, too
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


def _has_changes(session: Session) -> bool:
    """Whether any process has written since the last commit; asks for others' only if need be."""
    working = session._working
    if not working.state.has_changes:
        working.refresh()
    return working.state.has_changes


_KNOWN: weakref.WeakValueDictionary[tuple[str, str], SharedSession] = weakref.WeakValueDictionary()
_OPEN: set[SharedSession] = set()
"""Those with a session, which outlive their file systems: fsspec forgets them in a forked child."""


def _before_fork() -> None:
    for shared in list(_OPEN):
        shared.hand_on()


def _at_exit() -> None:
    for shared in list(_OPEN):
        shared.finish()


at_fork(before=_before_fork)
