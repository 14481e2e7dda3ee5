"""Removing what nothing reaches, and joining small packs, beside running writers.

The order that makes it safe: new packs are durable before old ones go; old ones go only under
the lock that commits and re-used values share, after a last look at what was named meanwhile.
docs/design/concurrency.md tells why that is enough.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from versioned_zarr.blocks.catalogue import INDEX, PACKS, new_name, pack_path
from versioned_zarr.blocks.check import drop_damaged_indexes, finds_all
from versioned_zarr.blocks.pack import PackDraft, read_entries, recover_entries
from versioned_zarr.blocks.packed import GC_LOCK, HOUSE_LOCK, PackedStore
from versioned_zarr.blocks.store import Block
from versioned_zarr.errors import (
    CorruptBlockError,
    CorruptError,
    InvalidInputError,
    SessionNotFoundError,
)
from versioned_zarr.history.refs import KINDS
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.car import DATA_OFFSET, decode_varint
from versioned_zarr.ipld.cid import CID_SIZE, Cid
from versioned_zarr.repository.journal import SESSIONS, folder_of, read_head, session_ids
from versioned_zarr.repository.progress import OnProgress, Steps
from versioned_zarr.repository.reach import reach, ref_roots, session_roots
from versioned_zarr.repository.sessions import session_info
from versioned_zarr.repository.stores import Stores
from versioned_zarr.storage import look_at

TRANSFER_LOCK = "transfer"
"""Shared by transfers, which count on blocks to stay for longer than a commit should wait."""
PACK_LIMIT_BYTES = 512 << 20
SMALL_PACK_BYTES = 64 << 20
_TIERS_BYTES = (32 << 10, 512 << 10, 8 << 20)
_TIDY_PACKS = 16
_SWEPT = (PACKS, INDEX, "refs", SESSIONS)
_BATCH_BYTES = 1 << 20
_ABANDONED_AFTER = timedelta(days=1)


@dataclass(frozen=True)
class Collected:
    """What `gc` or `repack` did, or would do.

    Attributes:
        removed_blocks: how many blocks went.
        removed_bytes: how many bytes the packs shrank by.
        removed_packs: how many packs went.
        written_packs: how many packs came in their place.
        removed_sessions: how many sessions of dead processes that had written nothing went.
    """

    removed_blocks: int = 0
    removed_bytes: int = 0
    removed_packs: int = 0
    written_packs: int = 0
    removed_sessions: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain JSON data."""
        return dict(self.__dict__)


class _Found(NamedTuple):
    """A block in a pack."""

    cid: Cid
    start: int
    end: int


def _blocks_in(stores: Stores, pack: str) -> list[_Found]:
    """The blocks of a pack, in the order of their places."""
    path = pack_path(pack)
    data = look_at(stores.storage, path)
    try:
        entries, data_end = read_entries(data, stores.hash, path)
    except CorruptError:
        entries, data_end = recover_entries(data, stores.hash, path)
    found = []
    for offset in sorted(int(offset) + DATA_OFFSET for offset in entries["offset"]):
        length, at = decode_varint(data, offset, path)
        if offset + length > data_end:
            raise CorruptBlockError(
                f"{path} is damaged at byte {offset}; run 'vz fsck'", where=path
            )
        found.append(_Found(Cid(bytes(data[at : at + CID_SIZE])), at + CID_SIZE, at + length))
    return found


def _finds_all(stores: Stores, pack: str) -> bool:
    """Whether a pack may go once its blocks are copied; else it is left to be looked at."""
    path = pack_path(pack)
    return finds_all(look_at(stores.storage, path), stores.hash, path)


def _rewrite(
    stores: Stores,
    store: PackedStore,
    packs: Mapping[str, int],
    keep: Callable[[Cid], bool],
    steps: Steps,
) -> int:
    """Copy the blocks to keep into new packs, nodes apart from values; says how many packs.

    Raises:
        CorruptBlockError: a block is damaged; the packs are left as they are.
    """
    writers = {True: _Rewriter(stores, store), False: _Rewriter(stores, store)}
    seen: set[Cid] = set()
    digest_of = stores.hash.digest
    for pack, size in sorted(packs.items()):
        path = pack_path(pack)
        data = look_at(stores.storage, path)
        for cid, start, end in _blocks_in(stores, pack):
            if cid in seen or not keep(cid):
                continue
            block = data[start:end]
            if digest_of(block) != cid[-32:]:
                cids.check(cid, block, path)
            seen.add(cid)
            writers[cids.is_raw(cid)].add(cid, block)
        steps.add(size)
    for writer in writers.values():
        writer.finish()
    return sum(writer.written for writer in writers.values())


class _Rewriter:
    """Blocks going into new packs, a batch at a time."""

    def __init__(self, stores: Stores, store: PackedStore) -> None:
        self._stores, self._store = stores, store
        self._draft: PackDraft | None = None
        self._root: Cid | None = None
        self._batch: list[Block] = []
        self._batch_bytes = 0
        self.written = 0

    def add(self, cid: Cid, block: memoryview) -> None:
        """Copy a block."""
        self._batch.append((cid, block))
        self._batch_bytes += len(block)
        if self._batch_bytes >= _BATCH_BYTES:
            self._write()
            if self._draft is not None and self._draft.end > PACK_LIMIT_BYTES:
                self.finish()

    def _write(self) -> None:
        if self._draft is None:
            path = f"{PACKS}/{new_name()}.draft"
            self._draft = PackDraft(self._stores.storage.open_draft(path), self._stores.hash)
            self._root = self._batch[0][0]
        self._draft.write(self._draft.reserve(self._batch), self._batch)
        self._batch, self._batch_bytes = [], 0

    def finish(self) -> None:
        """Publish what was copied, if anything."""
        if self._batch:
            self._write()
        if self._draft is not None and self._root is not None:
            self._store.publish(self._draft, self._root)
            self._draft.draft.close()
            self._draft = None
            self.written += 1


def collect(
    stores: Stores, keep_reflog: timedelta, *, dry_run: bool, progress: OnProgress | None = None
) -> Collected:
    """See `Repository.gc`."""
    cutoff = _before_now(keep_reflog)
    with stores.storage.lock(HOUSE_LOCK):
        return _collect(stores, cutoff, dry_run=dry_run, progress=progress)


def _before_now(span: object) -> datetime:
    """The time so long ago; the first there is for whatever lies before it."""
    if not isinstance(span, timedelta) or span < timedelta(0):
        raise InvalidInputError(
            f"keep_reflog is a timedelta of zero or more, such as timedelta(days=30), not {span!r}"
        )
    try:
        return datetime.now(UTC) - span
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _collect(
    stores: Stores, cutoff: datetime, *, dry_run: bool, progress: OnProgress | None
) -> Collected:
    store = stores.blocks
    if not isinstance(store, PackedStore):
        return _forget(stores, cutoff, dry_run=dry_run, progress=progress)
    if not dry_run:
        drop_damaged_indexes(stores.storage, stores.hash)
    store.refresh()
    packs = {
        stored.path[len(PACKS) + 1 : -len(".car")]: stored.size
        for stored in stores.storage.list(PACKS)
        if stored.path.endswith(".car")
    }
    steps = Steps(sum(packs.values()), progress)
    live: set[bytes] = set()
    _mark(stores, cutoff, live)
    dead: dict[str, list[_Found]] = {}
    for pack, size in packs.items():
        blocks = [block for block in _blocks_in(stores, pack) if block.cid[-32:] not in live]
        if blocks and _finds_all(stores, pack):
            dead[pack] = blocks
        if pack not in dead or dry_run:
            steps.add(size)
    idle = _abandoned(stores)
    result = Collected(
        removed_blocks=sum(len(blocks) for blocks in dead.values()),
        removed_bytes=sum(end - start for blocks in dead.values() for _, start, end in blocks),
        removed_packs=len(dead),
        removed_sessions=len(idle),
    )
    if dry_run:
        return result
    sizes = {pack: packs[pack] for pack in dead}
    written = _rewrite(stores, store, sizes, lambda cid: cid[-32:] in live, steps)
    with stores.storage.lock(GC_LOCK):
        # What was named since the first look is named now, or by someone who waits for the lock.
        _mark(stores, cutoff, live)
        for pack, blocks in dead.items():
            if not any(block.cid[-32:] in live for block in blocks):
                stores.storage.delete(pack_path(pack))
        _forget_moves(stores, cutoff)
        _drop_abandoned(stores, idle)
    stores.storage.sweep(_SWEPT)
    store.refresh()
    store.catalogue.merge(everything=True)
    return Collected(**{**result.__dict__, "written_packs": written})


def _forget(
    stores: Stores, cutoff: datetime, *, dry_run: bool, progress: OnProgress | None
) -> Collected:
    """Let go of what old moves of refs hold on to; the server that keeps the blocks does the rest.

    A Kubo node, for one, removes what no ref reaches with its own `ipfs repo gc`.
    """
    Steps(0, progress)
    idle = _abandoned(stores)
    if not dry_run:
        _forget_moves(stores, cutoff)
        _drop_abandoned(stores, idle)
        stores.storage.sweep(_SWEPT)
    return Collected(removed_sessions=len(idle))


def _forget_moves(stores: Stores, cutoff: datetime) -> None:
    for kind in KINDS:
        for name in stores.refs.names(kind, deleted=True):
            stores.refs.forget(kind, name, cutoff)


def _abandoned(stores: Stores) -> list[str]:
    return [session for session in session_ids(stores.storage) if _is_abandoned(stores, session)]


def _drop_abandoned(stores: Stores, sessions: list[str]) -> None:
    for session in sessions:
        if _is_abandoned(stores, session):
            stores.storage.delete_folder(folder_of(session))


def _is_abandoned(stores: Stores, session: str) -> bool:
    """Whether a session holds nothing and nobody will come back to it."""
    try:
        info = session_info(stores, session)
    except SessionNotFoundError:
        return False
    except FileNotFoundError:
        # It was killed before its first record; until there is one there are no drafts either.
        return _is_left_bare(stores, session)
    if info.is_alive or info.keys or info.problem is not None:
        return False
    is_old = datetime.now(UTC) - info.last_write > _ABANDONED_AFTER
    return is_old or _is_known_dead(info.host, info.process)


def _is_left_bare(stores: Stores, session: str) -> bool:
    try:
        head = read_head(stores.storage, session)
    except SessionNotFoundError:
        return False
    found = stores.storage.list(folder_of(session))
    has_drafts = any(stored.path.endswith(".draft") for stored in found)
    return not has_drafts and _is_known_dead(head.host, head.process)


def _is_known_dead(host: str, process: int) -> bool:
    """Whether a process ran on this machine and is no more; others cannot be known."""
    if host != os.uname().nodename:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _mark(stores: Stores, cutoff: datetime, live: set[bytes]) -> None:
    commits, values = session_roots(stores)
    stores.blocks.refresh()
    reach(stores.blocks, {stores.empty_tree, *ref_roots(stores, cutoff), *commits}, live)
    # A value that only lies in a draft is not in the block store, and its blocks need no keeping.
    reach(stores.blocks, (cid for cid in values if cid in stores.blocks), live)


def repack(stores: Stores, progress: OnProgress | None = None) -> Collected:
    """See `Repository.repack`; nothing to do where no packs of ours are."""
    if not isinstance(stores.blocks, PackedStore):
        Steps(0, progress)
        return Collected()
    with stores.storage.lock(HOUSE_LOCK):
        drop_damaged_indexes(stores.storage, stores.hash)
        return _join(stores, 0, SMALL_PACK_BYTES, least=2, progress=progress)


def tidy(stores: Stores) -> None:
    """Join the packs of small commits once there are many of them.

    Packs are joined with others of their size, so that each block is copied a few times at most
    however many commits come. Not beside a transfer, which may take long.
    """
    store = stores.blocks
    if not isinstance(store, PackedStore) or not store.catalogue.wants_tidying(_TIDY_PACKS):
        return
    lock = stores.storage.lock
    with lock(HOUSE_LOCK, wait=False) as is_held, lock(TRANSFER_LOCK, wait=False) as is_free:
        lower = 0
        for upper in _TIERS_BYTES if is_held and is_free else ():
            _join(stores, lower, upper, least=_TIDY_PACKS)
            lower = upper


def _join(
    stores: Stores,
    lower_bytes: int,
    upper_bytes: int,
    *,
    least: int,
    progress: OnProgress | None = None,
) -> Collected:
    store = _packed(stores)
    with stores.storage.lock(GC_LOCK):
        small = {
            stored.path[len(PACKS) + 1 : -len(".car")]: stored.size
            for stored in stores.storage.list(PACKS)
            if stored.path.endswith(".car") and lower_bytes <= stored.size < upper_bytes
        }
        if len(small) >= least:
            small = {pack: size for pack, size in small.items() if _finds_all(stores, pack)}
        if len(small) < least:
            return Collected()
        before = sum(small.values())
        written = _rewrite(stores, store, small, lambda cid: True, Steps(before, progress))
        for pack in small:
            stores.storage.delete(pack_path(pack))
    store.refresh()
    store.catalogue.merge()
    after = sum(
        stored.size for stored in stores.storage.list(PACKS) if stored.path.endswith(".car")
    )
    return Collected(
        removed_bytes=max(0, before - after), removed_packs=len(small), written_packs=written
    )


def _packed(stores: Stores) -> PackedStore:
    assert isinstance(stores.blocks, PackedStore)
    return stores.blocks
