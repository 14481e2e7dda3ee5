"""Errors of the lakeFS API, mapped to the errors of this package with the server's message."""

from __future__ import annotations

import json
import re
from typing import Final

from versioned_zarr.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    InvalidKeyError,
    InvalidRefError,
    ReadOnlyError,
    RefNotFoundError,
    StorageError,
    VersionedZarrError,
)


class PreconditionFailedError(StorageError):
    """An object already exists where a new one was to be created."""


class AnswerLostError(StorageError):
    """The response of lakeFS was lost or is meaningless: the request may have been executed."""


class AnswerLateError(AnswerLostError):
    """The server took too long: the request may be executed later."""


class ForeignAnswerError(StorageError):
    """Something other than lakeFS responded to a request that can be repeated."""


class RefusedError(StorageError, PermissionError):
    """These credentials lack permission, or the target is protected."""


_BY_WORDS: tuple[tuple[str, type[VersionedZarrError], str], ...] = (
    (
        "read-only repository",
        ReadOnlyError,
        "; the repository was created read-only: clone it and write to the copy",
    ),
    (
        "error creating repository: not unique",
        AlreadyExistsError,
        "; if it was just deleted, lakeFS keeps the name for some seconds: try again",
    ),
    (
        "cannot delete repository default branch",
        RefusedError,
        "; lakeFS cannot delete or rename a repository's default branch: create another one",
    ),
    (
        r"(branch name|tag ID) .*: conflict found",
        AlreadyExistsError,
        "; on lakeFS a branch and a tag cannot share a name: choose another one",
    ),
    (r"above maximum length \(1024\)", InvalidKeyError, "; shorten the key, or the prefix"),
)
"""The meaning of phrases in an error message, whatever its status."""


NO_ANSWER: Final = "the answer is not from lakeFS:"
WHO_ANSWERS: Final = "; is a proxy or another server at this address?"


def _said(body: bytes) -> str | None:
    """The server's own message; None if it is not from lakeFS."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    # For a merge conflict, the message says only that there was no commit.
    return str(document.get("message", body.decode(errors="replace").strip()))


def failure(
    status: int, body: bytes, *, what: str, endpoint: str, source: str
) -> VersionedZarrError:
    """The error for a response that is not a success.

    Args:
        status: the HTTP status.
        body: the body of the response.
        what: the request, such as `merge 'work' into 'main' of 'climate'`.
        endpoint: the server's URL.
        source: the source of the credentials.
    """
    words = _said(body)
    if words is None:
        foreign = RefusedError if status in (401, 403) else StorageError
        return foreign(
            f"lakeFS at {endpoint} did not {what}: {NO_ANSWER} {body[:80]!r} (HTTP {status})"
            f"{WHO_ANSWERS}"
        )
    kind, advice = _kind(status, words)
    advice = advice.format(source=source)
    return kind(f"lakeFS at {endpoint} refused to {what}: {words} (HTTP {status}){advice}")


def _kind(status: int, words: str) -> tuple[type[VersionedZarrError], str]:
    """The kind of error for a response, and how to fix it."""
    for pattern, kind, advice in _BY_WORDS:
        if status in (400, 403, 409) and re.search(pattern, words):
            return kind, advice
    plain: dict[int, tuple[type[VersionedZarrError], str]] = {
        401: (RefusedError, "; the credentials came from {source}: check them"),
        403: (
            RefusedError,
            "; the credentials from {source} lack the permission, or a branch is protected",
        ),
        404: (RefNotFoundError, ""),
        410: (RefNotFoundError, ""),
        409: (ConflictError if _tells_of_conflict(words) else AlreadyExistsError, ""),
        412: (RefusedError, "; a hook of the repository rejected it"),
        400: (InvalidInputError, ""),
    }
    if status == 412 and ("already exists" in words or words == "Precondition failed"):
        return PreconditionFailedError, ""
    if status == 400 and ("validation" in words or "invalid value" in words):
        return InvalidRefError, ""
    if status == 400 and "dirty" in words:
        return StorageError, (
            "; commit or reset the uncommitted changes on the branch, for example with lakectl"
        )
    return plain.get(status, (StorageError, ""))


def _tells_of_conflict(words: str) -> bool:
    """Whether a merge had conflicts, which lakeFS reports as a commit without an id."""
    return "conflict" in words or words == '{"reference":""}'
