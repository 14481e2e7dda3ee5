"""The pack format: contiguous blocks, and a tail with the location of each.

The tail is an index, sorted by digest, and a footer. docs/design/packs.md shows the bytes.
"""

from __future__ import annotations

import struct
import zlib
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.cid import CID_SIZE, Cid
from versioned_zarr.storage.object_store import ObjectStore

MAGIC: Final = b"vzpack02"
INDEX_ENTRY: Final = np.dtype(
    [("digest", "V32"), ("offset", "<u8"), ("size", "<u4"), ("codec", "<u4")]
)
_BODY: Final = struct.Struct(f"<{CID_SIZE}sIQQI")  # root, hash code, end of blocks, entries, CRC
_CHECK: Final = struct.Struct("<I8s")  # CRC of the body, magic
FOOTER_SIZE: Final = _BODY.size + _CHECK.size
_GUESS_BYTES: Final = 64 << 10
"""The first read of a remote pack: the tail of up to 1,300 blocks."""

Entries = npt.NDArray[np.void]
"""Rows of dtype INDEX_ENTRY."""


class Tail(NamedTuple):
    """The decoded tail of a pack.

    Attributes:
        entries: a row of dtype INDEX_ENTRY for each block, sorted by digest, then by offset.
        root: the CID of one of the blocks.
        data_end: the number of bytes of blocks.
    """

    entries: Entries
    root: Cid
    data_end: int


class PackBlock(NamedTuple):
    """The location of a block in a pack: its CID, its first byte, and its end."""

    cid: Cid
    start: int
    end: int


class Footer(NamedTuple):
    """The last bytes of a pack.

    Attributes:
        root: the CID of one of the blocks.
        hash_code: the multihash code of the repository.
        data_end: where the blocks end and the index begins.
        blocks: the number of blocks.
        checksum: the CRC-32 of the index.
    """

    root: Cid
    hash_code: int
    data_end: int
    blocks: int
    checksum: int


def encode_tail(entries: Entries, root: Cid, hash_code: int, data_end: int) -> bytes:
    """Encode the tail of a pack.

    Args:
        entries: rows of dtype INDEX_ENTRY, in any order.
        root: the CID of one of the blocks.
        hash_code: the multihash code of the repository.
        data_end: the number of bytes of blocks.
    """
    index = _in_order(entries).tobytes()
    body = _BODY.pack(root, hash_code, data_end, len(entries), zlib.crc32(index))
    return index + body + _CHECK.pack(zlib.crc32(body), MAGIC)


def decode_footer(data: memoryview | bytes, where: str) -> Footer:
    """Decode the footer at the end of `data`, a pack or the end of one.

    Raises:
        CorruptError: there is no valid footer.
    """
    if len(data) >= FOOTER_SIZE:
        footer = bytes(data[len(data) - FOOTER_SIZE :])
        checksum, magic = _CHECK.unpack_from(footer, _BODY.size)
        if magic == MAGIC and zlib.crc32(footer[: _BODY.size]) == checksum:
            return footer_fields(footer)
    raise CorruptError(f"the footer of {where} is damaged, or it is cut off", where=where)


def footer_fields(footer: bytes) -> Footer:
    """The fields of a footer; nothing is verified."""
    root, *numbers = _BODY.unpack_from(footer)
    return Footer(Cid(root), *numbers)


def decode_tail(data: memoryview, hash_code: int, where: str) -> Tail:
    """Decode the tail of a whole pack; the entries are a view of the buffer.

    Raises:
        CorruptError: it is damaged.
    """
    footer = decode_footer(data, where)
    index = data[footer.data_end : len(data) - FOOTER_SIZE]
    return _decoded(footer, index, hash_code, where)


def decode_tail_in(data: memoryview, hash_code: int, where: str) -> Tail:
    """Decode the tail at the end of `data`, which contains all of it.

    Raises:
        CorruptError: it is damaged.
    """
    footer = decode_footer(data, where)
    end = len(data) - FOOTER_SIZE
    start = max(0, end - footer.blocks * INDEX_ENTRY.itemsize)
    return _decoded(footer, data[start:end], hash_code, where)


def read_tail(storage: ObjectStore, path: str, hash_code: int) -> Tail:
    """Read the tail of a pack in a storage: one round trip, two if it has more than 1,300 blocks.

    Raises:
        FileNotFoundError: the pack does not exist.
        CorruptError: the tail is damaged.
    """
    view = storage.view(path)
    if view is not None:
        return decode_tail(view, hash_code, path)
    end = storage.read(path, -_GUESS_BYTES)
    footer = decode_footer(end, path)
    size = footer.blocks * INDEX_ENTRY.itemsize
    index = end[: len(end) - FOOTER_SIZE][-size:] if size else end[:0]
    if size > len(index):
        index = storage.read(path, footer.data_end, footer.data_end + size)
    return _decoded(footer, index, hash_code, path)


def _decoded(footer: Footer, index: memoryview, hash_code: int, where: str) -> Tail:
    is_whole = len(index) == footer.blocks * INDEX_ENTRY.itemsize
    if not is_whole or footer.hash_code != hash_code or zlib.crc32(index) != footer.checksum:
        raise CorruptError(f"the index of {where} is damaged", where=where)
    return Tail(np.frombuffer(index, INDEX_ENTRY), footer.root, footer.data_end)


def cid_of(digest: bytes, codec: int, hash_code: int) -> Cid:
    """The CID of an entry: version 1, with a digest of 32 bytes."""
    return Cid(b"\x01%c%c\x20%b" % (codec, hash_code, digest))


def blocks_of(entries: Entries, hash_code: int) -> list[PackBlock]:
    """The blocks of a pack from its entries, in the order of their offsets."""
    rows = sorted(entries.tolist(), key=itemgetter(1, 2))
    return [
        PackBlock(cid_of(bytes(digest), codec, hash_code), offset, offset + size)
        for digest, offset, size, codec in rows
    ]


def digest_prefixes(entries: Entries) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each digest as a number, which sorts like the digest."""
    raw = np.ascontiguousarray(entries).view("u1").reshape(-1, INDEX_ENTRY.itemsize)
    return np.ascontiguousarray(raw[:, :8]).view(">u8").ravel().astype("<u8")


def _in_order(entries: Entries) -> Entries:
    """The entries sorted by digest, equal ones by offset."""
    ordered = entries[np.argsort(entries["offset"], kind="stable")]
    ordered = ordered[np.argsort(digest_prefixes(ordered), kind="stable")]
    prefixes = digest_prefixes(ordered)
    equal = np.flatnonzero(prefixes[1:] == prefixes[:-1])
    if len(equal):
        for run in np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1):
            first, last = int(run[0]), int(run[-1]) + 2
            rows = sorted(ordered[first:last].tolist(), key=lambda row: (bytes(row[0]), row[1]))
            ordered[first:last] = np.array(rows, dtype=INDEX_ENTRY)
    return ordered
