"""Transfer coding: decodes chunked bodies of HTTP. RFC 9112, section 7.1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Final, TypeAlias

PIECE_BYTES: Final = 256 << 10
"""The size of a read; the system returns the available bytes."""
_LINES_BYTES: Final = 64 << 10
_END_OF_LINE: Final = b"\r\n"

Receive: TypeAlias = Callable[[int], bytes]
"""Waits for bytes and returns up to this many; none at the end."""


def without_coding(receive: Receive) -> Iterator[bytes]:
    """Decode the chunks of a body; chunks that arrive together are joined.

    Args:
        receive: returns the next bytes of the body; bytes after its end are dropped.

    Raises:
        HTTPException: it is truncated, or is not chunked.
    """
    held = b""
    before = b""  # data before the line with the next length
    left = 0
    while True:
        held += _some(receive(PIECE_BYTES))
        view = memoryview(held)
        parts = []
        at = 0
        while True:
            part = view[at : at + left]
            parts.append(part)
            at += len(part)
            left -= len(part)
            end = -1 if left else held.find(_END_OF_LINE, at + len(before))
            if end < 0:
                break
            left = _length(held[at:end], before)
            before = _END_OF_LINE
            if not left:
                yield b"".join(parts)
                _pass_trailers(held[end:], receive)
                return
            at = end + len(_END_OF_LINE)
        yield b"".join(parts)
        held = held[at:]
        if len(held) > _LINES_BYTES:
            raise HTTPException("a chunk has no length")


def _length(line: bytes, before: bytes) -> int:
    """The length of a chunk, from the line before it."""
    digits = line[len(before) :].partition(b";")[0].strip()
    if line.startswith(before) and digits.isalnum():  # no sign, and nothing else that `int` accepts
        try:
            return int(digits, 16)
        except ValueError:
            pass
    raise HTTPException("a chunk has no length")


def _pass_trailers(held: bytes, receive: Receive) -> None:
    """Skip the trailers after the last chunk, up to an empty line."""
    while 2 * _END_OF_LINE not in held:
        held += _some(receive(_LINES_BYTES))
        if len(held) > _LINES_BYTES:
            raise HTTPException("nothing ends the last chunk")


def _some(piece: bytes) -> bytes:
    if not piece:
        raise HTTPException("it is truncated")
    return piece
