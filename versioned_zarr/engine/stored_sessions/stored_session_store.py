"""The session store of a repository that many machines share, over the spool of this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from versioned_zarr import process_identity
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.sessions.journal import SessionHead, head_in
from versioned_zarr.engine.sessions.local_session import LocalSession
from versioned_zarr.engine.sessions.local_session_store import LocalSessionStore
from versioned_zarr.engine.sessions.protocol import SessionInfo, SessionState
from versioned_zarr.engine.stored_sessions.session_log import SessionLog
from versioned_zarr.engine.stored_sessions.spooled_session import SpooledSession
from versioned_zarr.engine.stored_sessions.stored_session import StoredSession
from versioned_zarr.errors import (
    CorruptError,
    CorruptJournalError,
    CorruptRefError,
    SessionNotFoundError,
)
from versioned_zarr.history.refs import HEADS
from versioned_zarr.ipld.cid import Cid, from_text

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class StoredSessionStore:
    """See `versioned_zarr.engine.sessions.protocol.SessionStore`.

    Args:
        stores: the repository.
        log: stores the sessions that several processes share.
    """

    def __init__(self, stores: RepositoryContext, log: SessionLog) -> None:
        self._stores, self._log = stores, log
        self._local = LocalSessionStore(stores)

    def begin(self, head: SessionHead, root: Cid) -> SessionState:
        """See `SessionStore.begin`: it is local until it is shared."""
        return self._spooled(self._local.begin(head, root))

    def _spooled(self, local: LocalSession) -> SpooledSession:
        return SpooledSession(
            local, lambda head: self._stored(head, exists=False), self._find_stored
        )

    def _find_stored(self, session: str) -> StoredSession | None:
        try:
            return self._stored(self._head(session), exists=True)
        except SessionNotFoundError:
            return None

    def _stored(self, head: SessionHead, *, exists: bool) -> StoredSession:
        stores = self._stores
        if exists:
            # The branch says where its blocks are; without it, every pack would be looked at.
            with suppress(CorruptRefError):
                stores.refs.read(HEADS, head.branch)
        return StoredSession(
            self._log,
            stores.blocks,
            stores.trees,
            head,
            stores.tree_of(from_text(head.base)),
            tree_of=stores.tree_of,
            exists=exists,
        )

    def resume(self, session: str) -> SessionState:
        """See `SessionStore.resume`: one request if this machine has no such session."""
        try:
            return self._spooled(self._local.resume(session))
        except SessionNotFoundError:
            return self._stored(self._head(session), exists=True)
        except CorruptJournalError:
            # It has no journal if a process was killed after it had stored the session.
            found = self._find_stored(session)
            if found is None:
                raise
            self._local.delete(session)
            return found

    def _head(self, session: str) -> SessionHead:
        """The head of a session that has not ended.

        Raises:
            SessionNotFoundError: there is no such session.
        """
        url = self._log.url
        if not _ID.fullmatch(session):
            raise _no_session(session, url)
        try:
            head = head_in(self._log.head(session), session, f"session {session} of {url}")
        except FileNotFoundError:
            raise _no_session(session, url) from None
        if self._log.is_ended(session):
            raise _no_session(session, url)
        return head

    def mend(self, session: str) -> str | None:
        """See `SessionStore.mend`; stored sessions are never damaged by a crash."""
        try:
            return self._local.mend(session)
        except SessionNotFoundError:
            return None

    def publish(self, writing: SessionState, root: Cid) -> Sequence[Block]:
        """See `SessionStore.publish`: what is stored is not stored again."""
        assert isinstance(writing, SpooledSession | StoredSession)
        now = writing.now if isinstance(writing, SpooledSession) else writing
        if isinstance(now, LocalSession):
            return self._local.publish(now, root)
        now.publish()
        return ()

    def sessions(self) -> Sequence[SessionInfo]:
        """See `SessionStore.sessions`; a request or two for each batch of a stored session."""
        found = {info.id: info for info in self._local.sessions()}
        for session in self._log.ids():
            if session not in found or found[session].problem is not None:
                with suppress(SessionNotFoundError):
                    found[session] = self._info(session)
        return [found[session] for session in sorted(found)]

    def info(self, session: str) -> SessionInfo:
        """See `SessionStore.info`; a request or two for each of its batches."""
        try:
            return self._local.info(session)
        except SessionNotFoundError:
            return self._info(session)

    def _info(self, session: str) -> SessionInfo:
        try:
            head = self._head(session)
        except CorruptJournalError as error:
            return _damaged(session, str(error))
        state = self._stored(head, exists=True)
        problem: str | None = None
        try:
            state.refresh()
        except CorruptError as error:
            problem = str(error)
        finally:
            self._log.forget(session)
        if state.closed is not None:
            raise _no_session(session, self._log.url)
        last_write_s = max(state.last_write_s, head.started.timestamp())
        return SessionInfo(
            id=head.id,
            branch=head.branch,
            base=state.state.base,
            author=head.author,
            started=head.started,
            last_write=datetime.fromtimestamp(last_write_s, UTC),
            host=head.host,
            process=head.process,
            keys=len(state.state.entries),
            is_alive=not process_identity.is_known_dead(head.incarnation),
            purpose=head.purpose,
            problem=problem,
            size_bytes=sum(it.size for it in state.state.entries.values() if not it.is_gone),
        )

    def delete(self, session: str) -> None:
        """See `SessionStore.delete`."""
        is_local = True
        try:
            self._local.delete(session)
        except SessionNotFoundError:
            is_local = False
        try:
            self._head(session)
        except SessionNotFoundError:
            if is_local:
                return
            raise
        except CorruptJournalError:
            pass  # it can be deleted
        self._log.end(session)


def _damaged(session: str, problem: str) -> SessionInfo:
    began = datetime.fromtimestamp(0, UTC)
    return SessionInfo(
        id=session,
        branch="",
        base="",
        author="",
        started=began,
        last_write=began,
        host="",
        process=0,
        keys=0,
        is_alive=False,
        problem=problem,
    )


def _no_session(session: str, url: str) -> SessionNotFoundError:
    return SessionNotFoundError(
        f"no session {session!r} in {url}; it was committed, deleted, or never wrote; "
        "open a new one with repo.session()",
        session=session,
    )
