"""Content coding: decodes the body of a response, for example gzip. RFC 9110, section 8.4.

This package requests no content coding, but some servers and proxies apply one. A few bytes can
decode to a thousand times as many, so the output is limited to small pieces.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from http.client import HTTPException
from typing import Final, TypeAlias

PIECE_BYTES: Final = 256 << 10
_GZIP: Final = 16 + zlib.MAX_WBITS
_CODINGS: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}

Decode: TypeAlias = Callable[[Iterable[bytes]], Iterator[bytes]]


def taken_off(fields: Sequence[str]) -> Decode | None:
    """The decoder for a `Content-Encoding`; None if there is none.

    Raises:
        HTTPException: it is unknown, or there are several.
    """
    names = [name.strip().lower() for field in fields for name in field.split(",")]
    names = [name for name in names if name not in {"", "identity"}]
    if not names:
        return None
    if len(names) > 1 or names[0] not in _CODINGS:
        raise HTTPException(
            f"the content is encoded as {', '.join(names)}, which was not requested"
        )
    return partial(_inflated, _CODINGS[names[0]])


def _inflated(window: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    decoder = zlib.decompressobj(window)
    try:
        for part in parts:
            left = part
            while left:
                yield decoder.decompress(left, PIECE_BYTES)
                left = decoder.unconsumed_tail
        # Data that the limit left in the decoder.
        while rest := decoder.decompress(b"", PIECE_BYTES):
            yield rest
    except zlib.error as error:
        raise HTTPException(f"the content does not match its encoding: {error}") from error
    if not decoder.eof:
        raise HTTPException("the content is truncated")
