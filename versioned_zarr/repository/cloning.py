"""Making a repository as a copy of another: begun, filled from its remote `origin`, finished.

A clone that was interrupted has a record that says of what it is one, and is gone on with.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from versioned_zarr.errors import AlreadyExistsError, InvalidRefError
from versioned_zarr.history.refs import HEADS, REMOTES
from versioned_zarr.ipld import unixfs
from versioned_zarr.repository.ref_moves import move_ref
from versioned_zarr.repository.remotes import ORIGIN, Remotes
from versioned_zarr.repository.sending import OnMoving
from versioned_zarr.repository.stores import Stores
from versioned_zarr.repository.transfer import fetch

RECORD = "clone.json"


def begin(stores: Stores, url: str) -> None:
    """Make ready what is to become a copy of the repository at a URL."""
    empty = unixfs.EMPTY_DIRECTORY
    stores.blocks.put([(stores.empty_tree, empty)], stores.empty_tree)
    Remotes(stores).add(ORIGIN, url)
    stores.storage.put(RECORD, [json.dumps({"origin": url}).encode()])


def check_begun(stores: Stores, url: str) -> None:
    """Make sure that a repository is an unfinished clone of the one at a URL.

    Raises:
        AlreadyExistsError: it is not.
    """
    try:
        found = json.loads(bytes(stores.storage.read(RECORD)))["origin"]
    except FileNotFoundError:
        found = None
    if found != url:
        raise AlreadyExistsError(
            f"{stores.storage.url!r} is a repository already; open it and pull, or choose another "
            "place",
            name=stores.storage.url,
        )


def fill(
    stores: Stores, refs: str | Sequence[str] | None, *, progress: OnMoving | None = None
) -> None:
    """Fetch from `origin`, and make a branch of each branch that was fetched.

    Raises:
        InvalidRefError: of `refs`, none is a branch, and a repository needs one.
    """
    fetch(stores, ORIGIN, refs, progress=progress)
    start = f"{ORIGIN}/"
    for seen in stores.refs.names(REMOTES):
        entry = stores.refs.read(REMOTES, seen)
        name = seen.removeprefix(start)
        if name == seen or entry is None or entry.commit is None:
            continue
        if stores.refs.read(HEADS, name) is None:
            why = f"clone of {Remotes(stores)[ORIGIN]}"
            move_ref(stores, HEADS, name, None, entry.commit, why)
    if not stores.refs.names(HEADS):
        raise InvalidRefError(f"a clone needs a branch, and {refs!r} names none", ref=str(refs))
    stores.storage.delete(RECORD)
