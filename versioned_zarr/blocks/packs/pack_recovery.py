"""Recovery of a pack whose tail is damaged: each entry is tried, and its block hashed.

Blocks are contiguous. So if one field of an entry is wrong, the other entries leave a gap that
contains its block, and the hash confirms it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from versioned_zarr.blocks.packs.pack_format import (
    FOOTER_SIZE,
    INDEX_ENTRY,
    Entries,
    Footer,
    decode_tail,
    footer_fields,
)
from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.cid import DAG_PB, RAW, Cid, HashFunction

_Row = tuple[bytes, int, int, int]
_Gap = tuple[int, int]


class Recovered(NamedTuple):
    """What was recovered from a pack.

    Attributes:
        entries: rows of dtype INDEX_ENTRY, in any order. An entry whose block cannot be found is
            kept as the index has it, if possible.
        root: the root in the footer; it may be damaged.
        data_end: where the blocks end.
        is_whole: whether every byte before `data_end` belongs to a block that was found.
    """

    entries: Entries
    root: Cid
    data_end: int
    is_whole: bool


def recover(data: memoryview, hash_function: HashFunction, where: str) -> Recovered:
    """Find the blocks of a pack from its tail, or what is left of it. O(pack) if it is damaged.

    Nothing is found in a truncated pack: only an index file has the locations of its blocks.
    """
    with suppress(CorruptError):
        tail = decode_tail(data, hash_function.code, where)
        return Recovered(tail.entries, tail.root, tail.data_end, is_whole=True)
    found = Recovered(np.empty(0, INDEX_ENTRY), Cid(b""), len(data), is_whole=False)
    for footer in _plausible(data):
        index = data[footer.data_end : footer.data_end + footer.blocks * INDEX_ENTRY.itemsize]
        rows = np.frombuffer(index, INDEX_ENTRY)
        tried = _Trial(data[: footer.data_end], hash_function).recovered(rows, footer.root)
        if tried.is_whole:
            return tried
        if len(tried.entries) > len(found.entries):
            found = tried
    return found


def _plausible(data: memoryview) -> Iterator[Footer]:
    """The footers that a pack of this length may have had, if one of its numbers is damaged."""
    if len(data) < FOOTER_SIZE:
        return
    footer = footer_fields(bytes(data[len(data) - FOOTER_SIZE :]))
    room = len(data) - FOOTER_SIZE
    width = INDEX_ENTRY.itemsize
    seen = set()
    for end, count in (
        (footer.data_end, footer.blocks),
        (footer.data_end, (room - footer.data_end) // width),
        (room - footer.blocks * width, footer.blocks),
    ):
        if end >= 0 and count >= 0 and end + count * width == room and (end, count) not in seen:
            seen.add((end, count))
            yield footer._replace(data_end=end, blocks=count)


class _Trial:
    """The blocks of a pack and the entries of its index, tried one by one.

    Args:
        data: the blocks.
        hash_function: the hash function of the repository.
    """

    def __init__(self, data: memoryview, hash_function: HashFunction) -> None:
        self._data, self._hash = data, hash_function

    def recovered(self, rows: Entries, root: Cid) -> Recovered:
        """The entries, each as it was written if at most one of its fields is damaged."""
        good: list[_Row] = []
        bad: list[_Row] = []
        for digest, offset, size, codec in rows.tolist():
            row = (bytes(digest), offset, size, codec)
            (good if self._is_at(*row[:3]) else bad).append(row)
        gaps = self._gaps(good)
        for row in bad:
            fixed = self._fixed(row, gaps)
            if fixed is not None:
                good.append(fixed)
                gaps = self._gaps(good)
            elif row[1] + row[2] <= len(self._data):
                good.append(row)
        entries = np.array([self._with_codec(row) for row in good], INDEX_ENTRY)
        return Recovered(entries, root, len(self._data), is_whole=not gaps)

    def _is_at(self, digest: bytes, offset: int, size: int) -> bool:
        end = offset + size
        return end <= len(self._data) and self._hash.digest(self._data[offset:end]) == digest

    def _gaps(self, rows: list[_Row]) -> list[_Gap]:
        """The ranges of bytes that belong to no block."""
        gaps, at = [], 0
        for offset, size in sorted((offset, size) for _, offset, size, _ in rows):
            if offset > at:
                gaps.append((at, offset))
            at = max(at, offset + size)
        return [*gaps, (at, len(self._data))] if at < len(self._data) else gaps

    def _fixed(self, row: _Row, gaps: list[_Gap]) -> _Row | None:
        """An entry repaired in one field, using the gap that contains its block."""
        digest, offset, size, codec = row
        for start, end in gaps:
            for at, length in ((offset, end - offset), (start, size), (end - size, size)):
                if start <= at and at + length <= end and self._is_at(digest, at, length):
                    return digest, at, length, codec
        if (offset, offset + size) in gaps:  # then the digest is wrong, or the block
            return self._hash.digest(self._data[offset : offset + size]), offset, size, codec
        empty = self._hash.digest(b"")
        return (empty, 0, 0, codec) if not size or digest == empty else None

    def _with_codec(self, row: _Row) -> _Row:
        codec = row[3]
        if codec not in {RAW, DAG_PB}:
            codec = min((RAW, DAG_PB), key=lambda known: (known ^ codec).bit_count())
        return *row[:3], codec
