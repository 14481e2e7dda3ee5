"""IPNS: the key of a name, and the signed content of a record.

Parses bytes only; the caller passes in the function that verifies a signature. Rules: the IPNS
Record specification (specs.ipfs.tech/ipns/ipns-record), its section "Record Verification".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias, TypeGuard

from versioned_zarr.errors import CorruptBlockError, CorruptError, InvalidUrlError
from versioned_zarr.ipld.dag_pb import read_fields

LONGEST_RECORD_BYTES: Final = 10 << 10
_ED25519_NAME: Final = b"\x01\x72\x00\x24\x08\x01\x12\x20"
"""CIDv1, codec libp2p-key, identity multihash of 36 bytes: a protobuf of an Ed25519 key."""
_RSA_NAME: Final = b"\x01\x72\x12\x20"
_SIGNED_PREFIX: Final = b"ipns-signature:"
_SIGNATURE_FIELD: Final = 8
_DATA_FIELD: Final = 9
_DEEPEST: Final = 8
_SIMPLE: Final = {20: False, 21: True, 22: None}

Verify: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""Whether a signature of a message by a public Ed25519 key is valid."""
_Cbor: TypeAlias = "int | bytes | str | bool | list[_Cbor] | dict[str, _Cbor] | None"


class IpnsRecord(NamedTuple):
    """The signed content of a record. Records compare by age: the newer one is greater.

    Attributes:
        sequence: the number of updates of the name.
        valid_until: when the record expires.
        path: the target of the name, as `/ipfs/CID/path` or `/ipns/NAME/path`.
    """

    sequence: int
    valid_until: datetime
    path: str


def public_key(name: bytes, text: str) -> bytes:
    """The public Ed25519 key in a name, as 32 bytes.

    Args:
        name: the name as a CID.
        text: the name as it was written.

    Raises:
        InvalidUrlError: it is the name of another kind of key, or not a key.
    """
    if name.startswith(_ED25519_NAME) and len(name) == len(_ED25519_NAME) + 32:
        return name[len(_ED25519_NAME) :]
    kind = "an RSA key or another key "
    "type" if name.startswith(_RSA_NAME) else "a key that is not Ed25519"
    raise InvalidUrlError(
        f"the IPNS name {text!r} names {kind}, but only Ed25519 keys can be verified here; "
        f"'ipfs name resolve {text}' prints its current CID: open that",
        url=text,
    )


def read_record(record: bytes, key: bytes, verify: Verify, now: datetime) -> IpnsRecord:
    """Parse a record, and verify its signature and its expiry time.

    Args:
        record: the record as gateways send it (`application/vnd.ipfs.ipns-record`).
        key: the public key of the name.
        verify: verifies the signature.
        now: the current time, with its time zone.

    Raises:
        CorruptError: it is not a valid record, is not signed by this key, or has expired.
    """
    if len(record) > LONGEST_RECORD_BYTES:
        raise CorruptError(f"an IPNS record of more than {LONGEST_RECORD_BYTES} bytes")
    try:
        fields = dict(read_fields(record))
    except CorruptBlockError as error:
        raise CorruptError("something other than an IPNS record") from error
    signature, data = fields.get(_SIGNATURE_FIELD), fields.get(_DATA_FIELD)
    if not isinstance(signature, bytes) or not isinstance(data, bytes):
        raise CorruptError("an IPNS record without a version 2 signature")
    if not verify(key, signature, _SIGNED_PREFIX + data):
        raise CorruptError("an IPNS record that the key of this name did not sign")
    # Only signed fields are read; the same fields outside of `data` are for older readers.
    found = _read_data(data)
    if found.valid_until <= now:
        raise CorruptError(f"an IPNS record that expired at {found.valid_until.isoformat()}")
    return found


def _read_data(data: bytes) -> IpnsRecord:
    try:
        document, end = _read_cbor(data, 0, 0)
    except (IndexError, UnicodeDecodeError) as error:
        raise CorruptError("a truncated IPNS record") from error
    if isinstance(document, dict) and end == len(data):
        sequence, kind = document.get("Sequence"), document.get("ValidityType")
        value, validity = document.get("Value"), document.get("Validity")
        if _is_number(sequence) and isinstance(value, bytes) and isinstance(validity, bytes):
            try:
                until = datetime.fromisoformat(validity.decode("ascii"))
                if _is_number(kind) and kind == 0 and until.tzinfo is not None:
                    return IpnsRecord(sequence, until.astimezone(UTC), value.decode())
            except ValueError:
                pass
    raise CorruptError("an IPNS record that lacks required fields")


def _is_number(item: _Cbor) -> TypeGuard[int]:
    """Whether an item is a nonnegative integer; True and False, ints in Python, are not."""
    return isinstance(item, int) and not isinstance(item, bool) and item >= 0


def _read_cbor(data: bytes, at: int, depth: int) -> tuple[_Cbor, int]:
    """One item of DAG-CBOR and where it ends; no floats and links, which records do not have."""
    if depth > _DEEPEST:
        raise CorruptError("an IPNS record nested too deeply")
    kind, number, at = _read_head(data, at)
    if kind == 0:
        return number, at
    if kind == 1:
        return -1 - number, at
    if kind in {2, 3}:
        body = data[at : at + number]
        if len(body) < number:
            raise IndexError
        return (body if kind == 2 else body.decode()), at + number
    if kind in {4, 5}:
        items: list[_Cbor] = []
        for _ in range(number * (kind - 3)):
            item, at = _read_cbor(data, at, depth + 1)
            items.append(item)
        return (items if kind == 4 else _as_map(items)), at
    if kind == 7 and number in _SIMPLE:
        return _SIMPLE[number], at
    raise CorruptError("an IPNS record with an item of an unknown kind")


def _read_head(data: bytes, at: int) -> tuple[int, int, int]:
    """The kind of an item, the number in its head, and where the head ends."""
    kind, number = data[at] >> 5, data[at] & 31
    at += 1
    if number < 24:
        return kind, number, at
    if number > 27 or kind == 7:
        raise CorruptError("an IPNS record with an item of an unknown kind")
    end = at + (1 << (number - 24))
    if end > len(data):
        raise IndexError
    return kind, int.from_bytes(data[at:end], "big"), end


def _as_map(items: list[_Cbor]) -> dict[str, _Cbor]:
    names = [name for name in items[::2] if isinstance(name, str)]
    if len(set(names)) * 2 != len(items):
        raise CorruptError("an IPNS record with an invalid or repeated field name")
    return dict(zip(names, items[1::2], strict=True))
