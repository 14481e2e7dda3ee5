"""Ref names: which names a branch or tag may have, by the rules of `git check-ref-format`."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from versioned_zarr.errors import InvalidCidError, InvalidRefError
from versioned_zarr.ipld.cid import from_text

_FORBIDDEN = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")
_UNSEEN = re.compile(r"[\x80-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]")
"""Control, bidirectional and invisible characters, with which two names could look the same."""
_LIKE_A_CID = re.compile(
    r"bafy(?:bei|b4i)[a-z2-7]+|bafk(?:rei|r4i|qai)[a-z2-7]+"  # base32, and prefixes of it
    r"|qm[1-9a-z]{44}|z[1-9a-z]{45,}|k[0-9a-z]{50,}|f01[0-9a-f]{60,}",  # version 0, and other bases
)
_PLAIN = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*")
_LONGEST_FILE_NAME_BYTES = 240
_NAME_LIMIT_BYTES = 240


def check_ref_name(name: object) -> str:
    """Check that a name is valid for a branch or tag; returns the name.

    Raises:
        InvalidRefError: git would reject it, or it has over 240 bytes when percent-encoded.
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
    """Like `check_ref_name`, for a new ref: the name must not look like a CID either.

    A CID always resolves to the block with its hash, so such a ref could not be found by its name.

    Raises:
        InvalidRefError: see `check_ref_name`; or it is a CID, or looks like a prefix of one.
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
    """Whether a name could be a CID, or a prefix of one of ours."""
    if _LIKE_A_CID.fullmatch(name.lower()):
        return True
    try:
        from_text(name)
    except InvalidCidError:
        return False
    return True


def word_before_cid(name: str) -> str:
    """The prefix for a ref of another system if its name looks like a CID."""
    return f"ref-{name}"


def is_ref_name(name: str) -> bool:
    """Whether a name is valid for a ref."""
    return _reason_against(name) is None


def is_plain_file_name(text: str) -> bool:
    """Whether a name is valid for a ref and is also its file name; a fast check."""
    is_plain = _PLAIN.fullmatch(text) is not None
    return is_plain and len(text) <= _LONGEST_FILE_NAME_BYTES and not text.endswith(".lock")


def to_file_path(kind: str, name: str) -> str:
    """The path of a ref without its suffix: `KIND/NAME`, with the name percent-encoded.

    If the name of a remote branch is too long for one file name, it is in a folder of its remote.
    """
    encoded = to_file_name(name)
    remote, slash, branch = name.partition("/")
    if len(encoded) > _LONGEST_FILE_NAME_BYTES and slash:
        encoded = f"{to_file_name(remote)}/{to_file_name(branch)}"
    return f"{kind}/{encoded}"


def to_file_name(name: str) -> str:
    """A name as one part of a path: percent-encoded, so that `a` and `a/b` can coexist."""
    return quote(name, safe="")


def from_file_name(name: str) -> str:
    """Decode a name that `to_file_name` encoded."""
    return unquote(name)
