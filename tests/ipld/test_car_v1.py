"""The header of a CAR, whatever it names."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.ipld.car_v1 import Car, header, section_head
from versioned_zarr.ipld.cid import Cid, hash_function

SHA2 = hash_function("sha2-256")


def holding(data: bytes) -> Cid:
    """A CID that holds its block itself."""
    assert len(data) < 128
    return Cid(b"\x01\x55\x00" + bytes([len(data)]) + data)


@pytest.mark.parametrize("count", [0, 1, 23, 24, 25, 255, 256, 257, 1000])
def test_a_header_names_any_number_of_roots(count: int) -> None:
    roots = [SHA2.raw(b"%d" % number) for number in range(count)]
    car = Car(BytesIO(header(roots)), "a car")
    assert (car.roots, car.version) == (roots, 1)
    assert list(car.sections()) == []


@given(st.lists(st.integers(0, 127).map(bytes).map(holding), max_size=5))
def test_a_header_names_roots_of_any_length(roots: list[Cid]) -> None:
    sections = [(cid, b"x" * len(cid)) for cid in roots]
    body = b"".join(section_head(cid, len(data)) + data for cid, data in sections)
    car = Car(BytesIO(header(roots) + body), "a car")
    assert car.roots == roots
    assert [(section.cid, section.data) for section in car.sections()] == sections


@pytest.mark.parametrize("length", [22, 23, 24, 25, 255, 256])
def test_the_length_of_a_root_is_written_in_as_few_bytes_as_will_do(length: int) -> None:
    root = Cid(bytes(length - 1))  # a zero byte comes before it
    written = header([root])
    head = {True: bytes([0x40 | length & 31]), False: b"\x58" + bytes([length & 255])}[length < 24]
    if length > 255:
        head = b"\x59" + length.to_bytes(2, "big")
    assert b"\xd8\x2a" + head + b"\x00" + root in written
