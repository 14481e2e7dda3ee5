"""The CARv2 file: a CARv1 stream in a container, followed by an index of its blocks.

Rules: the CARv2 specification (ipld.io/specs/transport/car/carv2). Files written here have one
root and an index of the kind 0x0401, MultihashIndexSorted, that contains every block.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from versioned_zarr.ipld import car_v1
from versioned_zarr.ipld.cid import CID_SIZE, Cid

PRAGMA: Final = bytes.fromhex("0aa16776657273696f6e02")
_HEADER: Final = struct.Struct("<16sQQQ")  # characteristics, where the stream begins, size, index
_INDEX_CODEC: Final = b"\x81\x08"  # 0x0401 as a varint
_INDEX_HEAD: Final = struct.Struct("<iQiIq")  # codes, code, widths, width, size of the entries
_ENTRY: Final = struct.Struct("<32sQ")  # digest, where the section begins in the stream
_FULLY_INDEXED: Final = b"\x80" + bytes(15)
DATA_OFFSET: Final = len(PRAGMA) + _HEADER.size
FIRST_SECTION: Final = DATA_OFFSET + len(car_v1.header([Cid(bytes(CID_SIZE))]))


def head(root: Cid, data_end: int) -> bytes:
    """Return the first FIRST_SECTION bytes of a file whose last section ends at `data_end`."""
    header = _HEADER.pack(_FULLY_INDEXED, DATA_OFFSET, data_end - DATA_OFFSET, data_end)
    return PRAGMA + header + car_v1.header([root])


def index(sections: Sequence[tuple[bytes, int]], hash_code: int) -> bytes:
    """Return the index.

    Args:
        sections: the digest of each block, and where its section begins in the file.
        hash_code: the multihash code of all of them.
    """
    entries = [_ENTRY.pack(digest, offset - DATA_OFFSET) for digest, offset in sorted(sections)]
    width = _ENTRY.size
    head_ = _INDEX_HEAD.pack(1, hash_code, 1, width, width * len(entries))
    return b"".join([_INDEX_CODEC, head_, *entries])
