"""Responses from blocks: whole values, ranges and streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from versioned_zarr.interfaces.web.exposure import Exposure
from versioned_zarr.interfaces.web.request_headers import knows, wanted_range
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.identity import inline
from versioned_zarr.tree.dag_nodes import pieces, read_node, size_of

FOR_EVER: Final = "public, max-age=29030400, immutable"
ASK_AGAIN: Final = "no-cache"

_GATHERED_BYTES: Final = 256 << 10
_LARGE_BYTES: Final = 32 << 10
_JSON: Final = "application/json"
_LOOKED_AT_BYTES: Final = 64 << 10
_DOCUMENTS: Final = (".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_NOSNIFF: Final = {"X-Content-Type-Options": "nosniff"}


def answer_value(
    request: Request,
    offer: Exposure,
    cid: Cid,
    name: str,
    headers: Mapping[str, str],
    *,
    as_json: bool = False,
) -> Response:
    """The bytes of a value, or the requested range of them.

    Never with a type that a browser would run: the content of a repository is data.

    Args:
        request: the request.
        offer: the exposed repository.
        cid: the value.
        name: its name; empty if only its CID is known, and the type is derived from its bytes.
        headers: the response headers.
        as_json: whether it is known to be JSON, whatever its name.
    """
    size = _size(offer, cid)
    as_json = as_json or is_document(name) or (not name and is_json(offer, cid))
    kind = _JSON if as_json else "application/octet-stream"
    given = {"Content-Type": kind, "ETag": f'"{to_text(cid)}"', **headers}
    return answer_bytes(request, size, lambda a, b: pieces(offer.get, cid, a, b), given)


def is_document(name: str) -> bool:
    """Whether a value is JSON by its name."""
    return name.endswith(_DOCUMENTS)


def is_json(offer: Exposure, cid: Cid) -> bool:
    """Whether a value is a JSON object or array in one block of up to 64 KiB. Reads that block.

    Reads no blocks below it: a range must be served even if blocks outside it are missing.
    """
    if not 0 < _size(offer, cid) <= _LOOKED_AT_BYTES:
        return False
    node = read_node(offer.get, cid)
    if node.links:
        return False
    try:
        found = json.loads(node.data.decode())
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested too deeply
        return False
    return isinstance(found, dict | list)


def _size(offer: Exposure, cid: Cid) -> int:
    is_stored_leaf = cids.is_raw(cid) and inline(cid) is None
    return offer.size(cid) if is_stored_leaf else size_of(offer.get, cid)


def answer_bytes(
    request: Request,
    size: int,
    read: Callable[[int, int], Iterator[memoryview]],
    headers: Mapping[str, str],
) -> Response:
    """A body of known size, or the requested range of it; 304 if the ETag matches.

    Bytes in one piece are sent without a copy. Otherwise each piece is read when it is its turn; an
    error then closes the connection.

    Args:
        request: the request.
        size: the total size in bytes.
        read: returns the bytes from a start to a stop, in pieces.
        headers: the response headers, including `ETag`.
    """
    if knows(request, headers["ETag"]):
        return not_modified(headers)
    wanted = wanted_range(request, headers["ETag"], size)
    start, stop = wanted or (0, size)
    given = {**_NOSNIFF, "Accept-Ranges": "bytes", "Content-Length": str(stop - start), **headers}
    if wanted is not None:
        given["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    status = 200 if wanted is None else 206
    if request.method == "HEAD" or start == stop:
        return Response(status_code=status, headers=given)
    found = read(start, stop)
    first = next(found)
    if len(first) == stop - start:
        return Response(first, status_code=status, headers=given)
    return StreamingResponse(chain([first], found), status_code=status, headers=given)


def answer_stream(
    request: Request, parts: Iterable[bytes | memoryview], headers: Mapping[str, str]
) -> Response:
    """A body of unknown length; an error in the middle closes the connection.

    Generated in threads, in chunks large enough to be worth the switch.
    """
    if knows(request, headers["ETag"]):
        return not_modified(headers)
    given = {**_NOSNIFF, "Accept-Ranges": "none", **headers}
    if request.method == "HEAD":
        return StreamingResponse((), headers=given)
    chunks = _gathered(parts)
    # The first chunks are generated here, so that an immediate error gets its own status.
    first = next(chunks, b"")
    return StreamingResponse(chain([first], chunks), headers=given)


def _gathered(parts: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The same bytes, with small parts joined and large ones unchanged."""
    small: list[bytes | memoryview] = []
    size = 0
    for part in parts:
        if len(part) >= _LARGE_BYTES:
            if small:
                yield b"".join(small)
                small, size = [], 0
            yield part
            continue
        small.append(part)
        size += len(part)
        if size >= _GATHERED_BYTES:
            yield b"".join(small)
            small, size = [], 0
    if small:
        yield b"".join(small)


def not_modified(headers: Mapping[str, str]) -> Response:
    """304, with the headers that RFC 9110 section 15.4.5 requires."""
    kept = {"ETag", "Cache-Control", "Content-Location", "Vary", "X-Ipfs-Path", "X-Ipfs-Roots"}
    return Response(status_code=304, headers={k: v for k, v in headers.items() if k in kept})


def disposition(way: str, name: str) -> str:
    """`Content-Disposition` for any file name, as in the Path Gateway specification."""
    plain = "".join(c if " " <= c <= "~" and c not in '"\\' else "_" for c in name)
    if plain == name:
        return f'{way}; filename="{name}"'
    return f"{way}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"
