"""The pack store: a block store that keeps blocks in packs on a `Storage`.

Its `PackRegistry` knows the location of each block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate, islice

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
_TRIED_LOCATIONS = 16
"""Of a block that is stored in many locations, this many are tried as the start of a run."""


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
        """See `BlockStore.get_joined`: one read for each run of contiguous blocks.

        Without a copy if there is only one run.
        """
        runs: list[memoryview] = []
        first = 0
        while first < len(cids):
            place, count = self._longest_run(cids, sizes_bytes, first)
            last = first + count
            found = None if place is None else self._read(*place)
            if found is not None and (
                not self.verify or _is_sound(cids[first:last], sizes_bytes[first:last], found)
            ):
                runs.append(found)
            else:
                for cid, size in zip(cids[first:last], sizes_bytes[first:last], strict=True):
                    runs.append(self.get(cid))
                    check_size(cid, len(runs[-1]), size)
            first = last
        if len(runs) == 1:
            return runs[0]
        joined = _BUFFERS.take(sum(sizes_bytes))
        at = 0
        for run in runs:
            joined[at : at + len(run)] = run
            at += len(run)
        return joined.toreadonly()

    def locate(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> ByteRange | None:
        """See `LocatedBlocks.locate`."""
        place, count = self._longest_run(cids, sizes_bytes, 0)
        if place is None or count < len(cids):
            return None
        return ByteRange(f"{self.storage.url}/{pack_path(place.pack)}", place.start, place.size)

    def _longest_run(
        self, cids: Sequence[Cid], sizes_bytes: Sequence[int], first: int
    ) -> tuple[BlockLocation | None, int]:
        """Where the blocks from number `first` on are contiguous, and the number of these.

        If the first of them is unknown or has another size, there is no location.
        """
        best: tuple[BlockLocation | None, int] = None, 1
        known: dict[Cid, set[BlockLocation]] = {}
        for begin in islice(self._locations(cids[first]), _TRIED_LOCATIONS):
            if begin.size != sizes_bytes[first]:
                continue
            last, end = first + 1, begin.start + begin.size
            while last < len(cids):
                wanted = BlockLocation(begin.pack, end, sizes_bytes[last])
                if not self._is_at(cids[last], wanted, known):
                    break
                last, end = last + 1, end + wanted.size
            if best[0] is None or last - first > best[1]:
                best = BlockLocation(begin.pack, begin.start, end - begin.start), last - first
            if last == len(cids):
                break
        return best

    def _locations(self, cid: Cid) -> Iterator[BlockLocation]:
        """The locations of a block, beginning with the one that costs the least to find."""
        found = self.registry.find(cid)
        if found is not None:
            yield found
            yield from (place for place in self.registry.find_all(cid) if place != found)

    def _is_at(self, cid: Cid, wanted: BlockLocation, known: dict[Cid, set[BlockLocation]]) -> bool:
        """Whether a block is at a location; others may contain it, too."""
        if self.registry.find(cid) == wanted:
            return True
        if cid not in known:
            known[cid] = {*self.registry.find_all(cid)}
        return wanted in known[cid]

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

    def packs_of(self, cids: Sequence[Cid]) -> list[AbstractSet[str]]:
        """See `PackedBlocks.packs_of`."""
        return [{place.pack for place in self.registry.find_all(cid)} for cid in cids]

    def common_pack(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> str | None:
        """See `PackedBlocks.common_pack`."""
        place, count = self._longest_run(cids, sizes_bytes, 0)
        return None if place is None or count < len(cids) else place.pack

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
