"""Multihashes: verifies blocks from other tools, which use more hash functions than this package.

Supports the functions that public gateways serve and `ipfs add --hash` offers. Rules: the multihash
specification and its table of codes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from versioned_zarr.ipld import varint

_FUNCTIONS: Final[dict[int, Callable[[bytes | bytearray | memoryview], bytes]]] = {
    0x12: lambda data: hashlib.sha256(data).digest(),
    0x13: lambda data: hashlib.sha512(data).digest(),
    0x14: lambda data: hashlib.sha3_512(data).digest(),
    0x15: lambda data: hashlib.sha3_384(data).digest(),
    0x16: lambda data: hashlib.sha3_256(data).digest(),
    0x17: lambda data: hashlib.sha3_224(data).digest(),
    0x56: lambda data: hashlib.sha256(hashlib.sha256(data).digest()).digest(),
    0xB220: lambda data: hashlib.blake2b(data, digest_size=32).digest(),
    0xB240: lambda data: hashlib.blake2b(data).digest(),
    0xB260: lambda data: hashlib.blake2s(data).digest(),
}
_SHORTEST_BYTES: Final = 20
"""Shorter truncated digests prove nothing; IPFS rejects them, too."""


def multihash_of(cid: bytes) -> bytes | None:
    """Return the multihash in a CID of version 0 or 1; None if it is not a CID."""
    at = 0
    try:
        if cid[:2] != b"\x12\x20":
            version, at = varint.decode(cid, 0)
            if version != 1:
                return None
            _, at = varint.decode(cid, at)
        _, digest = varint.decode(cid, at)
        size, digest = varint.decode(cid, digest)
    except (IndexError, OverflowError):
        return None
    return cid[at:] if len(cid) == digest + size else None


def matches(multihash: bytes, data: bytes | bytearray | memoryview) -> bool | None:
    """Return whether `data` has this multihash; None if that is unknown.

    It is unknown if the function is not supported, if the digest is too short to prove anything, or
    if it does not have the stated length.
    """
    try:
        code, at = varint.decode(multihash, 0)
        size, at = varint.decode(multihash, at)
    except (IndexError, OverflowError):
        return None
    digest = multihash[at:]
    function = _FUNCTIONS.get(code)
    if function is None or len(digest) != size or size < _SHORTEST_BYTES:
        return None
    return function(data)[:size] == digest
