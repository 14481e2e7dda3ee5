"""The CAR format of packs: consecutive blocks, and the index at the end of a version 2 file.

Sources: the CARv1 and CARv2 specifications (ipld.io/specs/transport/car). A pack is a CARv2 with
    one
root and an index of type 0x0401, MultihashIndexSorted, that names every block. docs/design/packs.md
shows the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld import varint
from versioned_zarr.ipld.cid import CID_SIZE, Cid

PRAGMA = bytes.fromhex("0aa16776657273696f6e02")
HEADER_SIZE = 40
DATA_OFFSET = len(PRAGMA) + HEADER_SIZE
INDEX_CODEC = b"\x81\x08"  # 0x0401 as a varint

_HEADER = struct.Struct("<16sQQQ")
_INDEX_HEAD = struct.Struct("<iQiIq")  # codes, code, widths, width, size of the entries in bytes
_FULLY_INDEXED = b"\x80" + bytes(15)
_V1_ROOT = bytes.fromhex("3aa265726f6f747381d82a582500")
_V1_VERSION = bytes.fromhex("6776657273696f6e01")
V1_HEADER_SIZE = len(_V1_ROOT) + CID_SIZE + len(_V1_VERSION)
FIRST_SECTION = DATA_OFFSET + V1_HEADER_SIZE

_MAX_SECTION_HEADER = CID_SIZE + 3  # of a block below 2 MiB

INDEX_ENTRY = np.dtype([("digest", "V32"), ("offset", "<u8")])


class CarSection(NamedTuple):
    """Where one block lies in a buffer: its section's start, its CID, its bytes from-to."""

    offset: int
    cid: Cid
    start: int
    end: int


def decode_varint(buffer: memoryview | bytes, position: int, where: str) -> tuple[int, int]:
    """The varint at `position` and the position behind it.

    Raises:
        CorruptError: the bytes end inside it, or it is longer than nine bytes.
    """
    try:
        return varint.decode(buffer, position)
    except (IndexError, OverflowError):
        raise CorruptError(f"no varint at byte {position} of {where}", where=where) from None


def section_header(cid: Cid, size: int) -> bytes:
    """What stands before the bytes of a block of `size` bytes."""
    length = size + CID_SIZE
    if length < 0x80:
        return bytes((length,)) + cid
    if length < 0x4000:
        return bytes((length & 0x7F | 0x80, length >> 7)) + cid
    if length < 0x200000:
        return bytes((length & 0x7F | 0x80, length >> 7 & 0x7F | 0x80, length >> 14)) + cid
    return varint.encode(length) + cid


def header_size(size: int) -> int:
    """How many bytes stand before the bytes of a block of `size` bytes."""
    length = size + CID_SIZE
    if length < 0x4000:
        return CID_SIZE + (1 if length < 0x80 else 2)
    return CID_SIZE + (3 if length < 0x200000 else varint.size(length))


def header_size_in(length: int) -> int:
    """How many of the bytes of a whole section stand before its block."""
    if length < 0x80 + 1:
        return CID_SIZE + 1
    if length < 0x4000 + 2:
        return CID_SIZE + 2
    size = 3
    while length - size >= 1 << 7 * size:
        size += 1
    return CID_SIZE + size


def block_at(buffer: memoryview, offset: int, cid: Cid) -> tuple[int, int] | None:
    """Where the block `cid` lies in a buffer if its section begins at `offset`; None if it doesn't.

    Returns:
        The offset of its first byte, and of the one behind its last; half a microsecond.
    """
    head = buffer[offset : offset + _MAX_SECTION_HEADER].tobytes()
    before = head.find(cid)
    if before == 3:  # from 16 KiB to 2 MiB: chunks and leaves
        length = head[0] - 0x80 + (head[1] - 0x80 << 7) + (head[2] << 14)
    elif before == 2:
        length = head[0] - 0x80 + (head[1] << 7)
    elif before == 1:
        length = head[0]
    else:
        return None
    end = offset + before + length
    start = offset + before + CID_SIZE
    return (start, end) if start <= end <= len(buffer) else None


def pack_head(root: Cid, data_end: int) -> bytes:
    """The first FIRST_SECTION bytes of a pack whose last section ends at `data_end`."""
    header = _HEADER.pack(_FULLY_INDEXED, DATA_OFFSET, data_end - DATA_OFFSET, data_end)
    return PRAGMA + header + _V1_ROOT + root + _V1_VERSION


def read_pack_head(buffer: memoryview | bytes, where: str) -> tuple[Cid, int]:
    """The root of a pack and the offset at which its sections end.

    Raises:
        CorruptError: these bytes do not begin a pack.
    """
    if len(buffer) < FIRST_SECTION:
        raise CorruptError(f"{where} is too short to be a pack", where=where)
    root_at = DATA_OFFSET + len(_V1_ROOT)
    root = Cid(bytes(buffer[root_at : root_at + CID_SIZE]))
    data_end = _HEADER.unpack_from(buffer, len(PRAGMA))[3]
    if data_end < DATA_OFFSET or bytes(buffer[:FIRST_SECTION]) != pack_head(root, data_end):
        raise CorruptError(f"the header of {where} is damaged", where=where)
    return root, data_end


def sections(buffer: memoryview, start: int, end: int, where: str) -> Iterator[CarSection]:
    """The sections of a buffer from one offset to another, without reading the blocks.

    Raises:
        CorruptError: at the first position where no section can begin.
    """
    position = start
    while position < end:
        length, at = decode_varint(buffer, position, where)
        block, stop = at + CID_SIZE, at + length
        if length < CID_SIZE or stop > end:
            raise CorruptError(f"no section at byte {position} of {where}", where=where)
        yield CarSection(position, Cid(bytes(buffer[at:block])), block, stop)
        position = stop


def encode_index(entries: npt.NDArray[np.void], hash_code: int) -> bytes:
    """The index of a pack: entries of INDEX_ENTRY, offsets counted from DATA_OFFSET.

    Equal digests keep the order of their offsets.
    """
    order = np.argsort(digest_prefixes(entries), kind="stable")
    ordered = entries[order]
    _settle_equal_prefixes(ordered)
    width = INDEX_ENTRY.itemsize
    head = _INDEX_HEAD.pack(1, hash_code, 1, width, width * len(entries))
    return INDEX_CODEC + head + ordered.tobytes()


def digest_prefixes(entries: npt.NDArray[np.void]) -> npt.NDArray[np.uint64]:
    """The first eight bytes of each digest as a number that sorts as the digest does."""
    raw = np.ascontiguousarray(entries).view("u1").reshape(-1, INDEX_ENTRY.itemsize)
    return np.ascontiguousarray(raw[:, :8]).view(">u8").ravel().astype("<u8")


def _settle_equal_prefixes(ordered: npt.NDArray[np.void]) -> None:
    prefixes = digest_prefixes(ordered)
    equal = np.flatnonzero(prefixes[1:] == prefixes[:-1])
    if not len(equal):
        return
    for run in np.split(equal, np.flatnonzero(np.diff(equal) > 1) + 1):
        first, last = int(run[0]), int(run[-1]) + 2
        rows = sorted(ordered[first:last].tolist(), key=lambda row: (bytes(row[0]), row[1]))
        ordered[first:last] = np.array(rows, dtype=INDEX_ENTRY)


def decode_index(buffer: memoryview | bytes, hash_code: int, where: str) -> npt.NDArray[np.void]:
    """The entries of a pack's index, as they lie in the buffer.

    Raises:
        CorruptError: these bytes are not such an index.
    """
    at = len(INDEX_CODEC)
    width = INDEX_ENTRY.itemsize
    if len(buffer) >= at + _INDEX_HEAD.size and bytes(buffer[:at]) == INDEX_CODEC:
        codes, code, widths, found, size = _INDEX_HEAD.unpack_from(buffer, at)
        whole = (codes, code, widths, found, size % width) == (1, hash_code, 1, width, 0)
        if whole and at + _INDEX_HEAD.size + size == len(buffer):
            return np.frombuffer(buffer, INDEX_ENTRY, offset=at + _INDEX_HEAD.size)
    raise CorruptError(f"the index of {where} is damaged", where=where)
