"""The local session store: sessions with a journal and staged packs on a `Storage`."""

from __future__ import annotations

from collections.abc import Sequence

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.sessions.journal import SessionHead, folder_of, read_head
from versioned_zarr.engine.sessions.listing import (
    cut_journal,
    delete_session,
    list_sessions,
    session_info,
)
from versioned_zarr.engine.sessions.local_session import LocalSession
from versioned_zarr.engine.sessions.protocol import SessionInfo, SessionState
from versioned_zarr.engine.sessions.seal import publish_values
from versioned_zarr.errors import CorruptJournalError
from versioned_zarr.ipld.cid import Cid, from_text


class LocalSessionStore:
    """See `versioned_zarr.engine.sessions.protocol.SessionStore`."""

    def __init__(self, stores: RepositoryContext) -> None:
        self._stores = stores

    def begin(self, head: SessionHead, root: Cid) -> LocalSession:
        """See `SessionStore.begin`."""
        return self._working(head, root, exists=False)

    def resume(self, session: str) -> LocalSession:
        """See `SessionStore.resume`."""
        head = read_head(self._stores.storage, session)
        self._stores.blocks.refresh()
        root = self._stores.tree_of(from_text(head.base))
        try:
            return self._working(head, root, exists=True)
        except FileNotFoundError as error:
            raise CorruptJournalError(
                f"session {session!r} of {self._stores.storage.url!r} has no journal, so what "
                f"it wrote is unknown; delete it with repo.sessions.delete({session!r})",
                session=session,
                where=folder_of(session),
            ) from error

    def mend(self, session: str) -> str | None:
        """See `SessionStore.mend`."""
        return cut_journal(self._stores.storage, session)

    def _working(self, head: SessionHead, root: Cid, *, exists: bool) -> LocalSession:
        stores = self._stores
        return LocalSession(
            stores.storage,
            stores.blocks,
            stores.trees,
            head,
            root,
            exists=exists,
            tree_of=stores.tree_of,
        )

    def publish(
        self,
        writing: SessionState,
        root: Cid,  # noqa: ARG002 - a pack holds any tree
    ) -> Sequence[Block]:
        """See `SessionStore.publish`."""
        assert isinstance(writing, LocalSession)
        return publish_values(self._stores, writing)

    def sessions(self) -> Sequence[SessionInfo]:
        """See `SessionStore.sessions`."""
        return list_sessions(self._stores)

    def info(self, session: str) -> SessionInfo:
        """See `SessionStore.info`."""
        return session_info(self._stores, session)

    def delete(self, session: str) -> None:
        """See `SessionStore.delete`."""
        delete_session(self._stores, session)
