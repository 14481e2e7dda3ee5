"""URL paths: split into parts, and joined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes

from versioned_zarr.errors import InvalidKeyError


class UrlPath(NamedTuple):
    """A parsed URL path.

    Attributes:
        parts: the decoded parts between slashes; a part may contain a slash.
        is_folder: whether it ends in a slash.
    """

    parts: tuple[str, ...]
    is_folder: bool


def read_path(raw: bytes) -> UrlPath:
    """Parse the path of a URL, as it was sent, before decoding.

    Raises:
        InvalidKeyError: a part is empty, '.' or '..', has a NUL, or is not UTF-8.
    """
    segments = raw.removeprefix(b"/").split(b"/")
    is_folder = segments[-1] == b""
    parts = tuple(_decode(segment) for segment in (segments[:-1] if is_folder else segments))
    return UrlPath(parts, is_folder)


def _decode(segment: bytes) -> str:
    try:
        part = unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise InvalidKeyError("a part of the path is not UTF-8", key=repr(segment)) from error
    if part in {"", ".", ".."} or "\0" in part:
        raise InvalidKeyError(f"a key cannot have the part {part!r}", key=part)
    return part


def write_path(parts: Iterable[str], *, is_folder: bool = False) -> str:
    """Quote the path of a URL; `read_path` can parse the result."""
    path = "".join(f"/{quote(part, safe='')}" for part in parts)
    return f"{path}/" if is_folder or not path else path
