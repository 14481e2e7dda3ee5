"""The CARv1 stream: a header that names roots, then blocks, each behind its length and its CID.

Unlike `car`, which knows the packs that versioned_zarr keeps, this writes any CID, for a stream
that others read. Rules: the CARv1 specification (ipld.io/specs/transport/car/carv1).
"""

from __future__ import annotations

from collections.abc import Sequence

from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import varint

_ROOTS = bytes.fromhex("a265726f6f7473")  # a map of two: "roots", ...
_VERSION = bytes.fromhex("6776657273696f6e01")  # "version", 1
_LINK_TAG = b"\xd8\x2a"  # 42: these bytes are a CID, behind a zero byte


def header(roots: Sequence[Cid]) -> bytes:
    """Return what a stream begins with: its length, then the roots and the version in DAG-CBOR."""
    links = b"".join(_LINK_TAG + _head(0x40, len(root) + 1) + b"\x00" + root for root in roots)
    body = _ROOTS + _head(0x80, len(roots)) + links + _VERSION
    return varint(len(body)) + body


def section_head(cid: Cid, size: int) -> bytes:
    """Return what stands before the bytes of a block of `size` bytes."""
    return varint(len(cid) + size) + cid


def _head(major: int, number: int) -> bytes:
    """The head of a CBOR item: its major type, and its length in as few bytes as will do."""
    if number < 24:
        return bytes((major | number,))
    size = 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4
    return bytes((major | 23 + (size.bit_length()),)) + number.to_bytes(size, "big")
