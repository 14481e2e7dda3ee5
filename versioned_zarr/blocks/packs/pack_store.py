"""The pack store: a block store that keeps blocks in packs on a `Storage`.

Where each block lies is known to its `PackRegistry`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from versioned_zarr.blocks.buffer_pool import BufferPool
from versioned_zarr.blocks.file_reader import check_size
from versioned_zarr.blocks.packs.pack import pack_of
from versioned_zarr.blocks.packs.pack_registry import PackRegistry, new_name, pack_names, pack_path
from versioned_zarr.blocks.protocol import Block, Followable, Publishable
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError, StorageError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.car import block_at, section_header
from versioned_zarr.ipld.cid import CID_SIZE, DAG_PB, RAW, Cid, HashFunction, matches
from versioned_zarr.storage.protocol import PackStorage, look_at

GC_LOCK = "gc"
"""Shared by those who count on blocks to stay; alone for the moment in which packs go."""
HOUSE_LOCK = "housekeeping"
"""Only one process removes packs at a time, so that no other's plans are upset."""
_NEAR = contextlib.nullcontext()
_BUFFERS = BufferPool()
_NOTHING_READ = memoryview(b""), 0, None


class PackStore:
    """A `BlockStore` of packs. Thread-safe; many processes may share the storage."""

    is_remote = False

    def __init__(self, storage: PackStorage, hash_function: HashFunction, *, verify: bool) -> None:
        self.storage = storage
        self.hash = hash_function
        self.verify = verify
        self.catalogue = PackRegistry(storage, hash_function)
        self._read_last: tuple[memoryview, int, object] = _NOTHING_READ

    # Reading

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`."""
        data = self.find_known(cid)
        if data is None and self.refresh():
            data = self.find_known(cid)
        if data is None and self.catalogue.look_again():
            data = self.find_known(cid)
        if data is None or (self.verify and not cids.matches(cid, data)):
            data = self._find_sound(cid)
        return data

    def find(self, cid: Cid) -> memoryview | None:
        """The bytes of a block, or None if it is not here; not compared with its CID."""
        data = self.find_known(cid)
        return self.find_known(cid) if data is None and self.refresh() else data

    def find_known(self, cid: Cid) -> memoryview | None:
        """As `find`, in the packs that this process knows; looks for no new ones.

        Values are read in the order in which they were written, as a rule: what lies behind the
        block read last is looked at first. Else the index must name a place, and a section of
        that digest must be there.
        """
        known = self.catalogue.known
        pack, end, stamp = self._read_last
        # Where packs have changed since then, that one may have gone.
        span = block_at(pack, end, cid) if stamp is known.stamp else None
        if span is not None:
            self._read_last = pack, span[1], stamp
            return pack[span[0] : span[1]]
        place = self.catalogue.find(cid)
        if place is None:
            return None
        header = section_header(cid, place.size)
        before = len(header)
        path, start, end = pack_path(place.pack), place.start - before, place.start + place.size
        try:
            view = self.storage.view(path)
            section = self.storage.read(path, start, end) if view is None else view[start:end]
        except FileNotFoundError:
            return None
        found = section[:before]
        # A raw block and a node of the same bytes share their digest, and so their place.
        if found != header and (len(found) < CID_SIZE or _other_codec(found) != header):
            return None
        if view is not None:
            self._read_last = view, end, known.stamp
        return section[before:]

    def get_joined(self, cids: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """See `BlockStore.get_joined`; one system call where the blocks lie side by side."""
        for cid, size in zip(cids, sizes_bytes, strict=True):  # before room is made for them
            place = self.catalogue.find(cid)
            if place is None or place.size != size:
                self._get_sized(cid, size)
        if not any(sizes_bytes):
            return memoryview(b"")
        joined = _BUFFERS.take(sum(sizes_bytes))
        ends = accumulate(sizes_bytes)
        leaves = [joined[end - size : end] for end, size in zip(ends, sizes_bytes, strict=True)]
        if not self._read_side_by_side(cids, leaves):
            for cid, leaf in zip(cids, leaves, strict=True):
                leaf[:] = self._get_sized(cid, len(leaf))
        return joined.toreadonly()

    def _get_sized(self, cid: Cid, size_bytes: int) -> memoryview:
        block = self.get(cid)
        check_size(cid, len(block), size_bytes)
        return block

    def _read_side_by_side(self, cids: Sequence[Cid], leaves: Sequence[memoryview]) -> bool:
        """Read blocks that lie in one pack, each behind the last; says whether they do.

        What stands in the pack before each of them says whether it is that block, and so long.
        """
        first = self.catalogue.find(cids[0])
        if first is None or first.size != len(leaves[0]):
            return False
        headers: list[bytes] = []
        found: list[bytearray] = []
        buffers: list[memoryview] = []
        for cid, leaf in zip(cids, leaves, strict=True):
            header = section_header(cid, len(leaf))
            headers.append(header)
            found.append(bytearray(len(header)))
            buffers += (memoryview(found[-1]), leaf)
        try:
            start = first.start - len(headers[0])
            self.storage.read_into(pack_path(first.pack), start, buffers)
        except (FileNotFoundError, StorageError):
            return False
        if headers != found:
            return False
        return not self.verify or all(map(matches, cids, buffers[1::2]))

    def _find_sound(self, cid: Cid) -> memoryview:
        """The block from whatever place holds it whole; says what is wrong if none does."""
        text, damaged = cids.to_text(cid), None
        for place in self.catalogue.find_all(cid):
            try:
                path, start = pack_path(place.pack), place.start
                data = look_at(self.storage, path, start, start + place.size)
            except FileNotFoundError:
                continue
            if cids.matches(cid, data):
                return data
            if len(data) == place.size:  # else the pack was cut off
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
        return self.catalogue.find(cid) is not None

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`: looks at the folder of packs once, then at the index."""
        self.refresh()
        return [cid for cid in wanted if cid not in self]

    def refresh(self) -> bool:
        """Look for new packs and indexes; says whether there were changes."""
        return self.catalogue.refresh()

    # Writing

    def follow(self, draft: Followable) -> None:
        """See `BlockStore.follow`: nothing to do, the draft lies here already."""

    def expect(self, blocks: Sequence[Block]) -> None:
        """See `BlockStore.expect`: nothing to do."""

    def put(self, blocks: Sequence[Block], root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.put`: one new pack; `durable` as in `Storage.put`."""
        name = new_name()
        self.storage.put(pack_path(name), pack_of(blocks, root, self.hash), durable=durable)
        self.catalogue.learn(name)

    def publish(self, draft: Publishable, root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.publish`; `durable` as in `Storage.put`."""
        name = new_name()
        draft.publish(pack_path(name), root, durable=durable)
        self.catalogue.learn(name)

    @contextlib.contextmanager
    def keep(self, cids_: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: holds off the last step of `gc` and `repack`."""
        with self.storage.lock(GC_LOCK, shared=True):
            wanted = list(cids_)
            if wanted:
                self.refresh()
            yield all(cid in self for cid in wanted)

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`: everything is near."""
        return _NEAR

    # Maintenance

    def packs(self) -> dict[str, int]:
        """See `PackedBlocks.packs`."""
        return pack_names(self.storage)

    def is_scattered(self, packs: int) -> bool:
        """See `PackedBlocks.is_scattered`."""
        return self.catalogue.wants_tidying(packs)

    def rebuild_index(self) -> None:
        """See `PackedBlocks.rebuild_index`."""
        self.catalogue.rebuild()

    def merge_index(self, *, everything: bool = False) -> None:
        """See `PackedBlocks.merge_index`."""
        self.catalogue.merge(everything=everything)


def _other_codec(header: memoryview) -> bytes:
    """A section's header with the codec raw for dag-pb and the other way round."""
    changed = bytearray(header)
    changed[-CID_SIZE + 1] ^= RAW ^ DAG_PB
    return bytes(changed)
