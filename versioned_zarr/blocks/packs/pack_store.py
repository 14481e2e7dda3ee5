"""The pack store: a block store that keeps blocks in packs on a `Storage`.

Its `PackRegistry` knows the location of each block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from versioned_zarr.blocks.buffer_pool import BufferPool
from versioned_zarr.blocks.file_reader import check_size
from versioned_zarr.blocks.packs.index import BlockLocation
from versioned_zarr.blocks.packs.pack import pack_of
from versioned_zarr.blocks.packs.pack_registry import PackRegistry, new_name, pack_names, pack_path
from versioned_zarr.blocks.protocol import Block, ByteRange, Followable, Publishable
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid, HashFunction, matches
from versioned_zarr.storage.protocol import PackStorage, view_or_read

GC_LOCK = "gc"
"""Shared by operations that rely on existing blocks; exclusive while packs are removed."""
MAINTENANCE_LOCK = "housekeeping"
"""Only one process removes packs at a time, so that the packs do not change in between."""
_ALL_LOCAL = contextlib.nullcontext()
_BUFFERS = BufferPool()


class PackStore:
    """A `BlockStore` of packs. Thread-safe; many processes may share the storage."""

    is_remote = False

    def __init__(self, storage: PackStorage, hash_function: HashFunction, *, verify: bool) -> None:
        self.storage = storage
        self.hash = hash_function
        self.verify = verify
        self.registry = PackRegistry(storage, hash_function)

    # Reading

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`."""
        data = self.find_known(cid)
        if data is None and self.refresh():
            data = self.find_known(cid)
        if data is None and self.registry.look_again():
            data = self.find_known(cid)
        if data is None or (self.verify and not cids.matches(cid, data)):
            data = self._find_sound(cid)
        return data

    def find(self, cid: Cid) -> memoryview | None:
        """The bytes of a block, or None if it is missing; not verified."""
        data = self.find_known(cid)
        return self.find_known(cid) if data is None and self.refresh() else data

    def find_known(self, cid: Cid) -> memoryview | None:
        """Like `find`, in the packs that this process knows; does not look for new ones."""
        place = self.registry.find(cid)
        return None if place is None else self._read(place.pack, place.start, place.size)

    def _read(self, pack: str, start: int, size: int) -> memoryview | None:
        """The bytes of a pack from `start` on; None if it is gone or ends before that."""
        try:
            data = view_or_read(self.storage, pack_path(pack), start, start + size)
        except FileNotFoundError:
            return None
        return data if len(data) == size else None

    def get_joined(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """See `BlockStore.get_joined`; without a copy if the blocks are contiguous."""
        place = self._side_by_side(cids, sizes_bytes)
        found = None if place is None else self._read(*place)
        if found is not None and (not self.verify or _is_sound(cids, sizes_bytes, found)):
            return found
        blocks = [self.get(cid) for cid in cids]
        for cid, size, block in zip(cids, sizes_bytes, blocks, strict=True):
            check_size(cid, len(block), size)
        joined = _BUFFERS.take(sum(sizes_bytes))
        at = 0
        for block in blocks:
            joined[at : at + len(block)] = block
            at += len(block)
        return joined.toreadonly()

    def locate(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> ByteRange | None:
        """See `LocatedBlocks.locate`."""
        place = self._side_by_side(cids, sizes_bytes)
        if place is None:
            return None
        return ByteRange(f"{self.storage.url}/{pack_path(place.pack)}", place.start, place.size)

    def _side_by_side(
        self, cids: Sequence[Cid], sizes_bytes: Sequence[int]
    ) -> BlockLocation | None:
        """The location of blocks of these sizes, if they are contiguous."""
        first = self.registry.find(cids[0])
        if first is None or first.size != sizes_bytes[0]:
            return None
        end = first.start + first.size
        for cid, size in zip(cids[1:], sizes_bytes[1:], strict=True):
            wanted = BlockLocation(first.pack, end, size)
            # Another pack may contain it, too.
            if self.registry.find(cid) != wanted and wanted not in self.registry.find_all(cid):
                return None
            end += size
        return BlockLocation(first.pack, first.start, end - first.start)

    def _find_sound(self, cid: Cid) -> memoryview:
        """The block from any location where it is intact; otherwise an error says what is wrong."""
        text, damaged = cids.to_text(cid), None
        for place in self.registry.find_all(cid):
            try:
                path, start = pack_path(place.pack), place.start
                data = view_or_read(self.storage, path, start, start + place.size)
            except FileNotFoundError:
                continue
            if cids.matches(cid, data):
                return data
            if len(data) == place.size:  # else the pack was truncated
                damaged = path
        if damaged is not None:
            raise CorruptBlockError(
                f"block {text} is damaged in {damaged} of {self.storage.url}; "
                "fetch it from another copy of the repository; 'vz fsck' shows what it affects",
                cid=text,
                where=damaged,
            )
        raise BlockNotFoundError(
            f"block {text} is not in {self.storage.url}; "
            "'vz fsck' lists the missing blocks and the commits that they affect",
            cid=text,
        )

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`."""
        return self.registry.find(cid) is not None

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`: checks the folder of packs once, then the index."""
        self.refresh()
        return [cid for cid in wanted if cid not in self]

    def refresh(self) -> bool:
        """Look for new packs and index files; returns whether there were changes."""
        return self.registry.refresh()

    # Writing

    def follow(self, draft: Followable) -> None:
        """See `BlockStore.follow`: nothing to do, the draft is already in the storage."""

    def expect(self, blocks: Sequence[Block]) -> None:
        """See `BlockStore.expect`: nothing to do."""

    def put(self, blocks: Sequence[Block], root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.put`: one new pack; `durable` as in `Storage.put`."""
        name = new_name()
        self.storage.put(pack_path(name), pack_of(blocks, root, self.hash), durable=durable)
        self.registry.learn(name)

    def publish(self, draft: Publishable, root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.publish`; `durable` as in `Storage.put`."""
        name = new_name()
        draft.publish(pack_path(name), root, durable=durable)
        self.registry.learn(name)

    @contextlib.contextmanager
    def keep(self, cids_: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: delays the last step of `gc` and `repack`."""
        with self.storage.lock(GC_LOCK, shared=True):
            wanted = list(cids_)
            if wanted:
                self.refresh()
            yield all(cid in self for cid in wanted)

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`: every block is local."""
        return _ALL_LOCAL

    # Maintenance

    def packs(self) -> dict[str, int]:
        """See `PackedBlocks.packs`."""
        return pack_names(self.storage)

    def is_scattered(self, packs: int) -> bool:
        """See `PackedBlocks.is_scattered`."""
        return self.registry.wants_tidying(packs)

    def rebuild_index(self) -> None:
        """See `PackedBlocks.rebuild_index`."""
        self.registry.rebuild()

    def merge_index(self, *, everything: bool = False) -> None:
        """See `PackedBlocks.merge_index`."""
        self.registry.merge(everything=everything)


def _is_sound(cids: Sequence[Cid], sizes_bytes: Sequence[int], joined: memoryview) -> bool:
    """Whether the hash of each of several contiguous blocks matches its CID."""
    ends = accumulate(sizes_bytes)
    leaves = (joined[end - size : end] for end, size in zip(ends, sizes_bytes, strict=True))
    return all(map(matches, cids, leaves))
