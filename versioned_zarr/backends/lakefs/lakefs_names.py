"""Names on lakeFS: how commits, branches and hidden branches map to ours, and back.

A lakeFS commit made by another tool is named by a CID that contains the 32 bytes of its ID, so that
a link to it needs no block. A lakeFS branch name has only letters, digits, `_` and `-`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.errors import InvalidRefError
from versioned_zarr.history.ref_names import check_ref_name
from versioned_zarr.ipld.cid import FOREIGN, Cid, is_foreign

HIDDEN_PREFIX = "vz-"
SESSION_PREFIX = f"{HIDDEN_PREFIX}session-"
WORK_PREFIX = f"{HIDDEN_PREFIX}work-"
CLAIM_PREFIX = f"{HIDDEN_PREFIX}claim-"
BRANCH_LIMIT = 256
"""The maximum length of a branch name in lakeFS."""

_ID = re.compile(r"[0-9a-f]{64}")
_DOT = "_dot_"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_ESCAPED = re.compile(r"--([0-9a-f]{2})")
_SHORT_ID = re.compile(r"[0-9a-f]{8,64}")


def to_cid(commit: str) -> Cid:
    """The CID that represents a lakeFS commit id."""
    return Cid(FOREIGN + bytes.fromhex(commit))


def to_id(cid: Cid) -> str | None:
    """The lakeFS commit id that a CID represents; None if it is of another kind."""
    return cid[len(FOREIGN) :].hex() if is_foreign(cid) else None


def is_id(text: str) -> bool:
    """Whether a text looks like a lakeFS commit id, or a prefix of 8 characters or more."""
    return _SHORT_ID.fullmatch(text) is not None


def to_branch(name: str) -> str:
    """The lakeFS branch for a branch of ours; `feature/x` becomes `feature--2fx`.

    Raises:
        InvalidRefError: the name is too long for lakeFS.
    """
    is_same = _PLAIN.fullmatch(name) and from_branch(name) == name
    found = name if is_same else _escape(name)
    if len(found) > BRANCH_LIMIT:
        raise InvalidRefError(
            f"{name[:40]!r}… is {len(found)} characters long as a lakeFS branch; lakeFS allows "
            f"up to {BRANCH_LIMIT}",
            ref=name,
        )
    return found


def from_branch(branch: str) -> str:
    """Our name for a lakeFS branch; its own, unless that is the encoding of another name."""
    for text in (branch, branch.removeprefix("x")):
        name = _unescape(text)
        if name is not None and _escape(name) == branch:
            return name
    return branch


def to_tag(name: str) -> str:
    """The lakeFS tag for a tag of ours: like a branch, but dots are allowed."""
    return to_branch(name.replace(".", _DOT)).replace(_DOT, ".")


def from_tag(tag: str) -> str:
    """Our name for a lakeFS tag."""
    return from_branch(tag.replace(".", _DOT)).replace(_DOT, ".")


def _unescape(text: str) -> str | None:
    parts = _ESCAPED.split(text)
    try:
        name = b"".join(
            bytes.fromhex(part) if number % 2 else part.encode()
            for number, part in enumerate(parts)
        ).decode()
        return check_ref_name(name)
    except (UnicodeDecodeError, InvalidRefError):
        return None


def _escape(text: str) -> str:
    """Keep letters, digits, `_` and single `-`; encode other bytes as `--` and two hex digits."""
    escaped = "".join(
        char if _is_plain(text, number) else "".join(f"--{byte:02x}" for byte in char.encode())
        for number, char in enumerate(text)
    )
    # The name must begin with a letter, a digit or `_`, and the encoding must be unique.
    is_marked = re.match("x*--", escaped) is not None
    return f"x{escaped}" if is_marked else escaped


def _is_plain(text: str, number: int) -> bool:
    char = text[number]
    if char == "-":
        around = text[number - 1 : number] + text[number + 1 : number + 2]
        return len(around) == 2 and "-" not in around
    return char.isascii() and (char.isalnum() or char == "_")


@dataclass(frozen=True)
class SessionName:
    """The fields in the name of a session's branch: its owner, and its target branch."""

    head: SessionHead

    def __str__(self) -> str:
        head = self.head
        who = f"{head.author}"
        process = head.incarnation or str(head.process)
        fields = (head.id, head.branch, who[:60], head.host[:40], process)
        return SESSION_PREFIX + "---".join(map(_field, fields))


def session_branches(id: str) -> str:
    """The prefix of the names of the session branches, and of no other branches."""
    return f"{SESSION_PREFIX}{_field(id)}---"


def session_of(branch: str, base: str, purpose: str) -> SessionHead | None:
    """The session with this branch; None if it is not a session branch.

    Args:
        branch: the name of a lakeFS branch.
        base: the CID of the base commit, as text.
        purpose: the purpose of the session.
    """
    fields = branch.removeprefix(SESSION_PREFIX).split("---")
    if not branch.startswith(SESSION_PREFIX) or len(fields) != 5:
        return None
    name, target, author, host, process = map(_unfield, fields)
    try:
        started = datetime.strptime(name[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        parts = process.split(":")
        number = int(parts[1] if len(parts) == 3 else process)
        incarnation = process if len(parts) == 3 else ""
        return SessionHead(name, target, base, started, host, number, author, purpose, incarnation)
    except ValueError:
        return None


def _field(text: str) -> str:
    """A field of a session's name: escaped with `_` and two digits, without consecutive `-`."""
    return "".join(
        char if char.isascii() and char.isalnum() else "".join(f"_{b:02x}" for b in char.encode())
        for char in text
    )


def _unfield(text: str) -> str:
    data = re.sub(rb"_([0-9a-f]{2})", lambda match: bytes.fromhex(match[1].decode()), text.encode())
    return data.decode(errors="replace")


def is_ours(branch: str) -> bool:
    """Whether a hidden branch was created by this package."""
    return branch.startswith((SESSION_PREFIX, WORK_PREFIX, CLAIM_PREFIX))
