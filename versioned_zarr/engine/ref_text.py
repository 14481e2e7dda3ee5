"""The text of a ref that was given as an object: a commit or a snapshot."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from versioned_zarr.history.commit_object import Commit


class CheckedOut(Protocol):
    """A snapshot."""

    commit: Commit | None

    @property
    def cid(self) -> str:
        """The CID of its tree."""
        ...


Ref: TypeAlias = "str | Commit | CheckedOut"
"""A version: as text, see `Repository.checkout`, or as a commit or snapshot."""


def ref_text(ref: Ref) -> str:
    """The text that names a version: the CID of a commit or of a snapshot's commit, or its tree.

    >>> ref_text("main~1")
    'main~1'
    """
    if isinstance(ref, str):
        return ref
    if isinstance(ref, Commit):
        return ref.cid
    commit = getattr(ref, "commit", None)
    found = commit if isinstance(commit, Commit) else ref
    # Whoever resolves it explains what else was given.
    return getattr(found, "cid", ref)  # type: ignore[arg-type]
