"""What a branch or a tag may be called: the rules of `git check-ref-format`."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from versioned_zarr.errors import InvalidRefError

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_NAME_LIMIT_BYTES = 240


def check_ref_name(name: object) -> str:
    """Give back a name that a branch or tag may have.

    Raises:
        InvalidRefError: git would refuse it, or it is over 240 bytes when percent-encoded.
    """
    reason = _reason_against(name)
    if reason or not isinstance(name, str):
        raise InvalidRefError(
            f"{name!r} cannot be the name of a branch or tag: {reason}", ref=str(name)
        )
    return name


def _reason_against(name: object) -> str | None:
    if not isinstance(name, str):
        return f"it is not text but {type(name).__name__}"
    if not name or name == "@":
        return "a name needs at least one character, and '@' alone means something else"
    found = _FORBIDDEN.search(name)
    if found:
        return f"it contains {found.group()!r}"
    for part in name.split("/"):
        if not part or part.startswith(".") or part.endswith(".lock"):
            return "no part of it may be empty, begin with '.' or end with '.lock'"
    if name.startswith("-") or name.endswith("."):
        return "it may not begin with '-' or end with '.'"
    try:
        size = len(to_file_name(name))
    except UnicodeEncodeError:
        return "it is not valid Unicode text"
    return "it is too long" if size > _NAME_LIMIT_BYTES else None


def to_file_name(name: str) -> str:
    """A name as one part of a path: percent-encoded, so that `a` and `a/b` can live together."""
    return quote(name, safe="")


def from_file_name(name: str) -> str:
    """The name that `to_file_name` encoded."""
    return unquote(name)
