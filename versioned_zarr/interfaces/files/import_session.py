"""Import session: the session that an import writes into, or resumes."""

from __future__ import annotations

import warnings
from typing import Final

from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNodes
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidKeyError,
    KeyNotFoundError,
)
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.tree.keys import check_key

LARGE_BYTES: Final = 1_000_000_000


class LargeTransferWarning(UserWarning):
    """More than 1 GB is about to be copied."""


def warn_if_large(size_bytes: int, what: str, source: str) -> None:
    """Warn the caller of an import that more than 1 GB is about to be copied."""
    if size_bytes > LARGE_BYTES:
        warnings.warn(
            f"importing {what}, {size_bytes / 1e9:.1f} GB, from {source}",
            LargeTransferWarning,
            stacklevel=3,
        )


def session_for(
    repository: Repository, purpose: str, state: str, branch: str, path: str, *, overwrite: bool
) -> Session:
    """The session of an earlier attempt, or a new one on an empty path.

    A session that began before other data came to the path is discarded: its commit would be merged
    with that data, and would differ from the source.

    Args:
        repository: the repository.
        purpose: names the source and the target; the purpose of earlier attempts begins with it.
        state: identifies the content of the source; it ends the purpose of a new session.
        branch: the branch to commit to.
        path: the group to import into.
        overwrite: replace existing data at the path.

    Raises:
        AlreadyExistsError: the path is not empty, and `overwrite` is false.
        InvalidInputError: see `check_target`.
    """
    head = repository.checkout(branch)
    check_target(head, path)
    is_free = overwrite or head.is_empty(path)
    for info in repository.sessions.values():
        if info.purpose.startswith(purpose) and (info.branch, info.is_alive) == (branch, False):
            left = repository.resume(info.id)
            if _is_committed(left, head, path):
                return left
            if not is_free:
                break
            if _lies_at(repository.checkout(left.base.cid), path) == _lies_at(head, path):
                return left
            left.discard()
    if not is_free:
        raise AlreadyExistsError(
            f"{repr(path) if path else 'the root'} of branch {branch!r} is not empty; "
            "choose another path, or pass overwrite=True",
            name=path,
        )
    session = repository.session(branch, purpose=purpose + state)
    if not session.is_empty(path):
        session.clear(path)
    return session


def check_target(snapshot: Snapshot, path: str) -> None:
    """Make sure that zarr would find what is imported into a path.

    Raises:
        InvalidInputError: the path is not valid, or lies in an array.
    """
    if not path:
        return
    check_key(path)
    above = ZarrNodes(snapshot._read_document).array_above(path)
    if above is not None:
        raise InvalidInputError(
            f"{path!r} lies in the array {above.path!r}, where zarr would not find what is "
            "imported; choose another path"
        )


def _is_committed(session: Session, head: Snapshot, path: str) -> bool:
    """Whether a dead process was about to commit the current content of the branch."""
    if not session._working.state.intents:
        return False
    there = {key: link.cid for key, link in head._links(path)}
    return there == {key: found.cid for key, found in session._working.walk(path)}


def _lies_at(snapshot: Snapshot, path: str) -> str:
    """Identifies the content of a path; empty if there is none."""
    try:
        return snapshot.path(path).cid
    except KeyNotFoundError:
        return ""
    except InvalidKeyError:
        value = snapshot._find(path)
        return "" if value is None else to_text(value.cid)
