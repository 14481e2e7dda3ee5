"""Repack: combines small packs, and copies live blocks into new packs, concurrently with writers.

New packs are durable before old ones are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.packs.pack_format import PackBlock, blocks_of
from versioned_zarr.blocks.packs.pack_recovery import recover
from versioned_zarr.blocks.packs.pack_registry import PACKS, new_name, pack_path
from versioned_zarr.blocks.packs.pack_store import GC_LOCK, MAINTENANCE_LOCK
from versioned_zarr.blocks.packs.verify_pack import drop_damaged_indexes, finds_all
from versioned_zarr.blocks.protocol import Block, PackedBlocks
from versioned_zarr.engine.context import TRANSFER_LOCK, RepositoryContext
from versioned_zarr.engine.maintenance.collected import Collected
from versioned_zarr.engine.progress import OnProgress, Steps
from versioned_zarr.errors import VersionedZarrError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.protocol import view_or_read

PACK_LIMIT_BYTES = 512 << 20
SMALL_PACK_BYTES = 64 << 20
_TIERS_BYTES = (32 << 10, 512 << 10, 8 << 20)
_TIDY_PACKS = 16
_BATCH_BYTES = 1 << 20


def blocks_in(stores: RepositoryContext, pack: str) -> list[PackBlock]:
    """The blocks of a pack, in the order of their offsets."""
    path = pack_path(pack)
    found = recover(view_or_read(stores.storage, path), stores.hash, path)
    return blocks_of(found.entries, stores.hash.code)


def may_go(stores: RepositoryContext, pack: str) -> bool:
    """Whether a pack may be removed once its blocks are copied; if not, it is kept as it is."""
    path = pack_path(pack)
    return finds_all(view_or_read(stores.storage, path), stores.hash, path)


def rewrite(
    stores: RepositoryContext,
    store: PackedBlocks,
    packs: Mapping[str, int],
    keep: Callable[[Cid], bool],
    steps: Steps,
) -> int:
    """Copy live blocks into new packs, nodes separate from values; returns the number of packs.

    Raises:
        CorruptBlockError: a block is damaged; the packs are unchanged.
    """
    writers = {True: _Rewriter(stores, store), False: _Rewriter(stores, store)}
    try:
        return _rewrite(stores, packs, keep, steps, writers)
    except BaseException:
        for writer in writers.values():
            writer.give_up()
        raise


def _rewrite(
    stores: RepositoryContext,
    packs: Mapping[str, int],
    keep: Callable[[Cid], bool],
    steps: Steps,
    writers: Mapping[bool, _Rewriter],
) -> int:
    seen: set[Cid] = set()
    digest_of = stores.hash.digest
    for pack, size in sorted(packs.items()):
        path = pack_path(pack)
        data = view_or_read(stores.storage, path)
        for cid, start, end in blocks_in(stores, pack):
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
    """Writes blocks into new packs, one batch at a time."""

    def __init__(self, stores: RepositoryContext, store: PackedBlocks) -> None:
        self._stores, self._store = stores, store
        self._draft: PackWriter | None = None
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
            self._draft = PackWriter(self._stores.storage.open_draft(path), self._stores.hash)
            self._root = self._batch[0][0]
        self._draft.write(self._draft.reserve(self._batch), self._batch)
        self._batch, self._batch_bytes = [], 0

    def give_up(self) -> None:
        """Remove the copies that are not published."""
        draft, self._draft = self._draft, None
        if draft is not None:
            draft.draft.close()
            with suppress(VersionedZarrError):
                self._stores.storage.delete(draft.path)

    def finish(self) -> None:
        """Publish the copies, if there are any."""
        if self._batch:
            self._write()
        if self._draft is not None and self._root is not None:
            self._store.publish(self._draft, self._root)
            self._draft.draft.close()
            self._draft = None
            self.written += 1


def repack(stores: RepositoryContext, progress: OnProgress | None = None) -> Collected:
    """See `Repository.repack`; does nothing if the repository has no packs."""
    if stores.collector is not None:
        with stores.storage.lock(MAINTENANCE_LOCK):
            return stores.collector.repack(progress)
    if not isinstance(stores.blocks, PackedBlocks):
        Steps(0, progress)
        return Collected()
    with stores.storage.lock(MAINTENANCE_LOCK):
        if drop_damaged_indexes(stores.storage, stores.hash):
            stores.blocks.rebuild_index()
        return _join(stores, stores.blocks, 0, SMALL_PACK_BYTES, least=2, progress=progress)


def tidy(stores: RepositoryContext) -> None:
    """Merge the packs of small commits once there are many.

    Packs are merged with others of similar size, so that each block is copied only a few times,
    however many commits there are. Not during a transfer, which may take long.
    """
    store = stores.blocks
    if not isinstance(store, PackedBlocks) or not store.is_scattered(_TIDY_PACKS):
        return
    lock = stores.storage.lock
    with lock(MAINTENANCE_LOCK, wait=False) as is_held, lock(TRANSFER_LOCK, wait=False) as is_free:
        lower = 0
        for upper in _TIERS_BYTES if is_held and is_free else ():
            _join(stores, store, lower, upper, least=_TIDY_PACKS)
            lower = upper


def _join(
    stores: RepositoryContext,
    store: PackedBlocks,
    lower_bytes: int,
    upper_bytes: int,
    *,
    least: int,
    progress: OnProgress | None = None,
) -> Collected:
    with stores.storage.lock(GC_LOCK):
        small = {
            pack: size for pack, size in store.packs().items() if lower_bytes <= size < upper_bytes
        }
        if len(small) >= least:
            small = {pack: size for pack, size in small.items() if may_go(stores, pack)}
        if len(small) < least:
            return Collected()
        before = sum(small.values())
        written = rewrite(stores, store, small, lambda cid: True, Steps(before, progress))
        for pack in small:
            stores.storage.delete(pack_path(pack))
    store.refresh()
    store.merge_index()
    after = sum(store.packs().values())
    return Collected(
        removed_bytes=max(0, before - after), removed_packs=len(small), written_packs=written
    )
