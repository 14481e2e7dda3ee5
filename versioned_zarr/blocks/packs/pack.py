"""Packs: a pack writer appends blocks to a staged pack, and finally the tail."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import numpy as np

from versioned_zarr.blocks.packs.pack_format import (
    FOOTER_SIZE,
    INDEX_ENTRY,
    Entries,
    cid_of,
    encode_tail,
)
from versioned_zarr.blocks.protocol import Block, Follower
from versioned_zarr.errors import VersionedZarrError
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Bytes, FilePart, LinkableDraft, StagedPack

_WRITEBACK_BYTES: Final = 16 << 20
_PIECE_BYTES: Final = 16 << 20


class PackEntries:
    """The digests, codecs and offsets of the blocks of a pack, in the order of their offsets.

    Blocks are contiguous, so each ends where the next begins. One thread adds entries; other
    threads may read concurrently.
    """

    def __init__(self) -> None:
        self._digests = bytearray()
        self._codecs = bytearray()
        self._offsets = array("Q")

    def add(self, cid: Cid, offset: int) -> None:
        """Add a block that begins at byte `offset` of the file."""
        self._digests += cid[-32:]
        self._codecs += cid[1:2]
        self._offsets.append(offset)  # last, because its length is the number of entries

    def __len__(self) -> int:
        return len(self._offsets)

    def cut(self, count: int) -> None:
        """Remove all but the first `count`, including an entry left incomplete by an interrupt."""
        del self._offsets[count:], self._codecs[count:], self._digests[32 * count :]

    def count_before(self, offset: int) -> int:
        """The number of blocks that begin before an offset."""
        return bisect_left(self._offsets, offset)

    def places(
        self, first: int, last: int, end: int, hash_code: int
    ) -> Iterator[tuple[Cid, int, int]]:
        """A range of the blocks in the order of their offsets: CIDs, first bytes, ends.

        Args:
            first: the number of the first block.
            last: the number after the last block.
            end: where the last block ends.
            hash_code: the multihash code of the pack.
        """
        for number in range(first, last):
            at = self._offsets[number]
            stop = self._offsets[number + 1] if number + 1 < last else end
            digest = bytes(self._digests[32 * number : 32 * number + 32])
            yield cid_of(digest, self._codecs[number], hash_code), at, stop

    def to_array(self, count: int, end: int) -> Entries:
        """The first entries as rows of INDEX_ENTRY, in insertion order; the last ends at `end`.

        May run while another thread adds entries.
        """
        entries = np.empty(count, INDEX_ENTRY)
        # Copies: a buffer cannot grow while an array of numpy uses it.
        offsets = np.frombuffer(self._offsets[:count], "<u8")
        entries["digest"] = np.frombuffer(self._digests[: 32 * count], "V32")
        entries["offset"] = offsets
        entries["size"] = np.diff(offsets, append=np.uint64(end))
        entries["codec"] = np.frombuffer(self._codecs[:count], "u1")
        return entries


class PackWriter:
    """A staged pack that this process is writing, or that a dead process was writing.

    Not thread-safe except for `write`, which may run concurrently with any method once its space is
    reserved. After an interrupt at any point, more blocks can be written. Space that was reserved
    but not written is a hole. A draft with holes is never published; its blocks are copied.
    """

    def __init__(self, draft: StagedPack, hash_function: HashFunction) -> None:
        self.draft = draft
        self.hash = hash_function
        self.entries = PackEntries()
        self.has_failed = False
        self.is_recovered = False
        self.follower: Follower | None = None
        self._reserved = 0, 0  # bytes and blocks, updated together
        self._unwritten: set[int] = set()
        self._is_linked = False
        self._writeback_end = 0
        self._writeback: threading.Thread | None = None

    @property
    def end(self) -> int:
        """The number of bytes of blocks, including blocks that are still being written."""
        return self._reserved[0]

    @property
    def size_bytes(self) -> int:
        """The size of the pack that it becomes."""
        end, count = self._reserved
        return end + count * INDEX_ENTRY.itemsize + FOOTER_SIZE

    @property
    def path(self) -> str:
        """The path of the draft in its storage."""
        return self.draft.path

    @property
    def is_sound(self) -> bool:
        """Whether it may be published once all writes are finished: it has no holes."""
        end = self.end
        return not (self.has_failed or any(start < end for start in self._unwritten.copy()))

    def reserve(self, blocks: Sequence[Block]) -> int:
        """Reserve space for blocks; returns the offset of the first."""
        first, count = self._reserved
        offset = first
        self.entries.cut(count)
        for cid, data in blocks:
            self.entries.add(cid, offset)
            offset += len(data)
        # It is a hole until it is written, but only once the end has moved past it.
        if offset > first:
            self._unwritten.add(first)
        self._reserved = offset, count + len(blocks)
        return first

    def write(self, offset: int, blocks: Iterable[Block]) -> None:
        """Write blocks into the space that was reserved for them.

        Raises:
            StorageError: the draft has a hole now. It cannot be published, only copied from.
        """
        parts: list[Bytes] = [data for _, data in blocks]
        try:
            self.draft.write(offset, parts)
        except BaseException:
            self.has_failed = True
            raise
        self._unwritten.discard(offset)
        if self.end - self._writeback_end >= _WRITEBACK_BYTES:
            if self.follower is not None:
                self._writeback_end = self.end
                self.follower.grown()
            else:
                self._start_writeback()

    def holds(self, offset: int, blocks: Iterable[Block]) -> bool:
        """Whether the bytes at an offset match the CIDs of the blocks; reads all of them."""
        digest = self.hash.digest
        for cid, data in blocks:
            start, offset = offset, offset + len(data)
            if digest(self.draft.read(start, offset)) != cid[-32:]:
                return False
        return True

    def _start_writeback(self) -> None:
        """Start writing to the disk while the next values are hashed, unless already started."""
        if self._writeback is None or not self._writeback.is_alive():
            self._writeback_end = self.end
            self._writeback = threading.Thread(target=self._write_back, daemon=True)
            self._writeback.start()

    def _write_back(self) -> None:
        with suppress(VersionedZarrError):  # publishing syncs again, and reports a failure
            self.draft.start_writeback()

    def read(self, start: int, end: int) -> memoryview:
        """The bytes from `start` to `end`."""
        return self.draft.read(start, end)

    def part(self, start: int, end: int) -> Bytes | FilePart:
        """See `StagedPack.part`."""
        return self.draft.part(start, end)

    def finished(self, number: int = 0) -> Iterator[tuple[Cid, int, int]]:
        """The written blocks from this number on, up to the first that is not written.

        May run concurrently with `write`.
        """
        end, last = self._reserved
        # Space reserved from now on is after `end`; what is written meanwhile is not returned.
        unwritten = min([end, *self._unwritten.copy()])
        if unwritten < end:
            end, last = unwritten, self.entries.count_before(unwritten)
        return self.entries.places(number, last, end, self.hash.code)

    def blocks_at(self, start: int, end: int) -> Iterator[tuple[Cid, int, int]]:
        """The nonempty blocks from one block boundary to another."""
        first, last = self.entries.count_before(start), self.entries.count_before(end)
        return self.entries.places(first, last, end, self.hash.code)

    def recover(self, values: Iterable[tuple[int, Sequence[Block]]]) -> None:
        """Take over the draft of a dead writer.

        If a value was overwritten or only partly written, there are unused bytes between values.
        The draft then counts as failed, and its values are copied.

        Args:
            values: the offset and the blocks of each value that is still needed, in the order of
                the offsets.
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
        """The bytes of the whole pack; the last part is the tail. May run beside `reserve`."""
        end, tail = self._tail(root)
        pieces = range(0, end, _PIECE_BYTES)
        return [*(self.read(at, min(end, at + _PIECE_BYTES)) for at in pieces), tail]

    def _tail(self, root: Cid) -> tuple[int, bytes]:
        end, count = self._reserved
        return end, encode_tail(self.entries.to_array(count, end), root, self.hash.code, end)

    def link(self, path: str, root: Cid) -> bytes | None:
        """Add the tail, sync the draft, and give its file another name; it must not change later.

        Args:
            path: a path of the file system.
            root: the root of the pack.

        Returns:
            The tail; None if that is not possible, for example on another file system, or if it has
            such a name already, whose tail must remain as it is.
        """
        if self._is_linked or not isinstance(self.draft, LinkableDraft):
            return None
        self._is_linked = self.draft.link(path)
        if not self._is_linked:
            return None
        end, tail = self._tail(root)
        self.draft.write(end, [tail])
        self.draft.finish(end + len(tail))
        return tail

    def publish(self, path: str, root: Cid, *, durable: bool = True) -> None:
        """Add the tail and publish the pack at `path`."""
        if self._writeback is not None:
            self._writeback.join()
        end, tail = self._tail(root)
        self.draft.write(end, [tail])
        self.draft.publish(path, end + len(tail), durable=durable)


def pack_of(blocks: Sequence[Block], root: Cid, hash_function: HashFunction) -> list[Bytes]:
    """A whole pack of the blocks, as parts to be written in order."""
    entries = PackEntries()
    offset = 0
    for cid, data in blocks:
        entries.add(cid, offset)
        offset += len(data)
    tail = encode_tail(entries.to_array(len(entries), offset), root, hash_function.code, offset)
    return [*(data for _, data in blocks), tail]
