"""The session commit: turns the writes of a session into a commit on its branch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import takewhile
from typing import NamedTuple

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.commit import (
    BranchUpdate,
    CommitMessage,
    NewBlocks,
    Step,
    apply_changes,
    conflict_error,
    new_step,
)
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.merge.conflicts import CompetingWrite
from versioned_zarr.engine.hierarchy.merge.three_way import Conflict, Resolve, merge_trees
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.journal import RecordKind
from versioned_zarr.engine.sessions.protocol import (
    SessionState,
    SessionStore,
    StagingChangedError,
)
from versioned_zarr.errors import (
    BranchMovedError,
    ConflictError,
    NothingToCommitError,
    StorageError,
)
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.refs import HEADS, RefEntry, went_to
from versioned_zarr.ipld.cid import from_text, is_raw, to_text
from versioned_zarr.ipld.dag_pb import Link

_ATTEMPTS = 8
_RACES = 100
"""How often another process may commit the session first."""
_ADVICE = (
    "Two tasks wrote parts of one chunk: align the blocks of Dask with the chunks of Zarr, or its "
    "shards, as in x.rechunk(array.shards or array.chunks), and write again. For other keys, read "
    "the key and write the right value again in one process."
)


class CommitRequest(NamedTuple):
    """A request to commit a session.

    Attributes:
        message: the message and metadata of the commit.
        allow_empty: whether to commit even if nothing changed.
        may_merge: whether to merge with the changes of a branch that has moved.
        resolve: resolves conflicts; see `merge_trees`.
        dropped: lost writes of the session, one line each; shown if no change is left.
    """

    message: CommitMessage
    allow_empty: bool
    may_merge: bool
    resolve: Resolve
    dropped: Sequence[str] = ()


class SessionCommit(BranchUpdate):
    """See the module. If the branch has moved, the change is merged into it.

    Args:
        stores: the repository.
        store: stores the session.
        session: the writes that this process knows of; none of its threads writes meanwhile.
        request: the message of the commit, and its conditions.

    Attributes:
        base: the commit that the change is based on.
        root: the changed tree.

    Raises:
        ConflictError: two processes independently wrote different bytes to one key.
    """

    def __init__(
        self,
        stores: RepositoryContext,
        store: SessionStore,
        session: SessionState,
        request: CommitRequest,
    ) -> None:
        super().__init__(stores, session.head.branch)
        _check_rivals(session)
        self._store, self._session, self._request = store, session, request
        self._upto = session.consumed
        self._written = {entry.cid: entry for entry in session.state.entries.values()}
        sizes = {
            cid: entry.size
            for cid, entry in self._written.items()
            if not (entry.is_gone or is_raw(cid))
        }
        self._blocks = NewBlocks(stores, sizes)
        self.root = session.state.flush(self._blocks.put)
        self.base = stores.commit(session.state.base)
        self._is_stored = False

    def stage(self, head: Commit) -> Step:
        """See `BranchUpdate.stage`.

        Raises:
            BranchMovedError: the branch moved, and the request does not allow a merge.
            ConflictError: the branch moved, and its changes conflict with these.
        """
        root, blocks = self.root, list(self._blocks.items())
        if head.cid != self.base.cid:
            root, blocks = self._merged_into(head)
        return new_step(self.stores, root, blocks, [head], self._request.message)

    def _merged_into(self, head: Commit) -> tuple[Link, list[Block]]:
        """The tree of the branch with the change merged into it, and the blocks of both."""
        if not self._request.may_merge:
            raise BranchMovedError(
                f"branch {self.branch!r} moved from {self.base.cid} to {head.cid} since the "
                "session was opened; to merge the two, pass on_moved='merge'",
                branch=self.branch,
                expected=self.base.cid,
                found=head.cid,
            )
        merged = merge_trees(
            self._blocks.trees,
            base=from_text(self.base.tree),
            ours=from_text(head.tree),
            theirs=self.root.cid,
            read=self._read,
            resolve=self._request.resolve,
            unaware=lambda key: not self._session.state.was_read(key),
        )
        if merged.conflicts:
            raise conflict_error(merged.conflicts, f"branch {self.branch!r}", "this session")
        # Nodes of the unmerged tree are not needed, but its new values may be.
        return apply_changes(self.stores, from_text(head.tree), merged.changes, self._blocks)

    def _read(self, link: Link) -> bytes:
        """All bytes of a value in a merge, which the session may have written."""
        written = self._written.get(link.cid)
        if written is None:
            return self.stores.read_link(link)
        return bytes(self._session.read_found(written))

    def publish(self, step: Step) -> None:
        """See `BranchUpdate.publish`; later attempts reuse what the first attempt stored."""
        if not self._is_stored:
            self.stores.blocks.expect(step.blocks)
            values = self._store.publish(self._session, self.root.cid)
            self._is_stored = True
            step = step._replace(blocks=[*values, *step.blocks])
        super().publish(step)
        if self._session.exists:
            self._session.note(RecordKind.INTENT, from_text(step.commit.cid), self._upto)

    def unpublished(self) -> None:
        """See `BranchUpdate.unpublished`: the session still has its values."""
        self._is_stored = False

    def record(self, commit: Commit) -> None:
        """See `BranchUpdate.record`: from now on, the session is based on the commit."""
        self._session.note(RecordKind.COMMIT, from_text(commit.cid), self._upto)
        self._session.drop_drafts()


def _check_rivals(session: SessionState) -> None:
    conflicts = []
    name_of = cache(session.writer_name)
    for key, rivals in session.state.rivals():
        writes = tuple(_competing(name_of(rival.writer), rival) for rival in rivals)
        kind = "written twice" if len(rivals) > 1 else "value above or below another"
        conflicts.append(Conflict(key, kind, None, writes[0].cid, writes[-1].cid, writes=writes))
    if conflicts:
        raise conflict_error(
            conflicts,
            "what one process wrote",
            "what another wrote without having read it",
            _ADVICE,
        )


def _competing(writer: str, rival: PendingWrite) -> CompetingWrite:
    if rival.is_gone:
        return CompetingWrite(writer, None, None)
    return CompetingWrite(writer, rival.size, to_text(rival.cid))


def commit_session(
    stores: RepositoryContext,
    store: SessionStore,
    session: SessionState,
    request: CommitRequest,
) -> Commit:
    """Commit the writes of a session; no thread of this process writes meanwhile.

    If other processes write on a server meanwhile, their writes are read and committed too.

    Raises:
        NothingToCommitError: nothing changed.
        StorageError: other processes keep writing.
        ConflictError: see `SessionCommit`.
        BranchMovedError: the branch moved, and the request does not allow a merge.
    """
    left, races = _ATTEMPTS, _RACES
    while left and races:
        base = session.state.base
        try:
            return _commit_once(stores, store, session, request)
        except StagingChangedError:
            left -= 1
            session.look_again()
        except (ConflictError, BranchMovedError):
            races -= 1
            if not _was_committed_elsewhere(stores, session, base):
                raise
    raise StorageError(
        f"session {session.head.id} cannot be committed while other processes keep writing to it; "
        "let them finish, and commit again; nothing was committed",
        where=stores.storage.url,
    )


def _was_committed_elsewhere(stores: RepositoryContext, session: SessionState, base: str) -> bool:
    """Whether the branch moved because another process has committed this session meanwhile."""
    session.look_again()
    return _already_committed(stores, session) is not None or session.state.base != base


def _commit_once(
    stores: RepositoryContext,
    store: SessionStore,
    session: SessionState,
    request: CommitRequest,
) -> Commit:
    session.refresh()
    done = _already_committed(stores, session)
    if done is not None and not session.state.has_changes:
        session.drop_drafts()
        return done
    update = SessionCommit(stores, store, session, request)
    if update.root.cid == session.state.root and not request.allow_empty:
        if done is not None:
            return done
        lost = "".join(f"; {each}" for each in request.dropped)
        raise NothingToCommitError(
            f"nothing to commit: nothing changed on {session.head.branch!r} since "
            f"{update.base.cid}; pass allow_empty=True to commit anyway{lost}",
            branch=session.head.branch,
        )
    return update.run()


def _since(commit: str, history: Iterable[RefEntry]) -> Iterable[RefEntry]:
    """The moves of a branch that are newer than a commit."""
    cid = from_text(commit)
    return takewhile(lambda entry: entry.commit != cid, history)


def _already_committed(stores: RepositoryContext, session: SessionState) -> Commit | None:
    """The commit that a process was about to make when it died, if it was made.

    The session is then based on it; later writes are still to be committed.
    """
    branch, intents = session.head.branch, session.state.intents
    if not intents:
        return None
    moves = list(_since(session.state.base, stores.refs.history(HEADS, branch)))
    # Of several processes, one may have died.
    intent = next((each for each in reversed(intents) if went_to(moves, each.cid)), None)
    if intent is None:
        return None
    stores.refs.settle(HEADS, branch)  # the process that moved it may have died too early
    session.note(RecordKind.COMMIT, intent.cid, intent.seen)
    return stores.commit(to_text(intent.cid))
