"""Sessions that are in the repository from the start, as if they were shared at once."""

from __future__ import annotations

import pytest

from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.engine.sessions.protocol import SessionState
from versioned_zarr.engine.stored_sessions.stored_session_store import StoredSessionStore
from versioned_zarr.ipld.cid import Cid


def stored_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let repositories begin stored sessions."""

    def begin(self: StoredSessionStore, head: SessionHead, root: Cid) -> SessionState:
        del root
        return self._stored(head, exists=False)

    monkeypatch.setattr(StoredSessionStore, "begin", begin)
