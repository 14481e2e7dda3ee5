"""Zarr routes, `/REF/key`: a branch, tag, commit or tree as plain Zarr."""

from __future__ import annotations

import hashlib

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from versioned_zarr.interfaces.web.directory_listing import ListedEntry, answer_list, entries
from versioned_zarr.interfaces.web.exposure import Exposure
from versioned_zarr.interfaces.web.responses import ASK_AGAIN, FOR_EVER, answer_value
from versioned_zarr.interfaces.web.url_paths import UrlPath, write_path
from versioned_zarr.ipld.cid import to_text


def answer_refs(request: Request, offer: Exposure) -> Response:
    """List the branches and tags."""
    words = {"heads": "branch", "tags": "tag"}
    refs = offer.refs()
    found = [
        ListedEntry(ref.name, words[ref.kind], to_text(ref.commit), None, ref.path) for ref in refs
    ]
    state = hashlib.sha256(repr(refs).encode()).hexdigest()[:16]
    return answer_list(request, "Branches and tags", found, {"Cache-Control": ASK_AGAIN}, state)


def answer_key(request: Request, offer: Exposure, path: UrlPath) -> Response:
    """Answer with the value under a key of a ref, or list a directory."""
    ref, *parts = path.parts
    if any("/" in part for part in parts):
        raise HTTPException(
            400, "a part of a key cannot contain a slash; write the slash unescaped"
        )
    version = offer.version(ref)
    link = offer.trees.subtree(version.tree, "/".join(parts))
    if link is None:
        raise HTTPException(404, f"nothing at {'/'.join(parts)!r} in {ref!r}")
    headers = {
        "Cache-Control": FOR_EVER if version.is_fixed else ASK_AGAIN,
        "X-Ipfs-Roots": to_text(version.tree),
    }
    if not offer.trees.is_directory(link):
        if path.is_folder:
            raise HTTPException(404, "this is a value, not a directory")
        return answer_value(request, offer, link.cid, parts[-1], headers)
    if not path.is_folder:
        return RedirectResponse(
            write_path(path.parts, is_folder=True), 301, {"Cache-Control": ASK_AGAIN}
        )
    title = "/".join(path.parts)
    headers["Cache-Control"] = ASK_AGAIN
    return answer_list(request, title, entries(offer, link.cid), headers, to_text(link.cid))
