"""Directory listings: refs and directories as HTML and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from html import escape
from typing import Final, NamedTuple
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from versioned_zarr.interfaces.web.exposure import Exposure
from versioned_zarr.interfaces.web.responses import answer_stream
from versioned_zarr.ipld.cid import Cid, to_text

_VERSION: Final = "2"
"""Changed when the format of the pages changes, so that caches ask again."""
# These pages run no scripts and load nothing.
_POLICY: Final = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE: Final = (
    ":root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;margin:2em}"
    "td{padding:0 2em 0 0}code,td{font-family:ui-monospace,monospace}"
)


class ListedEntry(NamedTuple):
    """One line of a listing.

    Attributes:
        name: the name.
        kind: "directory", "value", "branch" or "tag".
        cid: the CID.
        size: the size of a value.
        path: the path in the URL, before quoting.
    """

    name: str
    kind: str
    cid: str
    size: int | None
    path: str


def entries(offer: Exposure, cid: Cid) -> Iterator[ListedEntry]:
    """The entries of a directory, in the order of storage, read lazily."""
    trees = offer.trees
    for link in trees.directory(cid):
        is_directory = trees.is_directory(link)
        size = None if is_directory else trees.size(link)
        kind = "directory" if is_directory else "value"
        yield ListedEntry(link.name, kind, to_text(link.cid), size, link.name)


def answer_list(
    request: Request,
    title: str,
    found: Iterable[ListedEntry],
    headers: dict[str, str],
    of: str,
) -> Response:
    """A listing as JSON if the request accepts that and not HTML, or for `?format=json`; else HTML.

    Args:
        request: the request.
        title: the page's heading.
        found: the entries.
        headers: the response headers.
        of: identifies the state of the listing, for the ETag.
    """
    accepted = request.headers.get("accept", "").lower()
    says_json = request.query_params.get("format") == "json"
    is_json = says_json or ("application/json" in accepted and "text/html" not in accepted)
    form = "json" if is_json else "html"
    given = {"ETag": f'"DirIndex-{_VERSION}-{form}_CID-{of}"', "Vary": "Accept", **headers}
    if is_json:
        return answer_stream(request, _json(found), {"Content-Type": "application/json", **given})
    kind = {"Content-Type": "text/html; charset=utf-8"}
    return answer_stream(request, _html(title, found), {**kind, **_POLICY, **given})


def _json(found: Iterable[ListedEntry]) -> Iterator[bytes]:
    before = "["
    for name, kind, cid, size, _ in found:
        line = json.dumps({"name": name, "kind": kind, "cid": cid, "size": size})
        yield f"{before}\n{line}".encode()
        before = ","
    yield b"[]\n" if before == "[" else b"\n]\n"


def _html(title: str, found: Iterable[ListedEntry]) -> Iterator[bytes]:
    heading = _text(title)
    yield (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{heading}</title>'
        f"<style>{_STYLE}</style><h1>{heading}</h1><table>\n"
    ).encode()
    for name, kind, cid, size, path in found:
        end = "" if kind == "value" else "/"
        # Some programs treat such a link as an absolute URL, and "./" as part of a name.
        before = "./" if path.startswith("http") else ""
        target = f"{before}{quote(path, safe='')}{end}"
        shown = "" if size is None else f"{size:,}"
        yield (
            f'<tr><td><a href="{target}">{_text(name)}{end}</a><td>{kind}<td>{shown}'
            f'<td><a href="/ipfs/{cid}{end}">{cid}</a>\n'
        ).encode()
    yield b"</table>\n"


def _text(text: str) -> str:
    return escape(text.encode(errors="replace").decode())
