"""Varints: what is written is read back, and what is cut off or too long is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.ipld import varint


@given(st.integers(0, (1 << 64) - 1), st.binary(), st.binary())
def test_a_number_is_read_back_wherever_it_stands(number: int, before: bytes, rest: bytes) -> None:
    encoded = varint.encode(number)
    assert varint.size(number) == len(encoded)
    end = len(before) + len(encoded)
    assert varint.decode(before + encoded + rest, len(before), 64) == (number, end)
    with pytest.raises(IndexError):
        varint.decode(encoded[:-1], 0, 64)
    if number >> 63:
        with pytest.raises(OverflowError):
            varint.decode(encoded, 0)


@pytest.mark.parametrize("bits", [63, 64])
def test_one_that_is_too_long_is_refused(bits: int) -> None:
    longest = bits // 7 + (bits % 7 > 0)
    assert varint.decode(b"\x80" * (longest - 1) + b"\x01", 0, bits)[1] == longest
    for wrong in (b"\x80" * longest + b"\x01", b"\xff" * (longest + 5)):
        with pytest.raises(OverflowError):
            varint.decode(wrong, 0, bits)
