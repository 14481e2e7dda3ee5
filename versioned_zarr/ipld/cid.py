"""CIDs: the name of a block, made of its codec, its hash function and its digest.

Only CIDv1 with the codecs raw and dag-pb and a digest of 32 bytes, which is all that UnixFS needs.
A link in a tree from another tool may hold another kind of CID; it is preserved and verified
against its block, but never computed.
Rules: the CID and multihash specifications of Multiformats.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NewType, TypeAlias

from versioned_zarr.errors import (
    CorruptBlockError,
    InvalidCidError,
    InvalidInputError,
    MissingDependencyError,
)
from versioned_zarr.ipld import multihash

Buffer: TypeAlias = bytes | bytearray | memoryview
Cid = NewType("Cid", bytes)

RAW: Final = 0x55
DAG_PB: Final = 0x70
CID_SIZE: Final = 36
FOREIGN: Final = b"\x01\x55\x00\x20"
"""The prefix of a CID that contains the id of a foreign commit; see `is_foreign`."""

_SHA2_256: Final = 0x12
_BLAKE3: Final = 0x1E
_DIGEST_SIZE: Final = 32
_CIDV0: Final = b"\x12\x20"
"""CIDv0 is a bare multihash, and always dag-pb."""


@dataclass(frozen=True)
class HashFunction:
    """A hash function for CIDs; obtained from `hash_function`.

    Attributes:
        name: its name in the multicodec table: "sha2-256" or "blake3".
        code: its multicodec number.
        digest: returns the 32-byte digest of a buffer; releases the GIL for more than 2 KiB.
    """

    name: str
    code: int
    digest: Callable[[Buffer], bytes]

    def raw(self, data: Buffer) -> Cid:
        """Return the CID of `data` as a raw block."""
        return Cid(_RAW_HEADS[self.code] + self.digest(data))

    def dag_pb(self, data: Buffer) -> Cid:
        """Return the CID of `data` as a dag-pb block."""
        return Cid(_DAG_PB_HEADS[self.code] + self.digest(data))

    def __reduce__(self) -> tuple[Callable[[str], HashFunction], tuple[str]]:
        return hash_function, (self.name,)


def _sha2_256(data: Buffer) -> bytes:
    return hashlib.sha256(data).digest()


def _load_sha2_256() -> HashFunction:
    return HashFunction("sha2-256", _SHA2_256, _sha2_256)


def _load_blake3() -> HashFunction:
    try:
        from blake3 import blake3  # noqa: PLC0415 - an extra, loaded on demand
    except ImportError as error:
        raise MissingDependencyError(
            "the hash function blake3 needs the package blake3; "
            "install it with `pip install 'versioned-zarr[blake3]'`",
            package="blake3",
            extra="blake3",
        ) from error
    return HashFunction("blake3", _BLAKE3, lambda data: blake3(data).digest())


_LOADERS: Final = {"sha2-256": _load_sha2_256, "blake3": _load_blake3}
_CODES: Final = {_SHA2_256: "sha2-256", _BLAKE3: "blake3"}
_RAW_HEADS: Final = {code: bytes((1, RAW, code, _DIGEST_SIZE)) for code in _CODES}
_DAG_PB_HEADS: Final = {code: bytes((1, DAG_PB, code, _DIGEST_SIZE)) for code in _CODES}
_loaded: Final[dict[str, HashFunction]] = {}


def hash_function(name: str) -> HashFunction:
    """Return the hash function called `name`.

    Raises:
        InvalidInputError: there is no such hash function.
        MissingDependencyError: its package is not installed.
    """
    found = _loaded.get(name)
    if found is None:
        load = _LOADERS.get(name)
        if load is None:
            known = " and ".join(repr(each) for each in _LOADERS)
            raise InvalidInputError(f"unknown hash function {name!r}; supported: {known}")
        found = _loaded[name] = load()
    return found


def hash_of_code(code: int) -> HashFunction:
    """Return the hash function with a multihash code.

    Raises:
        InvalidInputError: none of ours has this code.
        MissingDependencyError: see `hash_function`.
    """
    return hash_function(_CODES.get(code, f"0x{code:x}"))


def hash_of(cid: Cid) -> HashFunction:
    """Return the hash function of `cid`.

    Raises:
        InvalidCidError: `cid` is of a kind that versioned_zarr does not compute.
        MissingDependencyError: see `hash_function`.
    """
    name = _CODES.get(cid[2]) if is_ours(cid) else None
    if name is None:
        raise InvalidCidError(
            f"the CID {_in_words(cid)} is of an unknown kind; supported: CIDv1, raw or dag-pb, "
            "with sha2-256 or blake3",
            text=_in_words(cid),
        )
    return hash_function(name)


def is_ours(cid: bytes) -> bool:
    """Return whether `cid` is of the only kind that is computed here; see the module."""
    return (
        len(cid) == CID_SIZE
        and cid[0] == 1
        and cid[1] in {RAW, DAG_PB}
        and cid[2] in _CODES
        and cid[3] == _DIGEST_SIZE
    )


def codec(cid: Cid) -> int:
    """Return the codec of the block with this CID: RAW, DAG_PB, or another one."""
    if cid[:2] == _CIDV0:
        return DAG_PB
    code = shift = 0
    for byte in cid[1:10]:
        code |= (byte & 0x7F) << shift
        if byte < 0x80:
            return code
        shift += 7
    raise InvalidCidError(f"the CID {_in_words(cid)} has no codec", text=_in_words(cid))


def digest(cid: Cid) -> bytes:
    """Return the 32-byte digest in `cid`."""
    return cid[-_DIGEST_SIZE:]


def is_raw(cid: Cid) -> bool:
    """Return whether `cid` is that of a raw block: a value or a part of one, never a tree."""
    return cid[:2] == b"\x01\x55"


def is_foreign(cid: Cid) -> bool:
    """Return whether `cid` contains the id, of 32 bytes, of a commit in another system.

    It contains the id itself, as an identity multihash, so that a link to it needs no block.
    """
    return cid[:4] == FOREIGN and len(cid) == CID_SIZE


def to_text(cid: Cid) -> str:
    """Return `cid` in base32, as IPFS tools print it: `bafy...` or `bafk...`; v0 becomes v1."""
    if cid[:2] == _CIDV0:
        cid = Cid(b"\x01\x70" + cid)
    return "b" + base64.b32encode(cid).decode("ascii").rstrip("=").lower()


def from_text(text: str) -> Cid:
    """Parse a CID that `to_text` or an IPFS tool printed in base32.

    Raises:
        InvalidCidError: not a CID, or of a kind that versioned_zarr does not compute.
    """
    if text[:1] in {"Q", "k", "z", "f"} and len(text) > 40:
        raise InvalidCidError(
            f"{text!r} is not a CIDv1 in base32; convert it with `ipfs cid base32`", text=text
        )
    body = text[1:]
    if text[:1] not in {"b", "B"} or not body.isascii() or not body.isalnum():
        raise InvalidCidError(f"{text!r} is not a CID; one begins with 'b'", text=text)
    padding = "=" * (-len(body) % 8)
    try:
        cid = Cid(base64.b32decode(body + padding, casefold=True))
    except binascii.Error as error:
        raise InvalidCidError(f"{text!r} is not a CID: not base32", text=text) from error
    if not (is_ours(cid) or is_foreign(cid)) or to_text(cid) != text.lower():
        raise InvalidCidError(
            f"{text!r} is not a CIDv1, raw or dag-pb, with sha2-256 or blake3", text=text
        )
    return cid


def matches(cid: Cid, data: Buffer) -> bool:
    """Return whether `data` matches `cid`; hashes all of it.

    Raises:
        InvalidCidError: the hash function of `cid` is not supported.
    """
    if is_ours(cid):
        return hash_of(cid).digest(data) == digest(cid)
    found = multihash.matches(multihash.multihash_of(cid) or b"", data)
    if found is None:
        raise InvalidCidError(
            f"the CID {_in_words(cid)} has an unknown hash function, so nothing "
            "that is read under it can be verified",
            text=_in_words(cid),
        )
    return found


def check(cid: Cid, data: Buffer, where: str) -> None:
    """Make sure that `data`, read from `where`, matches `cid`.

    Raises:
        CorruptBlockError: it does not match.
    """
    if not matches(cid, data):
        text = to_text(cid)
        raise CorruptBlockError(
            f"block {text} in {where} is damaged: its {len(data)} bytes have another hash; "
            "fetch it again from a copy of the repository, or run fsck to see what it affects",
            where=where,
            cid=text,
        )


def _in_words(cid: bytes) -> str:
    return to_text(Cid(cid)) if cid else "of no bytes"
