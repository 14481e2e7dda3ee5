"""Content coding: decodes the body of a response, as from gzip. RFC 9110, section 8.4.

Nobody here asks for one; some servers and proxies send it all the same. A few bytes can stand for
a thousand times as many, so no piece that comes out is large, whatever goes in.
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
    """What takes off the coding that `Content-Encoding` names; None where there is none.

    Raises:
        HTTPException: it is one that was not asked for and is not known, or several.
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
        # What a limit left inside.
        while rest := decoder.decompress(b"", PIECE_BYTES):
            yield rest
    except zlib.error as error:
        raise HTTPException(f"the content does not match its encoding: {error}") from error
    if not decoder.eof:
        raise HTTPException("the content is truncated")
