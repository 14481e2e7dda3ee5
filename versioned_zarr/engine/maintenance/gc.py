"""Garbage collection (gc): removes unreachable data, concurrently with writers.

Its order makes it safe. Log lines are dropped before the packs that only they reach. New packs are
durable before old ones are removed. Old packs are removed only under the lock that commits and
reused values share, after marking again. Packs without live blocks are removed first, which needs
no disk space. docs/design/concurrency.md explains why this is sufficient.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from versioned_zarr import process_identity
from versioned_zarr.blocks.packs.pack_format import PackBlock
from versioned_zarr.blocks.packs.pack_registry import INDEX, PACKS, pack_path
from versioned_zarr.blocks.packs.pack_store import GC_LOCK, MAINTENANCE_LOCK
from versioned_zarr.blocks.packs.verify_pack import drop_damaged_indexes
from versioned_zarr.blocks.protocol import PackedBlocks
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.maintenance.collected import Collected
from versioned_zarr.engine.maintenance.reachability import reach, roots_of
from versioned_zarr.engine.maintenance.repack import blocks_in, may_go, rewrite
from versioned_zarr.engine.progress import OnProgress, Steps
from versioned_zarr.engine.sessions.journal import (
    SESSIONS,
    folder_of,
    left_over,
    read_head,
    remove_session,
    session_ids,
)
from versioned_zarr.engine.sessions.listing import session_info
from versioned_zarr.errors import (
    BlockNotFoundError,
    CorruptError,
    InvalidInputError,
    SessionNotFoundError,
    StorageFullError,
    VersionedZarrError,
)
from versioned_zarr.history.commit_object import is_commit
from versioned_zarr.history.refs import KINDS
from versioned_zarr.ipld.cid import Cid

_SWEPT = (PACKS, INDEX, "refs", SESSIONS)


def collect(
    stores: RepositoryContext,
    keep_reflog: timedelta,
    *,
    dry_run: bool,
    progress: OnProgress | None = None,
) -> Collected:
    """See `Repository.gc`."""
    cutoff = _before_now(keep_reflog)
    with stores.storage.lock(MAINTENANCE_LOCK):
        if stores.collector is not None:
            marks = _RefMarks(stores, cutoff, spares=keep_reflog > timedelta(0))
            found = stores.collector.collect(marks, dry_run=dry_run, progress=progress)
            return replace(found, removed_sessions=_remove_idle(stores, dry_run=dry_run))
        if not isinstance(stores.blocks, PackedBlocks):
            return _forget(stores, cutoff, dry_run=dry_run, progress=progress)
        if not dry_run and drop_damaged_indexes(stores.storage, stores.hash):
            stores.blocks.rebuild_index()
        run = _Run.begin(stores, stores.blocks, cutoff, progress, keeps_all=dry_run)
        return run.found if dry_run else run.finish(cutoff)


def _before_now(span: object) -> datetime:
    """The current time minus a duration; the earliest possible time if that is out of range."""
    if not isinstance(span, timedelta) or span < timedelta(0):
        raise InvalidInputError(
            "keep_reflog must be a timedelta of zero or more, such as timedelta(days=30), not "
            f"{span!r}"
        )
    try:
        return datetime.now(UTC) - span
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


@dataclass
class _Run:
    """One collection: the result of the first mark, and the steps that use it.

    Attributes:
        stores: the repository.
        store: its blocks.
        packs: the packs that exist at the beginning, with their sizes in bytes.
        dead: the unreachable blocks of each pack that may be removed.
        whole: the packs that contain nothing else.
        idle: the sessions without writes whose processes are dead.
        found: the result.
        steps: reports progress.
    """

    stores: RepositoryContext
    store: PackedBlocks
    packs: dict[str, int]
    dead: dict[str, list[PackBlock]]
    whole: set[str]
    idle: list[str]
    found: Collected
    steps: Steps

    @classmethod
    def begin(
        cls,
        stores: RepositoryContext,
        store: PackedBlocks,
        cutoff: datetime,
        progress: OnProgress | None,
        *,
        keeps_all: bool,
    ) -> _Run:
        """The first mark, concurrent with writers."""
        store.refresh()
        packs = store.packs()
        steps = Steps(sum(packs.values()), progress)
        live: set[bytes] = set()
        problems = _mark(stores, cutoff, live, packs)
        dead: dict[str, list[PackBlock]] = {}
        whole: set[str] = set()
        for pack, size in packs.items():
            blocks = blocks_in(stores, pack)
            gone = [block for block in blocks if block.cid[-32:] not in live]
            if gone and may_go(stores, pack):
                dead[pack] = gone
                if len(gone) == len(blocks):
                    whole.add(pack)
            if pack not in dead or pack in whole or keeps_all:
                steps.add(size)
        idle = _abandoned(stores)
        found = Collected(
            removed_blocks=sum(map(len, dead.values())),
            removed_bytes=sum(end - start for blocks in dead.values() for _, start, end in blocks),
            removed_packs=len(dead),
            removed_sessions=len(idle),
            problems=problems,
        )
        return cls(stores, store, packs, dead, whole, idle, found, steps)

    def finish(self, cutoff: datetime) -> Collected:
        """Forget and remove, beginning with what needs no disk space."""
        stores = self.stores
        is_done = self._remove(self.whole, cutoff)
        if not is_done and self.whole:  # there was no space to rewrite logs; there may be now
            self._remove(self.whole, cutoff)
        mixed = {pack: self.packs[pack] for pack in self.dead.keys() - self.whole}
        written = 0
        if mixed:
            live: set[bytes] = set()
            _mark(stores, None, live, self.packs)
            new = rewrite(stores, self.store, mixed, lambda cid: cid[-32:] in live, self.steps)
            written = new.packs
            self._remove(mixed, cutoff)
        with stores.storage.lock(GC_LOCK):
            for session in self.idle:
                if _is_abandoned(stores, session):
                    remove_session(stores.storage, session)
        stores.storage.sweep(_SWEPT)
        self.store.refresh()
        self.store.merge_index(everything=True)
        return replace(self.found, written_packs=written)

    def _remove(self, packs: Collection[str], cutoff: datetime) -> bool:
        """Remove packs that are no longer needed; returns whether all logs are shortened.

        The remaining log entries protect their commits, so no entry names a missing commit.
        """
        stores = self.stores
        with stores.storage.lock(GC_LOCK):
            is_done = _forget_moves(stores, cutoff)
            # Commits and values named since the first mark are visible now, or wait for the lock.
            live: set[bytes] = set()
            _mark(stores, None, live, self.packs)
            for pack in packs:
                if not any(block.cid[-32:] in live for block in self.dead[pack]):
                    stores.storage.delete(pack_path(pack))
        return is_done


def _forget(
    stores: RepositoryContext, cutoff: datetime, *, dry_run: bool, progress: OnProgress | None
) -> Collected:
    """Drop old ref log entries; the server that stores the blocks does the rest.

    For example, a Kubo node removes unreachable blocks in its own `ipfs repo gc`.
    """
    Steps(0, progress)
    problems = roots_of(stores, cutoff).problems
    if not dry_run:
        _forget_moves(stores, cutoff)
    idle = _remove_idle(stores, dry_run=dry_run)
    if not dry_run:
        stores.storage.sweep(_SWEPT)
    return Collected(removed_sessions=idle, problems=tuple(problems))


class _RefMarks:
    """See `Marks`."""

    def __init__(self, stores: RepositoryContext, cutoff: datetime, *, spares: bool) -> None:
        self._stores, self._since = stores, cutoff
        self.cutoff = cutoff if spares else None

    def mark(self, *, everything: bool) -> tuple[set[bytes], tuple[str, ...]]:
        """See `Marks.mark`."""
        stores = self._stores
        roots = roots_of(stores, None if everything else self._since)
        live: set[bytes] = set()
        for cid in roots.commits - {stores.empty_tree}:
            try:
                stores.blocks.get(cid)
            except BlockNotFoundError:
                roots.problems.append(roots.missing(cid))
        if not roots.problems:
            here = {cid for cid in roots.values if cid in stores.blocks}
            reach(stores.blocks, roots.commits | here, live)
        return live, tuple(roots.problems)

    def forget(self) -> None:
        """See `Marks.forget`."""
        _forget_moves(self._stores, self._since)


def _remove_idle(stores: RepositoryContext, *, dry_run: bool) -> int:
    """Remove the idle sessions of this machine; returns how many there are."""
    idle = _abandoned(stores)
    for session in () if dry_run else idle:
        if _is_abandoned(stores, session):
            remove_session(stores.storage, session)
    return len(idle)


def _forget_moves(stores: RepositoryContext, cutoff: datetime) -> bool:
    """Shorten the logs of refs; returns whether there was space for all. Damaged logs are kept."""
    is_done = True
    for kind in KINDS:
        for name in stores.refs.names(kind, deleted=True):
            try:
                with suppress(CorruptError):
                    stores.refs.forget(kind, name, cutoff)
            except StorageFullError:
                is_done = False
    return is_done


def _abandoned(stores: RepositoryContext) -> list[str]:
    sessions = (*session_ids(stores.storage), *left_over(stores.storage))
    return [session for session in sessions if _is_abandoned(stores, session)]


def _is_abandoned(stores: RepositoryContext, session: str) -> bool:
    """Whether a session has no writes and the process that opened it is known to be dead."""
    storage = stores.storage
    try:
        head = read_head(storage, session)
    except SessionNotFoundError:  # only drafts of it are left
        drafts = storage.list(folder_of(session))
        return not any(_is_claimed_draft(stores, stored.path) for stored in drafts)
    except VersionedZarrError:
        return False
    if not process_identity.is_known_dead(head.incarnation):
        return False
    try:
        info = session_info(stores, session)
    except SessionNotFoundError:  # the process was killed before its first record
        return True
    return not (info.is_alive or info.keys or info.problem is not None)


def _is_claimed_draft(stores: RepositoryContext, path: str) -> bool:
    try:
        return path.endswith(".draft") and stores.storage.is_claimed(path)
    except FileNotFoundError:
        return False
    except VersionedZarrError:
        return True


def _mark(
    stores: RepositoryContext, cutoff: datetime | None, live: set[bytes], packs: Collection[str]
) -> tuple[str, ...]:
    """Mark everything that must be kept; returns the problems, for which all commits are kept.

    Args:
        stores: the repository.
        cutoff: entries of reflogs that were left before do not count; None if all count.
        live: the digests of what is kept; added to.
        packs: where to look for commits if there are problems.
    """
    roots = roots_of(stores, cutoff)
    stores.blocks.refresh()
    known = {cid for cid in roots.commits if cid in stores.blocks or cid == stores.empty_tree}
    for cid in roots.commits - known:
        roots.problems.append(roots.missing(cid))
    if roots.problems:
        known |= _all_commits(stores, packs)
    reach(stores.blocks, known, live)
    # A value that is only in a draft is not in the block store, and its blocks need no mark.
    reach(stores.blocks, (cid for cid in roots.values if cid in stores.blocks), live)
    return tuple(roots.problems)


def _all_commits(stores: RepositoryContext, packs: Collection[str]) -> set[Cid]:
    """Every commit in the packs whose history and tree are complete, named or not."""
    found: set[Cid] = set()
    for pack in packs:
        with suppress(FileNotFoundError):
            for block in blocks_in(stores, pack):
                with suppress(VersionedZarrError):
                    if is_commit(block.cid, stores.blocks):
                        reach(stores.blocks, [block.cid], set())
                        found.add(block.cid)
    return found
