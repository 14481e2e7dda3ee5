"""The session store on lakeFS: sessions are hidden branches whose names identify the owner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from versioned_zarr import process_identity
from versioned_zarr.backends.lakefs.api.client import LakefsCommit
from versioned_zarr.backends.lakefs.commits import commit_metadata
from versioned_zarr.backends.lakefs.commits.commit_writer import CommitWriter, StagedSession
from versioned_zarr.backends.lakefs.lakefs_context import LakefsContext
from versioned_zarr.backends.lakefs.lakefs_names import SESSION_PREFIX, session_branches, session_of
from versioned_zarr.backends.lakefs.sessions.lakefs_session import LakefsSession
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.engine.sessions.protocol import SessionInfo, SessionState
from versioned_zarr.errors import RefNotFoundError, SessionNotFoundError
from versioned_zarr.ipld.cid import Cid, from_text, to_text


class LakefsSessionStore:
    """See `versioned_zarr.engine.sessions.protocol.SessionStore`.

    Args:
        parts: the repository.
        commit_writer: is notified of staged writes.
    """

    def __init__(self, parts: LakefsContext, commit_writer: CommitWriter) -> None:
        self._parts, self._commit_writer = parts, commit_writer
        self._client, self._commits = parts.lakefs_folder.client, parts.commits

    def begin(self, head: SessionHead, root: Cid) -> LakefsSession:
        """See `SessionStore.begin`."""
        return LakefsSession(self._parts, head, root)

    def resume(self, session: str) -> LakefsSession:
        """See `SessionStore.resume`."""
        branch, head, base = self._find(session)
        return LakefsSession(self._parts, head, self._parts.tree_reader.tree_of(base).cid, branch)

    def mend(self, session: str) -> str | None:  # noqa: ARG002 - never damaged
        """See `SessionStore.mend`."""
        return None

    def publish(self, writing: SessionState, root: Cid) -> Sequence[Block]:
        """See `SessionStore.publish`: the values are already on the session's branch."""
        assert isinstance(writing, LakefsSession)
        base = self._commits.id_of(from_text(writing.state.base))
        branch = writing.branch
        if branch.name is not None and base is not None:
            changed = {
                key: None if now is None else now.cid for key, now in writing.state.tree.changed()
            }
            self._commit_writer.offer(branch, StagedSession(base, root, changed))
        return ()

    def _all(self, prefix: str = SESSION_PREFIX) -> Iterator[tuple[str, SessionHead, LakefsCommit]]:
        for branch, commit in self._client.branches(prefix, hidden=True):
            with suppress(RefNotFoundError):  # the session has ended
                base, purpose = self._base(commit)
                text = to_text(self._commits.cid_of(base))
                head = session_of(branch, text, purpose)
                if head is not None:
                    yield branch, head, base

    def _base(self, commit: str) -> tuple[LakefsCommit, str]:
        """The base commit of a session's branch, and the purpose of the session."""
        purpose = ""
        found = self._commits.find(commit)
        while commit_metadata.WORK in found.metadata:
            purpose = found.metadata.get(commit_metadata.PURPOSE, purpose)
            found = self._commits.find(found.parents[0])
        return found, purpose

    def _find(self, session: str) -> tuple[str, SessionHead, str]:
        for branch, head, base in self._all(session_branches(session)):
            if head.id == session:
                return branch, head, base.id
        raise SessionNotFoundError(
            f"no session {session!r} in {self._client.repository!r} on lakeFS; it was committed, "
            "deleted, or never wrote; open a new one with repo.session()",
            session=session,
        )

    def sessions(self) -> Sequence[SessionInfo]:
        """See `SessionStore.sessions`; one request per session and per 1000 of its keys."""
        return [self._info(branch, head) for branch, head, _ in self._all()]

    def _info(self, branch: str, head: SessionHead) -> SessionInfo:
        changes = list(self._client.uncommitted(branch, prefix=self._parts.lakefs_folder.prefix))
        return SessionInfo(
            id=head.id,
            branch=head.branch,
            base=head.base,
            author=head.author,
            started=head.started,
            last_write=max(head.started, self._last_write(branch, [c.path for c in changes[-1:]])),
            host=head.host,
            process=head.process,
            keys=len(changes),
            is_alive=_is_alive(head),
            purpose=head.purpose,
            size_bytes=sum(change.size for change in changes),
        )

    def _last_write(self, branch: str, paths: Sequence[str]) -> datetime:
        times = [0]
        for path in paths:
            stat = self._client.stat(branch, path)
            times.append(0 if stat is None else stat.mtime)
        return datetime.fromtimestamp(max(times), UTC)

    def info(self, session: str) -> SessionInfo:
        """See `SessionStore.info`."""
        branch, head, _ = self._find(session)
        return self._info(branch, head)

    def delete(self, session: str) -> None:
        """See `SessionStore.delete`."""
        branch, _, _ = self._find(session)
        self._client.delete_branch(branch)


def _is_alive(head: SessionHead) -> bool:
    """Whether the process that opened a session is alive, as far as this machine can tell."""
    return not process_identity.is_known_dead(head.incarnation)
