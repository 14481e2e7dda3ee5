"""Bodies in chunks come out as they went in, however they are cut; what is no such body is told."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.backends.http.transfer_coding import without_coding

END = b"0\r\n\r\n"


def coded(chunks: list[bytes], extension: bytes = b"") -> bytes:
    return b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in chunks if each)


def in_pieces(body: bytes, cuts: list[int]) -> Callable[[int], bytes]:
    """Gives a body piece by piece, then nothing."""
    at = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    pieces = [body[start:end] for start, end in pairwise(at)]

    def receive(size: int) -> bytes:
        piece = pieces.pop(0) if pieces else b""
        assert len(piece) <= size
        return piece

    return receive


@given(
    st.lists(st.binary(max_size=40)),
    st.lists(st.integers(0, 2000), max_size=20),
    st.sampled_from([b"", b";a=b", b' ; a="c"']),
    st.sampled_from([END, b"000\r\n\r\n", b"0;z\r\nX-One: 1\r\nTwo: 2\r\n\r\n"]),
)
def test_a_body_comes_as_it_was(
    chunks: list[bytes], cuts: list[int], extension: bytes, end: bytes
) -> None:
    body = coded(chunks, extension) + end
    assert b"".join(without_coding(in_pieces(body, cuts))) == b"".join(chunks)


def test_a_body_comes_byte_by_byte() -> None:
    body = coded([b"some", b"\r\nmore\r\n"]) + b"0\r\nX: y\r\n\r\n"
    assert b"".join(without_coding(in_pieces(body, [*range(len(body))]))) == b"some\r\nmore\r\n"


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1), st.data())
def test_a_body_that_ends_too_early_is_told(chunks: list[bytes], data: st.DataObject) -> None:
    body = coded(chunks) + END
    end = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(HTTPException, match="truncated"):
        list(without_coding(in_pieces(body[:end], [])))


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"-4\r\nsome\r\n",
        b"+4\r\nsome\r\n",
        b"0x4\r\nsome\r\n",
        b"4_0\r\nsome\r\n",
        b"four\r\nsome\r\n",
        b"4\r\nsomemore\r\n" + END,
        b"4\r\nsome" + END,
        b"<html>" * 20_000,
        b"0\r\n" + b"X: y\r\n" * 20_000,
    ],
)
def test_what_is_not_in_chunks_is_told(body: bytes) -> None:
    with pytest.raises(HTTPException):
        list(without_coding(in_pieces(body, [*range(0, len(body), 50_000)])))
