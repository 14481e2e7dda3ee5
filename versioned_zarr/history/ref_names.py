"""Ref names: which names a branch or tag may have, by the rules of `git check-ref-format`."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from versioned_zarr.errors import InvalidCidError, InvalidRefError
from versioned_zarr.ipld.cid import from_text

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_UNSEEN = re.compile(r"[\x80-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
"""Controls, and what turns the direction of text or is not seen: two names could look the same."""
_LIKE_A_CID = re.compile(
    r"bafy(?:bei|b4i)[a-z2-7]+|bafk(?:rei|r4i|qai)[a-z2-7]+"  # base32, and the beginning of it
    r"|qm[1-9a-z]{44}|z[1-9a-z]{45,}|k[0-9a-z]{50,}|f01[0-9a-f]{60,}",  # version 0, and other bases
)
_PLAIN = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_LONGEST_FILE_NAME_BYTES = 240
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
        return f"it must be a string, not {type(name).__name__}"
    if not name or name == "@":
        return "a name needs at least one character, and '@' alone is reserved"
    found = _FORBIDDEN.search(name) or _UNSEEN.search(name)
    if found:
        return f"it contains {found.group()!a}"
    for part in name.split("/"):
        if not part or part.startswith(".") or part.endswith(".lock"):
            return "no part may be empty, begin with '.' or end with '.lock'"
    if name.startswith("-") or name.endswith("."):
        return "it must not begin with '-' or end with '.'"
    try:
        size = len(to_file_name(name))
    except UnicodeEncodeError:
        return "it is not valid Unicode text"
    return "it is too long" if size > _NAME_LIMIT_BYTES else None


def check_new_ref_name(name: object) -> str:
    """As `check_ref_name`, of a ref that is to be made: it may not read as a CID either.

    A CID always means what hashes to it, so nobody could get at such a ref by its name.

    Raises:
        InvalidRefError: as there; or it is a CID, or looks like the beginning of one.
    """
    text = check_ref_name(name)
    if looks_like_cid(text):
        raise InvalidRefError(
            f"{text!r} cannot be the name of a branch or tag: it reads as a CID or the "
            "beginning of one; put a word before it",
            ref=text,
        )
    return text


def looks_like_cid(name: str) -> bool:
    """Whether a name could be taken for a CID, or for the beginning of one of ours."""
    if _LIKE_A_CID.fullmatch(name.lower()):
        return True
    try:
        from_text(name)
    except InvalidCidError:
        return False
    return True


def word_before_cid(name: str) -> str:
    """What a ref of others is called here if it looks like a CID."""
    return f"ref-{name}"


def is_ref_name(name: str) -> bool:
    """Whether a ref may be called so."""
    return _reason_against(name) is None


def is_plain_file_name(text: str) -> bool:
    """Whether a ref may be called so, and its file is called just so; told at a glance."""
    is_plain = _PLAIN.fullmatch(text) is not None
    return is_plain and len(text) <= _LONGEST_FILE_NAME_BYTES and not text.endswith(".lock")


def to_file_path(kind: str, name: str) -> str:
    """A ref as a path without its ending: `KIND/NAME`, the name percent-encoded.

    A branch of a remote whose whole name is too long for a file lies in a folder of its remote.
    """
    encoded = to_file_name(name)
    remote, slash, branch = name.partition("/")
    if len(encoded) > _LONGEST_FILE_NAME_BYTES and slash:
        encoded = f"{to_file_name(remote)}/{to_file_name(branch)}"
    return f"{kind}/{encoded}"


def to_file_name(name: str) -> str:
    """A name as one part of a path: percent-encoded, so that `a` and `a/b` can live together."""
    return quote(name, safe="")


def from_file_name(name: str) -> str:
    """The name that `to_file_name` encoded."""
    return unquote(name)
