"""Request headers: the format, range and ETag that a request asks for.

Rules: RFC 9110 sections 12 to 14; the Path and Trustless Gateway specifications of IPFS.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import Request

from versioned_zarr.tree.dag import Scope, Span

Format: TypeAlias = Literal["plain", "raw", "car", "tar", "json"]

CAR_TYPE: Final = "application/vnd.ipld.car"
_FORMATS: Final[dict[str, Format]] = {"raw": "raw", "car": "car", "tar": "tar", "json": "json"}
_TYPES: Final[dict[str, Format]] = {
    "application/vnd.ipld.raw": "raw",
    CAR_TYPE: "car",
    "application/x-tar": "tar",
}
_NOT_HERE: Final = frozenset(
    [
        "application/vnd.ipld.dag-json",
        "application/vnd.ipld.dag-cbor",
        "application/vnd.ipfs.ipns-record",
    ]
)
_CAR_CHOICES: Final = {"version": {"1"}, "order": {"dfs", "unk"}, "dups": {"y", "n"}}
_ETAG: Final = re.compile(r'(?:W/)?"([^"]*)"')
_RANGE: Final = re.compile(r"\s*(\d*)\s*-\s*(\d*)\s*")
_DIGITS: Final = 18  # of a byte position; longer numbers are rejected


class RequestHeaders(NamedTuple):
    """The requested form of a response.

    Attributes:
        format: "plain" is the value itself, "json" the same, if it is JSON.
        again: for a CAR, whether blocks are repeated each time they are reached.
        is_in_url: whether the form is in the URL, not in the header `Accept`.
    """

    format: Format
    again: bool
    is_in_url: bool


def wanted_form(request: Request) -> RequestHeaders:
    """The form that a request asks for.

    Raises:
        HTTPException: 406, none of the acceptable forms is available.
    """
    accepted = list(_accepted(request.headers.get("accept", "")))
    name = request.query_params.get("format")
    if name is not None:
        chosen = _FORMATS.get(name)
        if chosen is None:
            raise HTTPException(406, f"unknown format {name!r}; supported: raw, car, tar and json")
        of_type = next((each for kind, each in accepted if _TYPES.get(kind) == chosen), {})
        return RequestHeaders(chosen, _again(request, of_type), is_in_url=True)
    for kind, parameters in accepted:
        if kind == CAR_TYPE and not _is_car_here(parameters):
            continue
        if kind not in _NOT_HERE:
            found = _TYPES.get(kind, "plain")
            return RequestHeaders(
                found, found == "car" and _again(request, parameters), is_in_url=False
            )
    if accepted:
        raise HTTPException(
            406, "none of the accepted types is available; supported: raw, car and tar"
        )
    return RequestHeaders("plain", again=False, is_in_url=False)


def _accepted(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The media types of a header with their parameters, sorted by preference."""
    found = []
    for number, item in enumerate(header.split(",")):
        kind, *rest = (word.strip() for word in item.split(";"))
        if not kind:
            continue
        pairs = (word.partition("=") for word in rest)
        parameters = {name.strip().lower(): value.strip(' "').lower() for name, _, value in pairs}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            found.append((-quality, "*" in kind, number, kind.lower(), parameters))
    yield from ((kind, parameters) for _, _, _, kind, parameters in sorted(found, key=_rank))


def _rank(item: tuple[float, bool, int, str, dict[str, str]]) -> tuple[float, bool, int]:
    return item[:3]


def _is_car_here(parameters: Mapping[str, str]) -> bool:
    return all(
        parameters.get(name, min(choices)) in choices for name, choices in _CAR_CHOICES.items()
    )


def _again(request: Request, of_type: Mapping[str, str]) -> bool:
    """Whether a CAR should contain duplicates; the URL takes precedence over the header."""
    said = {name: request.query_params.get(f"car-{name}") for name in _CAR_CHOICES}
    parameters = {**of_type, **{name: value for name, value in said.items() if value}}
    if not _is_car_here(parameters):
        raise HTTPException(
            406, "this server sends CAR files with version=1, order=dfs, and dups=y or dups=n"
        )
    return parameters.get("dups") == "y"


def wanted_part(request: Request) -> tuple[Scope, Span | None]:
    """The values of `dag-scope` and `entity-bytes`.

    Raises:
        HTTPException: 400, they cannot be parsed.
    """
    said = request.query_params.get("dag-scope", "all")
    if said not in {scope.value for scope in Scope}:
        raise HTTPException(400, f"unknown dag-scope {said!r}; supported: block, entity and all")
    span = request.query_params.get("entity-bytes")
    if span is None:
        return Scope(said), None
    found = re.fullmatch(r"(-?\d{1,18}):(-?\d{1,18}|\*)", span)
    if found is None:
        raise HTTPException(400, f"cannot parse entity-bytes={span!r}; write it as 0:1023 or 512:*")
    last = None if found[2] == "*" else int(found[2])
    return Scope.ENTITY, Span(int(found[1]), last)


def wanted_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The start and stop of a requested range.

    None for the whole value, also if `If-Range` has another ETag, if the header cannot be parsed,
    or if several ranges are requested.

    Raises:
        HTTPException: 416, the range is outside the value.
    """
    header = request.headers.get("range", "")
    unit, _, ranges = header.partition("=")
    if request.method != "GET" or unit.strip().lower() != "bytes":
        return None
    if request.headers.get("if-range", etag) != etag:
        return None
    found = _RANGE.fullmatch(ranges)  # for several ranges, everything is sent; RFC 9110, 14.2
    if found is None or found[1] == found[2] == "" or max(map(len, found.groups())) > _DIGITS:
        return None
    if found[1]:
        start = int(found[1])
        stop = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, stop = max(0, size - int(found[2])), size
    if start >= stop:
        raise HTTPException(416, "no such bytes", headers={"Content-Range": f"bytes */{size}"})
    return start, stop


def knows(request: Request, *etags: str) -> bool:
    """Whether `If-None-Match` contains one of these ETags, compared weakly, or is `*`."""
    header = request.headers.get("if-none-match")
    if header is None:
        return False
    known = set(_ETAG.findall(header))
    return header.strip() == "*" or any(found in known for e in etags for found in _ETAG.findall(e))
