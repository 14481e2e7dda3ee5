"""Forks of a process with open sessions: the child writes to them as another process does."""

from __future__ import annotations

import weakref
from typing import Protocol

from versioned_zarr.engine.sessions.protocol import Known, SessionState
from versioned_zarr.fork_local import at_fork


class OpenSession(Protocol):
    """A session: its state in this process, and what it knew when it came here."""

    _working: SessionState
    _known: Known | None


def prepare_for_forks(session: OpenSession) -> None:
    """Let forked children write to a session, as long as it exists here."""
    _OPEN.add(session)


_OPEN: weakref.WeakSet[OpenSession] = weakref.WeakSet()


def _before_fork() -> None:
    """The child is equivalent to a pickled copy: it may write to the session."""
    for session in list(_OPEN):
        if session._working.closed is None:
            session._working.before_fork()


def _after_fork() -> None:
    """A thread of the parent may have held a session's lock at the fork."""
    for session in list(_OPEN):
        if session._working.closed is None:
            session._known = session._working.known()
            session._working.after_fork()


at_fork(before=_before_fork, after_in_child=_after_fork)
