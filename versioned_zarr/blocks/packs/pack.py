"""Packs: a pack writer appends sections to a staged pack, and writes the index last."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from versioned_zarr.blocks.protocol import Block, Follower
from versioned_zarr.errors import CorruptError, VersionedZarrError
from versioned_zarr.ipld.car import (
    DATA_OFFSET,
    FIRST_SECTION,
    INDEX_CODEC,
    INDEX_ENTRY,
    CarSection,
    decode_index,
    encode_index,
    header_size,
    header_size_in,
    pack_head,
    read_pack_head,
    section_header,
    sections,
)
from versioned_zarr.ipld.cid import CID_SIZE, Cid, HashFunction
from versioned_zarr.storage.protocol import Bytes, FilePart, ObjectStore, StagedPack

_ONE = b"\x01\x00\x00\x00"  # how many hash functions an index is for


_TOLD_BYTES = 16 << 20
_WINDOW_BYTES = 8 << 20
_LEAST_SECTION = 1 + CID_SIZE


class PackEntries:
    """The digests, codecs and offsets of the sections of a pack, packed tightly as they come.

    One thread adds; others may read meanwhile.
    """

    def __init__(self) -> None:
        self._digests = bytearray()
        self._codecs = bytearray()
        self._offsets = array("Q")

    def add(self, cid: Cid, offset: int) -> None:
        """Remember a section that begins at `offset` bytes of the file."""
        self._digests += cid[-32:]
        self._codecs += cid[1:2]
        self._offsets.append(offset - DATA_OFFSET)  # the last, as it tells how many there are

    def __len__(self) -> int:
        return len(self._offsets)

    def cut(self, end: int) -> None:
        """Forget what begins at `end` or behind it, and what `add` was interrupted in."""
        offsets = self._offsets
        while offsets and offsets[-1] >= end - DATA_OFFSET:
            offsets.pop()
        count = len(offsets)
        if len(self._codecs) != count or len(self._digests) != 32 * count:
            del self._codecs[count:], self._digests[32 * count :]

    def places(self, start: int, end: int, hash_code: int) -> Iterator[tuple[Cid, int, int]]:
        """The blocks between two offsets at which sections begin or end: CIDs, from, and to.

        Args:
            start: where the first section begins.
            end: where the last one ends.
            hash_code: the multihash code of the pack.
        """
        multihash = bytes((hash_code, 32))
        first = bisect_left(self._offsets, start - DATA_OFFSET)
        last = bisect_left(self._offsets, end - DATA_OFFSET)
        for number in range(first, last):
            at = self._offsets[number]
            stop = self._offsets[number + 1] if number + 1 < last else end - DATA_OFFSET
            digest = bytes(self._digests[32 * number : 32 * number + 32])
            cid = Cid(b"\x01%c%b%b" % (self._codecs[number], multihash, digest))
            before = header_size_in(stop - at)
            yield cid, at + DATA_OFFSET + before, stop + DATA_OFFSET

    def to_array(self) -> npt.NDArray[np.void]:
        """The entries with dtype INDEX_ENTRY, in the order they came."""
        entries = np.empty(len(self), INDEX_ENTRY)
        entries["digest"] = np.frombuffer(self._digests, "V32")
        entries["offset"] = np.frombuffer(self._offsets, "<u8")
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
        self.end = FIRST_SECTION
        self.entries = PackEntries()
        self.has_failed = False
        self.is_recovered = False
        self.follower: Follower | None = None
        self._unwritten: set[int] = set()
        self._told = 0
        self._writeback: threading.Thread | None = None

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
        """Set room aside for the blocks' sections; returns the offset of the first."""
        offset = first = self.end
        self.entries.cut(first)
        for cid, data in blocks:
            self.entries.add(cid, offset)
            offset += header_size(len(data)) + len(data)
        # A hole until it is written, and only once the end has moved behind it.
        self._unwritten.add(first)
        self.end = offset
        return first

    def write(self, offset: int, blocks: Iterable[Block]) -> None:
        """Write sections into the room that was reserved for them.

        Raises:
            StorageError: the draft then has a hole, and can only be copied from, not published.
        """
        parts: list[Bytes] = []
        for cid, data in blocks:
            parts += (section_header(cid, len(data)), data)
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
            start = offset + header_size(len(data))
            offset = start + len(data)
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

    def finished(self, start: int = FIRST_SECTION) -> Iterator[tuple[Cid, int, int]]:
        """The blocks from the offset `start` on that are written, up to the first that is not.

        May run beside `write`.
        """
        end = self.end
        # What is reserved later lies behind `end`; what is written meanwhile is left for later.
        end = min([end, *self._unwritten.copy()])
        return self.entries.places(start, end, self.hash.code)

    def recover(self) -> None:
        """Learn from a dead writer's draft which sections it finished, and hash each of them.

        What does not hash to its name is torn: the draft then counts as failed, and what is sound
        in it is copied. If room was reserved and not written, finished sections lie behind the
        hole: they too are found by their journalled places alone. O(size of the draft).
        """
        self.is_recovered = True
        size = self.draft.size()
        digest, multihash = self.hash.digest, bytes((self.hash.code, 32))
        while self.end < size:
            window = self.draft.read(self.end, min(size, self.end + _WINDOW_BYTES))
            done = 0
            for section in _whole_sections(window, self.path):
                block = window[section.start : section.end]
                if section.cid[2:4] != multihash or digest(block) != section.cid[-32:]:
                    self.has_failed = True
                    return
                self.entries.add(section.cid, self.end + section.offset)
                done = section.end
            self.end += done
            if not done:
                break
        self.has_failed = any(self._pieces(self.end, size))

    def _pieces(self, start: int, end: int) -> Iterator[bool]:
        """For each piece between two offsets, whether anything but zeros is in it."""
        for at in range(start, end, _WINDOW_BYTES):
            piece = bytes(self.draft.read(at, min(end, at + _WINDOW_BYTES)))
            yield piece.count(0) != len(piece)

    def publish(self, path: str, root: Cid, *, durable: bool = True) -> None:
        """Add the index and the head, and let the pack appear at `path`."""
        if self._writeback is not None:
            self._writeback.join()
        self.entries.cut(self.end)
        index = encode_index(self.entries.to_array(), self.hash.code)
        self.draft.write(self.end, [index])
        self.draft.write(0, [pack_head(root, self.end)])
        self.draft.publish(path, self.end + len(index), durable=durable)


def _whole_sections(window: memoryview, where: str) -> Iterator[CarSection]:
    """The sections that lie whole in a piece of a pack, up to the first that does not."""
    with suppress(CorruptError):
        yield from sections(window, 0, len(window), where)


def pack_of(blocks: Sequence[Block], root: Cid, hash_function: HashFunction) -> list[Bytes]:
    """A whole pack of the blocks, as parts to be written one behind the other."""
    entries = PackEntries()
    parts: list[Bytes] = [b""]
    offset = FIRST_SECTION
    for cid, data in blocks:
        entries.add(cid, offset)
        header = section_header(cid, len(data))
        parts += (header, data)
        offset += len(header) + len(data)
    parts[0] = pack_head(root, offset)
    parts.append(encode_index(entries.to_array(), hash_function.code))
    return parts


def read_entries(
    data: memoryview, hash_function: HashFunction, where: str
) -> tuple[npt.NDArray[np.void], int]:
    """The entries of a pack's own index, and the offset at which its sections end.

    Raises:
        CorruptError: the head or the index is damaged.
    """
    _, data_end = read_pack_head(data, where)
    return decode_index(data[data_end:], hash_function.code, where), data_end


def entries_at(
    storage: ObjectStore, path: str, hash_function: HashFunction
) -> tuple[npt.NDArray[np.void], int]:
    """As `read_entries`, of a pack in a storage: two round trips where that has no views.

    Raises:
        FileNotFoundError: it is not there.
        CorruptError: the head or the index is damaged.
    """
    view = storage.view(path)
    if view is not None:
        return read_entries(view, hash_function, path)
    _, data_end = read_pack_head(storage.read(path, 0, FIRST_SECTION), path)
    return decode_index(storage.read(path, data_end), hash_function.code, path), data_end


def recover_entries(
    data: memoryview, hash_function: HashFunction, where: str
) -> tuple[npt.NDArray[np.void], int]:
    """The entries of a pack that may be damaged, from its sections and from its index.

    Where the two disagree about a block, its bytes decide. Stops at the first thing that is no
    section, unless the index knows of blocks behind it; of those only what can lie there counts.
    """
    found, end = _scan(data, hash_function, where)
    try:
        indexed, end = read_entries(data, hash_function, where)
    except CorruptError:
        indexed = np.empty(0, INDEX_ENTRY)
    entries = PackEntries()
    unseen: list[tuple[int, bytes]] = []
    named: set[int] = set()
    for digest, offset in indexed.tolist():
        at = int(offset) + DATA_OFFSET
        section = found.get(at)
        if section is None:
            unseen.append((at, digest))
            continue
        if at in named:
            continue
        named.add(at)
        if section.cid[-32:] == digest:
            entries.add(Cid(digest), at)
        else:
            entries.add(Cid(hash_function.digest(data[section.start : section.end])), at)
    for at, section in found.items():
        if at < end and at not in named:
            entries.add(section.cid, at)
    for at, digest in _between(unseen, found, end):
        entries.add(Cid(digest), at)
    return entries.to_array(), end


def _between(
    unseen: list[tuple[int, bytes]], found: dict[int, CarSection], end: int
) -> Iterator[tuple[int, bytes]]:
    """Those of the blocks that an index knows for which there is room beside the sections found."""
    free = FIRST_SECTION
    sections_left = deque(sorted(section.offset for section in found.values()))
    for at, digest in sorted(unseen):
        while sections_left and sections_left[0] < at:
            free = max(free, found[sections_left.popleft()].end)
        behind = min(sections_left[0], end) if sections_left else end
        if at >= free and behind - at >= _LEAST_SECTION:
            yield at, digest
            free = at + _LEAST_SECTION


def _scan(
    data: memoryview, hash_function: HashFunction, where: str
) -> tuple[dict[int, CarSection], int]:
    """The sections of a pack by their offsets, and where the last of them ends."""
    found: dict[int, CarSection] = {}
    end = FIRST_SECTION
    multihash = bytes((hash_function.code, 32))
    try:
        for section in sections(data, FIRST_SECTION, len(data), where):
            if section.cid[2:4] != multihash and section.end > len(data) - len(INDEX_CODEC):
                break
            if data[section.offset : section.offset + 2] == INDEX_CODEC and section.cid[:4] == _ONE:
                break  # the index begins as a section of 1025 bytes would
            found[section.offset] = section
            end = section.end
    except CorruptError:
        pass
    return found, end
