"""Ref updates: what a transfer changed, or would change, in the refs."""

from __future__ import annotations

from dataclasses import dataclass

from versioned_zarr.engine.commit import has_moved
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.errors import CollectedError, OutcomeUnknownError
from versioned_zarr.history.refs import HEADS, REMOTES, TAGS
from versioned_zarr.ipld.cid import Cid, to_text

WORDS = {HEADS: "branch", TAGS: "tag", REMOTES: "remote branch"}


@dataclass(frozen=True)
class RefMove:
    """A ref that a transfer moved.

    Attributes:
        kind: "heads" for a branch, "tags" for a tag, or "remotes" for a branch of a remote.
        name: its name on that side.
        old: the CID of the commit that it named before; None if it is new.
        new: the CID of the commit that it names now.
    """

    kind: str
    name: str
    old: str | None
    new: str

    def __str__(self) -> str:
        was = "new" if self.old is None else f"was {self.old}"
        return f"{WORDS[self.kind]} {self.name} is at {self.new} ({was})"


def move_ref(
    stores: RepositoryContext, kind: str, name: str, expect: Cid | None, new: Cid, why: str
) -> RefMove:
    """Move a ref, and determine whether it moved even if a response is lost.

    Raises:
        BranchMovedError: it is not at the expected commit.
        CollectedError: the server removed what it reaches; the ref was moved back.
    """
    try:
        stores.refs.swap(kind, name, expect, new, why)
    except (CollectedError, OutcomeUnknownError):
        raise
    except Exception as error:
        if not has_moved(stores, kind, name, (expect, new), error):
            raise
    return RefMove(kind, name, None if expect is None else to_text(expect), to_text(new))
