"""Open sessions: the states of sessions that this process holds, and the mapping of all by id."""

from __future__ import annotations

from collections.abc import ItemsView, ValuesView
from typing import TypeVar, overload

from versioned_zarr.engine.live_mapping import LiveMapping
from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.engine.sessions.protocol import SessionInfo, SessionState, SessionStore
from versioned_zarr.errors import InvalidInputError, SessionNotFoundError
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.lru_cache import LruCache

_REMEMBERED_SESSIONS = 8
T = TypeVar("T")


class OpenSessions:
    """The states of the sessions that this process used most recently. Thread-safe."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self._states: LruCache[str, SessionState] = LruCache(_REMEMBERED_SESSIONS)

    def begin(self, head: SessionHead, root: Cid) -> SessionState:
        """The state of a new session, based on a tree."""
        state = self.store.begin(head, root)
        self._states.put(state.head.id, state)
        return state

    def state_of(self, id: str) -> SessionState:
        """The state, in this process, of a session that another process may have opened.

        Raises:
            SessionNotFoundError: it has ended, or never wrote.
        """
        found = self._states.get(id)
        if found is not None and found.closed is None:
            return found
        state = self.store.resume(id)
        self._states.put(state.head.id, state)
        return state

    def forget(self, id: str) -> None:
        """Drop the state of a session that has ended."""
        self._states.pop(id)

    def delete(self, id: str) -> None:
        """See `Sessions.delete`."""
        state = self._states.pop(id)  # on failure, the session is resumed from storage
        self.store.delete(id)
        if state is not None:
            state.end("was deleted", keep_folder=False)


class Sessions(LiveMapping[SessionInfo]):
    """The uncommitted sessions of live and dead processes: a Mapping by id, oldest first.

    `values` and `items` list them once and do not change afterward.
    """

    def __init__(self, open_sessions: OpenSessions) -> None:
        super().__init__()
        self._open = open_sessions

    def _names(self) -> list[str]:
        return [info.id for info in self._open.store.sessions()]

    def __getitem__(self, id: str) -> SessionInfo:
        return self._open.store.info(check_id(id))

    @overload
    def get(self, id: str, default: None = None, /) -> SessionInfo | None: ...

    @overload
    def get(self, id: str, default: SessionInfo | T, /) -> SessionInfo | T: ...

    def get(self, id: str, default: SessionInfo | T | None = None, /) -> SessionInfo | T | None:
        """The session of this id; the default if it does not exist or the id is not valid."""
        try:
            return self[id]
        except (InvalidInputError, SessionNotFoundError):
            return default

    def __contains__(self, id: object) -> bool:
        return isinstance(id, str) and self.get(id) is not None

    def values(self) -> ValuesView[SessionInfo]:
        """The current sessions."""
        return self._infos().values()

    def items(self) -> ItemsView[str, SessionInfo]:
        """The current ids and sessions."""
        return self._infos().items()

    def _infos(self) -> dict[str, SessionInfo]:
        return {info.id: info for info in self._open.store.sessions()}

    def __repr__(self) -> str:
        return f"<Sessions {list(self)!r}>"

    def delete(self, id: str) -> None:
        """Delete a session and its writes.

        Raises:
            SessionNotFoundError: there is no such session.
            InvalidInputError: the id is not valid.
        """
        self._open.delete(check_id(id))


def check_id(id: str) -> str:
    """The id of a session, if it is text.

    Raises:
        InvalidInputError: it is not text.
    """
    if not isinstance(id, str):
        raise InvalidInputError(f"a session's id is a string, not {id!r}")
    return id
