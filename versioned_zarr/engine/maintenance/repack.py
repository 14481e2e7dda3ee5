"""Repack: combines small packs, and copies live blocks into new packs, concurrently with writers.

It also makes values contiguous. New packs are durable before old ones are removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from versioned_zarr.blocks.file_reader import get_verified
from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.packs.pack_format import PackBlock, blocks_of
from versioned_zarr.blocks.packs.pack_recovery import recover
from versioned_zarr.blocks.packs.pack_registry import PACKS, new_name, pack_path
from versioned_zarr.blocks.packs.pack_store import GC_LOCK, MAINTENANCE_LOCK
from versioned_zarr.blocks.packs.verify_pack import drop_damaged_indexes, finds_all
from versioned_zarr.blocks.protocol import Block, PackedBlocks, PlacedBlocks
from versioned_zarr.engine.context import TRANSFER_LOCK, RepositoryContext
from versioned_zarr.engine.maintenance.collected import Collected, WholeValue
from versioned_zarr.engine.maintenance.whole_values import whole_values
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


class Rewritten(NamedTuple):
    """The new packs: their number, and their total size in bytes."""

    packs: int
    size_bytes: int


def rewrite(
    stores: RepositoryContext,
    store: PackedBlocks,
    packs: Mapping[str, int],
    keep: Callable[[Cid], bool],
    steps: Steps,
    whole: Iterable[WholeValue] = (),
) -> Rewritten:
    """Copy live blocks into new packs, nodes separate from values.

    Args:
        stores: the repository.
        store: its blocks.
        packs: the old packs, with their sizes in bytes.
        keep: whether a block is live.
        steps: told of the size of each pack, and of each whole value.
        whole: live values that become contiguous.

    Raises:
        CorruptBlockError: a block is damaged; the packs are unchanged.
    """
    writers = {True: _Rewriter(stores, store), False: _Rewriter(stores, store)}
    try:
        return _rewrite(stores, packs, keep, steps, writers, whole)
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
    whole: Iterable[WholeValue],
) -> Rewritten:
    seen: set[Cid] = set()
    digest_of = stores.hash.digest
    for value in whole:
        writers[True].add_value(value.leaves)
        seen.update(value.leaves)
        steps.add(sum(value.sizes))
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
    return Rewritten(
        sum(writer.written for writer in writers.values()),
        sum(writer.written_bytes for writer in writers.values()),
    )


class _Rewriter:
    """Writes blocks into new packs, one batch at a time."""

    def __init__(self, stores: RepositoryContext, store: PackedBlocks) -> None:
        self._stores, self._store = stores, store
        self._draft: PackWriter | None = None
        self._root: Cid | None = None
        self._batch: list[Block] = []
        self._batch_bytes = 0
        self.written = 0
        self.written_bytes = 0

    def add(self, cid: Cid, block: memoryview) -> None:
        """Copy a block."""
        self._add(cid, block)
        if not self._batch:
            self._finish_if_full()

    def add_value(self, leaves: Sequence[Cid]) -> None:
        """Copy a value into one pack, contiguously.

        Raises:
            CorruptBlockError: a leaf is damaged.
        """
        for cid in leaves:
            self._add(cid, get_verified(self._store, cid, self._stores.storage.url))
        self._finish_if_full()

    def _add(self, cid: Cid, block: memoryview) -> None:
        self._batch.append((cid, block))
        self._batch_bytes += len(block)
        if self._batch_bytes >= _BATCH_BYTES:
            self._write()

    def _finish_if_full(self) -> None:
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
            size_bytes = self._draft.size_bytes
            self._store.publish(self._draft, self._root)
            self._draft.draft.close()
            self._draft = None
            self.written += 1
            self.written_bytes += size_bytes


def repack(stores: RepositoryContext, progress: OnProgress | None = None) -> Collected:
    """See `Repository.repack`; does nothing if the repository has no packs."""
    if stores.collector is not None and isinstance(stores.blocks, PlacedBlocks):
        with stores.storage.lock(MAINTENANCE_LOCK):
            whole = whole_values(stores, stores.blocks)
            return stores.collector.repack(whole, progress)
    if not isinstance(stores.blocks, PackedBlocks):
        Steps(0, progress)
        return Collected()
    with stores.storage.lock(MAINTENANCE_LOCK):
        if drop_damaged_indexes(stores.storage, stores.hash):
            stores.blocks.rebuild_index()
        stores.blocks.refresh()
        whole = whole_values(stores, stores.blocks)
        small = _between(stores.blocks, 0, SMALL_PACK_BYTES)
        return _join(stores, stores.blocks, small, whole, least=2, progress=progress)


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
            _join(stores, store, _between(store, lower, upper), (), least=_TIDY_PACKS)
            lower = upper


def _between(store: PackedBlocks, lower_bytes: int, upper_bytes: int) -> dict[str, int]:
    """The packs of some sizes."""
    return {pack: size for pack, size in store.packs().items() if lower_bytes <= size < upper_bytes}


def _join(
    stores: RepositoryContext,
    store: PackedBlocks,
    small: dict[str, int],
    whole: Sequence[WholeValue],
    *,
    least: int,
    progress: OnProgress | None = None,
) -> Collected:
    """Merge small packs, if there are enough of them, and make values whole.

    The maintenance lock is held, so no other process removes packs. Writers need not wait for the
    copies: everything that they may count on remains stored.
    """
    scattered = _packs_to_open(stores, store, whole)
    if len(small) >= least:
        small = {pack: size for pack, size in small.items() if may_go(stores, pack)}
    old = {**(small if len(small) >= least else {}), **scattered}
    if not old:
        return Collected()
    moved = [value for value in whole if _is_moved(store, value, old)]
    before = sum(old.values())
    steps = Steps(before + sum(sum(value.sizes) for value in moved), progress)
    new = rewrite(stores, store, old, lambda cid: True, steps, moved)
    with stores.storage.lock(GC_LOCK):
        for pack in old:
            stores.storage.delete(pack_path(pack))
    store.refresh()
    store.merge_index()
    return Collected(
        removed_bytes=max(0, before - new.size_bytes),
        removed_packs=len(old),
        written_packs=new.packs,
    )


def _packs_to_open(
    stores: RepositoryContext, store: PackedBlocks, whole: Iterable[WholeValue]
) -> dict[str, int]:
    """The packs from which leaves of scattered values are taken, with their sizes in bytes."""
    may: dict[str, bool] = {}
    names: set[str] = set()
    for value in whole:
        if value.pack is None:
            parts = store.packs_of(value.leaves)
            packs = set().union(*parts)
            may.update({pack: may_go(stores, pack) for pack in packs - may.keys()})
            if all(parts) and all(may[pack] for pack in packs):
                names |= packs
    return {pack: size for pack, size in store.packs().items() if pack in names} if names else {}


def _is_moved(store: PackedBlocks, value: WholeValue, old: Mapping[str, int]) -> bool:
    """Whether a value is written anew as a whole: all packs that have its leaves are replaced."""
    if value.pack is not None:
        return value.pack in old
    return all(packs and packs <= old.keys() for packs in store.packs_of(value.leaves))
