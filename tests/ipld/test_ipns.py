"""IPNS records, read from bytes alone; the signature is for another test."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.ipns import IpnsRecord, read_record
from versioned_zarr.ipld.varint import encode as varint

NOW = datetime(2026, 1, 31, tzinfo=UTC)
SOUND: dict[str, Any] = {
    "TTL": 300_000_000_000,
    "Value": b"/ipfs/bafy",
    "Sequence": 7,
    "Validity": b"2026-02-01T12:00:00.123456789Z",
    "ValidityType": 0,
}


def head(kind: int, number: int) -> bytes:
    for size, most in ((0, 24), (1, 1 << 8), (2, 1 << 16), (4, 1 << 32), (8, 1 << 64)):
        if number < most:
            small = number if size == 0 else 23 + size.bit_length()
            return bytes([kind << 5 | small]) + (number.to_bytes(size, "big") if size else b"")
    raise OverflowError


def cbor(item: Any) -> bytes:
    """DAG-CBOR, as the specification of DAG-CBOR says it."""
    if item is None or isinstance(item, bool):
        return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[item]
    if isinstance(item, int):
        return head(0, item) if item >= 0 else head(1, -1 - item)
    if isinstance(item, bytes):
        return head(2, len(item)) + item
    if isinstance(item, str):
        return head(3, len(item.encode())) + item.encode()
    if isinstance(item, list):
        return head(4, len(item)) + b"".join(map(cbor, item))
    pairs = sorted(item.items(), key=lambda pair: (len(pair[0]), pair[0]))
    return head(5, len(item)) + b"".join(cbor(name) + cbor(value) for name, value in pairs)


def read(data: bytes, now: datetime = NOW) -> IpnsRecord:
    def verify(key: bytes, signature: bytes, message: bytes) -> bool:
        return (key, signature, message) == (b"key", b"signature", b"ipns-signature:" + data)

    fields = ((8, b"signature"), (9, data))
    record = b"".join(bytes([at << 3 | 2]) + varint(len(it)) + it for at, it in fields)
    return read_record(record, b"key", verify, now)


def test_a_record_says_what_its_signed_fields_say() -> None:
    until = datetime(2026, 2, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert read(cbor(SOUND)) == IpnsRecord(7, until, "/ipfs/bafy")


@pytest.mark.parametrize("sequence", [0, 23, 24, 255, 256, 65_535, 65_536, 1 << 32, (1 << 64) - 1])
def test_numbers_of_all_widths_are_read(sequence: int) -> None:
    assert read(cbor({**SOUND, "Sequence": sequence})).sequence == sequence


@pytest.mark.parametrize(
    "more", [None, False, True, -5, "text", b"bytes", [1, [None, True]], {"a": {"b": None}}]
)
def test_fields_that_nobody_asked_for_are_passed_over(more: Any) -> None:
    assert read(cbor({**SOUND, "X": more})) == read(cbor(SOUND))


@pytest.mark.parametrize("name", ["Value", "Sequence", "Validity", "ValidityType"])
@pytest.mark.parametrize("wrong", [None, False, True, "7", [], {}, -1, 1.5, ...])
def test_a_field_of_another_kind_is_refused(name: str, wrong: Any) -> None:
    fields = dict(SOUND)
    del fields[name]
    if wrong is ...:
        data = cbor(fields)
    elif isinstance(wrong, float):
        data = head(5, len(fields) + 1) + cbor(fields)[1:] + cbor(name) + b"\xf9\x3e\x00"
    else:
        data = cbor({**fields, name: wrong})
    with pytest.raises(CorruptError):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        cbor(SOUND) + b"\xf6",  # more behind the end
        cbor(None),
        cbor(True),
        cbor([SOUND]),
        cbor({**SOUND, "Validity": b"2026-02-01T12:00:00"}),  # of no zone
        cbor({**SOUND, "Validity": b"soon"}),
        cbor({**SOUND, "Value": b"\xff"}),
        cbor({**SOUND, "ValidityType": 1}),
        cbor({**SOUND, "X": [[[[[[[[[[1]]]]]]]]]]}),  # nested too deep
        head(5, 6) + cbor(SOUND)[1:] + cbor("Sequence") + cbor(8),  # a field twice
        head(5, 6) + cbor(SOUND)[1:] + cbor(7) + cbor(8),  # a field without a name
        head(5, 6) + cbor(SOUND)[1:] + cbor("X") + b"\xd8\x2a\x41\x00",  # a link
        head(5, 6) + cbor(SOUND)[1:] + cbor("X") + b"\xf7",  # undefined
        head(5, 6) + cbor(SOUND)[1:] + cbor("X") + b"\x1c",  # a head that there is not
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptError):
        read(data)


def test_a_record_cut_off_anywhere_is_refused() -> None:
    data = cbor(SOUND)
    for size in range(len(data)):
        with pytest.raises(CorruptError):
            read(data[:size])


def test_a_record_holds_until_it_ends() -> None:
    until = read(cbor(SOUND)).valid_until
    with pytest.raises(CorruptError, match="expired at 2026-02-01"):
        read(cbor(SOUND), until)
