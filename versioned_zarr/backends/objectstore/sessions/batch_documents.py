"""Batch documents: the block of a session pack that says what was written.

The block of every eighth batch of a writer also contains what the seven before it say, and where
their blocks are, and every 64th that of the 63 before it. So a process that joins a session, or
commits it, need not read every pack. All numbers are little-endian.

    magic "vzbatch1", uint32 count
    count times: uint32 number, uint32 size of the document, uint32 blocks, uint64 size of the pack,
                 uint64 end of its blocks; the document; 48 bytes for each block, as in its tail

The first is the batch itself, of which the pack has the blocks and sizes; they are 0 there.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import numpy as np

from versioned_zarr.blocks.packs.pack_format import INDEX_ENTRY, Entries
from versioned_zarr.errors import CorruptError

_HEAD: Final = struct.Struct("<8sI")
_ITEM: Final = struct.Struct("<IIIQQ")
_MAGIC: Final = b"vzbatch1"
_SPANS: Final = (64, 8)


class StoredDocument(NamedTuple):
    """The document of a batch, and its pack.

    Attributes:
        number: the number of the batch.
        document: what was written.
        entries: rows of dtype INDEX_ENTRY, one for each block of the pack.
        size_bytes: the size of the pack.
        data_end: where its blocks end.
    """

    number: int
    document: bytes
    entries: bytes = b""
    size_bytes: int = 0
    data_end: int = 0


def entries_of(stored: StoredDocument) -> Entries:
    """The rows with the locations of the blocks."""
    return np.frombuffer(stored.entries, INDEX_ENTRY)


def first_included(number: int) -> int:
    """The number of the first batch that the block of a batch contains."""
    return next((number - span + 1 for span in _SPANS if number % span == 0), number)


def fewest(numbers: Collection[int]) -> list[int]:
    """A few batches of a writer whose blocks contain some batches.

    Args:
        numbers: the wanted batches; each exists, and so does each before it.
    """
    left = set(numbers)
    found = []
    for span in (*_SPANS, 1):
        for last in sorted({-(-number // span) * span for number in left}):
            covered = left.intersection(range(last - span + 1, last + 1))
            if last in left and (len(covered) > 1 or span == 1):
                found.append(last)
                left -= covered
    return found


def encode_documents(documents: Sequence[StoredDocument]) -> bytes:
    """Encode the block of a batch; the first document is its own."""
    parts = [_HEAD.pack(_MAGIC, len(documents))]
    for each in documents:
        blocks = len(each.entries) // INDEX_ENTRY.itemsize
        sizes = (len(each.document), blocks, each.size_bytes, each.data_end)
        parts += [_ITEM.pack(each.number, *sizes), each.document, each.entries]
    return b"".join(parts)


def decode_documents(data: memoryview, where: str) -> list[StoredDocument]:
    """Decode the block of a batch.

    Raises:
        CorruptError: it is no such block.
    """
    try:
        magic, count = _HEAD.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError
        found, at = [], _HEAD.size
        for _ in range(count):
            number, size, blocks, size_bytes, data_end = _ITEM.unpack_from(data, at)
            start = at + _ITEM.size
            end = start + size
            at = end + blocks * INDEX_ENTRY.itemsize
            if at > len(data):
                raise ValueError
            document, entries = bytes(data[start:end]), bytes(data[end:at])
            found.append(StoredDocument(number, document, entries, size_bytes, data_end))
    except (struct.error, ValueError):
        raise CorruptError(f"{where} is no batch of a session", where=where) from None
    return found
