"""Packs: a pack writer puts blocks one behind the other into a staged pack, and the tail last."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from versioned_zarr.blocks.packs.pack_format import INDEX_ENTRY, Entries, cid_of, encode_tail
from versioned_zarr.blocks.protocol import Block, Follower
from versioned_zarr.errors import VersionedZarrError
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Bytes, FilePart, StagedPack

_TOLD_BYTES: Final = 16 << 20
_PIECE_BYTES: Final = 16 << 20


class PackEntries:
    """The digests, codecs and offsets of the blocks of a pack, packed tightly as they come.

    Blocks follow each other without a gap, so each ends where the next begins. One thread adds;
    others may read meanwhile.
    """

    def __init__(self) -> None:
        self._digests = bytearray()
        self._codecs = bytearray()
        self._offsets = array("Q")

    def add(self, cid: Cid, offset: int) -> None:
        """Remember a block that begins at `offset` bytes of the file."""
        self._digests += cid[-32:]
        self._codecs += cid[1:2]
        self._offsets.append(offset)  # the last, as it tells how many there are

    def __len__(self) -> int:
        return len(self._offsets)

    def cut(self, count: int) -> None:
        """Forget all but the first `count`, and what `add` was interrupted in."""
        del self._offsets[count:], self._codecs[count:], self._digests[32 * count :]

    def count_before(self, offset: int) -> int:
        """How many blocks begin before an offset."""
        return bisect_left(self._offsets, offset)

    def places(
        self, first: int, last: int, end: int, hash_code: int
    ) -> Iterator[tuple[Cid, int, int]]:
        """Some of the blocks in the order they came: CIDs, where they begin, where they end.

        Args:
            first: the number of the first of them.
            last: the number behind the last.
            end: where the last one ends.
            hash_code: the multihash code of the pack.
        """
        for number in range(first, last):
            at = self._offsets[number]
            stop = self._offsets[number + 1] if number + 1 < last else end
            digest = bytes(self._digests[32 * number : 32 * number + 32])
            yield cid_of(digest, self._codecs[number], hash_code), at, stop

    def to_array(self, end: int) -> Entries:
        """The entries as rows of INDEX_ENTRY, in the order they came; the last ends at `end`."""
        entries = np.empty(len(self), INDEX_ENTRY)
        offsets = np.frombuffer(self._offsets, "<u8")
        entries["digest"] = np.frombuffer(self._digests, "V32")
        entries["offset"] = offsets
        entries["size"] = np.diff(offsets, append=np.uint64(end))
        entries["codec"] = np.frombuffer(self._codecs, "u1")
        return entries


class PackWriter:
    """A pack that is being written by this process, or was by one that died.

    Not thread-safe but for `write`, which may run beside anything once its room is reserved. An
    interrupt at any point leaves it so that it can be written on; room that was reserved and not
    written is a hole, and a draft with holes is copied from, never published.
    """

    def __init__(self, draft: StagedPack, hash_function: HashFunction) -> None:
        self.draft = draft
        self.hash = hash_function
        self.entries = PackEntries()
        self.has_failed = False
        self.is_recovered = False
        self.follower: Follower | None = None
        self._reserved = 0, 0  # bytes and blocks, which move at once
        self._unwritten: set[int] = set()
        self._told = 0
        self._writeback: threading.Thread | None = None

    @property
    def end(self) -> int:
        """How many bytes of blocks there are, with those that are still being written."""
        return self._reserved[0]

    @property
    def path(self) -> str:
        """Where the draft lies in its storage."""
        return self.draft.path

    @property
    def is_sound(self) -> bool:
        """Whether it may be published, once nobody writes into it: it has no holes."""
        end = self.end
        return not (self.has_failed or any(start < end for start in self._unwritten.copy()))

    def reserve(self, blocks: Sequence[Block]) -> int:
        """Set room aside for blocks; returns the offset of the first."""
        first, count = self._reserved
        offset = first
        self.entries.cut(count)
        for cid, data in blocks:
            self.entries.add(cid, offset)
            offset += len(data)
        # A hole until it is written, and only once the end has moved behind it.
        if offset > first:
            self._unwritten.add(first)
        self._reserved = offset, count + len(blocks)
        return first

    def write(self, offset: int, blocks: Iterable[Block]) -> None:
        """Write blocks into the room that was reserved for them.

        Raises:
            StorageError: the draft then has a hole, and can only be copied from, not published.
        """
        parts: list[Bytes] = [data for _, data in blocks]
        try:
            self.draft.write(offset, parts)
        except BaseException:
            self.has_failed = True
            raise
        self._unwritten.discard(offset)
        if self.end - self._told >= _TOLD_BYTES:
            if self.follower is not None:
                self._told = self.end
                self.follower.grown()
            else:
                self._start_writeback()

    def holds(self, offset: int, blocks: Iterable[Block]) -> bool:
        """Whether what was written at an offset hashes to the names of the blocks; reads it all."""
        digest = self.hash.digest
        for cid, data in blocks:
            start, offset = offset, offset + len(data)
            if digest(self.draft.read(start, offset)) != cid[-32:]:
                return False
        return True

    def _start_writeback(self) -> None:
        """Let the disk work while the next values are hashed, unless it is at work already."""
        if self._writeback is None or not self._writeback.is_alive():
            self._told = self.end
            self._writeback = threading.Thread(target=self._write_back, daemon=True)
            self._writeback.start()

    def _write_back(self) -> None:
        with suppress(VersionedZarrError):  # publishing syncs again, and says what fails
            self.draft.start_writeback()

    def read(self, start: int, end: int) -> memoryview:
        """The bytes between two offsets."""
        return self.draft.read(start, end)

    def part(self, start: int, end: int) -> Bytes | FilePart:
        """See `StagedPack.part`."""
        return self.draft.part(start, end)

    def finished(self, number: int = 0) -> Iterator[tuple[Cid, int, int]]:
        """The blocks that are written, from this number on, up to the first that is not.

        May run beside `write`.
        """
        end, last = self._reserved
        # What is reserved later lies behind `end`; what is written meanwhile is left for later.
        unwritten = min([end, *self._unwritten.copy()])
        if unwritten < end:
            end, last = unwritten, self.entries.count_before(unwritten)
        return self.entries.places(number, last, end, self.hash.code)

    def blocks_at(self, start: int, end: int) -> Iterator[tuple[Cid, int, int]]:
        """The blocks between two offsets at which blocks begin or end, of more than no bytes."""
        first, last = self.entries.count_before(start), self.entries.count_before(end)
        return self.entries.places(first, last, end, self.hash.code)

    def recover(self, values: Iterable[tuple[int, Sequence[Block]]]) -> None:
        """Take over a dead writer's draft.

        Bytes that no value names lie between values where some were overwritten or not written to
        their end; the draft then counts as failed, and its values are copied.

        Args:
            values: where each value that is still wanted begins and its blocks, which lie there,
                in the order of the offsets.
        """
        self.is_recovered = True
        for offset, blocks in values:
            end, count = self._reserved
            self.has_failed |= offset != end
            self.entries.cut(count)
            for cid, data in blocks:
                self.entries.add(cid, offset)
                offset += len(data)
            self._reserved = offset, count + len(blocks)

    def sealed(self, root: Cid) -> list[Bytes]:
        """The bytes of the whole pack; the last part is the tail."""
        end, tail = self._tail(root)
        pieces = range(0, end, _PIECE_BYTES)
        return [*(self.read(at, min(end, at + _PIECE_BYTES)) for at in pieces), tail]

    def _tail(self, root: Cid) -> tuple[int, bytes]:
        end, count = self._reserved
        self.entries.cut(count)
        return end, encode_tail(self.entries.to_array(end), root, self.hash.code, end)

    def publish(self, path: str, root: Cid, *, durable: bool = True) -> None:
        """Add the tail, and let the pack appear at `path`."""
        if self._writeback is not None:
            self._writeback.join()
        end, tail = self._tail(root)
        self.draft.write(end, [tail])
        self.draft.publish(path, end + len(tail), durable=durable)


def pack_of(blocks: Sequence[Block], root: Cid, hash_function: HashFunction) -> list[Bytes]:
    """A whole pack of the blocks, as parts to be written one behind the other."""
    entries = PackEntries()
    offset = 0
    for cid, data in blocks:
        entries.add(cid, offset)
        offset += len(data)
    tail = encode_tail(entries.to_array(offset), root, hash_function.code, offset)
    return [*(data for _, data in blocks), tail]
