"""Gateway routes, `/ipfs/CID/path`: values, or the blocks that prove them.

Rules: the Trustless Gateway and Path Gateway specifications of IPFS. A directory is always listed,
even if it contains an `index.html`: the values of a repository are data, not web pages.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterable, Iterator
from urllib.parse import urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.interfaces.web.directory_listing import answer_list, entries
from versioned_zarr.interfaces.web.exposure import Exposure
from versioned_zarr.interfaces.web.request_headers import (
    CAR_TYPE,
    RequestHeaders,
    knows,
    wanted_form,
    wanted_part,
)
from versioned_zarr.interfaces.web.responses import (
    FOR_EVER,
    answer_bytes,
    answer_stream,
    answer_value,
    disposition,
    is_document,
    is_json,
    not_modified,
)
from versioned_zarr.interfaces.web.url_paths import UrlPath, write_path
from versioned_zarr.ipld import car_v1
from versioned_zarr.ipld.address.ipfs_address import read_cid
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.identity import inline
from versioned_zarr.ipld.unixfs import VALUES
from versioned_zarr.tree.dag import Block, ResolvedPath, Span, blocks_of_path, resolve
from versioned_zarr.tree.dag_nodes import DIRECTORIES, kind_of, pieces, read_block, size_of

_LIST_CACHED = "public, max-age=604800, stale-while-revalidate=2678400"
_TAR_BLOCK = 512


def answer_ipfs(request: Request, offer: Exposure, path: UrlPath) -> Response:
    """Respond to a request whose path begins with `/ipfs/`."""
    _, name, *rest = path.parts
    if any("/" in part for part in (name, *rest)):
        raise HTTPException(400, "names in a directory cannot contain a slash")
    if request.headers.get("service-worker") == "script" and not (rest or path.is_folder):
        raise HTTPException(400, "no service worker for a whole CID without a trailing slash")
    wanted = wanted_form(request)
    root = read_cid(name)
    if inline(root) is None and root not in offer:
        is_only_if_cached = "only-if-cached" in request.headers.get("cache-control", "")
        raise HTTPException(
            412 if is_only_if_cached else 404, f"{to_text(root)} is not in this repository"
        )
    way = resolve(offer.get, root, rest)
    headers = {
        "Cache-Control": FOR_EVER,
        "X-Ipfs-Path": write_path(path.parts, is_folder=path.is_folder),
        "X-Ipfs-Roots": ",".join(map(to_text, way.roots)),
        "Vary": "Accept",
    }
    if wanted.format == "json":
        _check_json(offer, way.end, path.parts[-1])
    if wanted.format in {"plain", "json"}:
        return _plain(request, offer, path, way, headers, as_json=wanted.format == "json")
    if not wanted.is_in_url:
        headers["Content-Location"] = _location(request, path, wanted)
    if wanted.format == "raw":
        return _raw(request, offer, way, headers)
    if wanted.format == "car":
        return _car(request, offer, way, wanted, headers, _as_asked(name, root))
    return _tar(request, offer, path, way, headers)


def _as_asked(name: str, root: Cid) -> dict[Cid, Cid]:
    """The root as CIDv0 if it was requested as such, because the client looks for that CID."""
    return {root: Cid(root[2:])} if name.startswith("Qm") and root[:2] == b"\x01\x70" else {}


def _location(request: Request, path: UrlPath, wanted: RequestHeaders) -> str:
    """The URL of the same response without the header `Accept`, for caches."""
    query = {**request.query_params, "format": wanted.format}
    if wanted.again:
        query["car-dups"] = "y"
    return f"{write_path(path.parts, is_folder=path.is_folder)}?{urlencode(query)}"


def _check_json(offer: Exposure, cid: Cid, name: str) -> None:
    """Reject a request for JSON if the value is not JSON: nothing is converted here."""
    is_value = kind_of(offer.get, cid) in VALUES
    if not is_value or not (is_document(name) or is_json(offer, cid)):
        raise HTTPException(
            406, "this is not JSON of up to 64 KiB; a gateway does not convert data"
        )


def _plain(
    request: Request,
    offer: Exposure,
    path: UrlPath,
    way: ResolvedPath,
    headers: dict[str, str],
    *,
    as_json: bool = False,
) -> Response:
    name = path.parts[-1]
    if kind_of(offer.get, way.end) in DIRECTORIES:
        if not path.is_folder:
            target = write_path(path.parts, is_folder=True)
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(target + query, 301, {"Cache-Control": FOR_EVER})
        end = to_text(way.end)
        headers["Cache-Control"] = _LIST_CACHED
        if knows(request, f'"{end}"'):
            return not_modified({"ETag": f'"{end}"', **headers})
        title = f"Index of /{'/'.join(path.parts)}"
        return answer_list(request, title, entries(offer, way.end), headers, end)
    if path.is_folder:
        raise HTTPException(404, "this is a value, not a directory")
    filename = request.query_params.get("filename")
    is_download = request.query_params.get("download") == "true"
    if filename is not None or is_download:
        kind = "attachment" if is_download else "inline"
        headers["Content-Disposition"] = disposition(kind, filename or name)
    known_as = filename or (name if len(path.parts) > 2 else "")
    return answer_value(request, offer, way.end, known_as, headers, as_json=as_json)


def _filename(request: Request, default: str) -> dict[str, str]:
    name = request.query_params.get("filename") or default
    return {"Content-Disposition": disposition("attachment", name)}


def _raw(request: Request, offer: Exposure, way: ResolvedPath, headers: dict[str, str]) -> Response:
    end = to_text(way.end)
    block = memoryview(read_block(offer.get, way.end))
    given = {
        "Content-Type": "application/vnd.ipld.raw",
        "ETag": f'"{end}.raw"',
        **_filename(request, f"{end}.bin"),
        **headers,
    }
    return answer_bytes(request, len(block), lambda a, b: iter([block[a:b]]), given)


def _car(
    request: Request,
    offer: Exposure,
    way: ResolvedPath,
    wanted: RequestHeaders,
    headers: dict[str, str],
    called: dict[Cid, Cid],
) -> Response:
    scope, span = wanted_part(request)
    if span is not None:
        _check_span(offer, way.end, span)
    read_block(offer.get, way.end)  # 404 instead of a broken stream, if it is missing
    asked = repr((way.roots, scope.value, span, wanted.again, *called.values()))
    asked_short = hashlib.sha256(asked.encode()).hexdigest()[:16]
    dups = "y" if wanted.again else "n"
    end = to_text(way.end)
    given = {
        "Content-Type": f"{CAR_TYPE}; version=1; order=dfs; dups={dups}",
        "ETag": f'"{end}.car.{asked_short}"',
        **_filename(request, f"{end}.car"),
        **headers,
    }
    blocks = blocks_of_path(offer.get, way, scope, span, again=wanted.again)
    return answer_stream(request, _car_parts(way.end, blocks, called), given)


def _check_span(offer: Exposure, cid: Cid, span: Span) -> None:
    """Reject a span outside a value; for a directory, the span is ignored."""
    try:
        size = size_of(offer.get, cid)
    except (InvalidInputError, ValueError):
        return
    if span.first >= size > 0:
        raise HTTPException(
            400, f"entity-bytes begins at {span.first}, past the end at {size} bytes"
        )


def _car_parts(
    root: Cid, blocks: Iterable[Block], called: dict[Cid, Cid]
) -> Iterator[bytes | memoryview]:
    yield car_v1.header([called.get(root, root)])
    for cid, block in blocks:
        yield car_v1.section_head(called.get(cid, cid), len(block))
        yield block


def _tar(
    request: Request, offer: Exposure, path: UrlPath, way: ResolvedPath, headers: dict[str, str]
) -> Response:
    end = to_text(way.end)
    name = path.parts[-1]
    given = {
        "Content-Type": "application/x-tar",
        "ETag": f'W/"{end}.x-tar.{hashlib.sha256(name.encode()).hexdigest()[:8]}"',
        **_filename(request, f"{name}.tar"),
        **headers,
    }
    return answer_stream(request, _tar_parts(offer, name, way.end), given)


def _tar_parts(offer: Exposure, name: str, root: Cid) -> Iterator[bytes | memoryview]:
    """A tar of a value or a directory: without owners and times, which a tree does not have."""
    way = [iter([(name, Link(name, root, 0))])]
    while way:
        found = next(way[-1], None)
        if found is None:
            way.pop()
            continue
        path, link = found
        info = tarfile.TarInfo(path)
        if kind_of(offer.get, link.cid) in DIRECTORIES:
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            yield info.tobuf(tarfile.PAX_FORMAT, errors="strict")
            way.append(_below(path, offer, link.cid))
            continue
        info.size = size_of(offer.get, link.cid)
        yield info.tobuf(tarfile.PAX_FORMAT, errors="strict")
        yield from pieces(offer.get, link.cid, 0, info.size)
        yield bytes(-info.size % _TAR_BLOCK)
    yield bytes(2 * _TAR_BLOCK)


def _below(path: str, offer: Exposure, cid: Cid) -> Iterator[tuple[str, Link]]:
    return ((f"{path}/{link.name}", link) for link in offer.trees.directory(cid))
