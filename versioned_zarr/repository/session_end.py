"""What a `with` block says when it ends: how to resume or to commit, and what it did not write."""

from __future__ import annotations

import warnings

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.maintenance.stray_zarr import about_strays
from versioned_zarr.errors import InvalidInputError


def warn_uncommitted(session_id: str, branch: str) -> None:
    """Warn that a block without a message ends, and leaves its writes uncommitted."""
    warnings.warn(
        f"session {session_id} on {branch!r} ends uncommitted, because it has no message; commit "
        f"it with repo.resume({session_id!r}).commit('…'), and next time write "
        f"`with repo.session({branch!r}, message='…')`",
        stacklevel=4,
    )


def warn_of_strays(stores: RepositoryContext, url: str) -> None:
    """Warn of plain Zarr that was written past a repository in a folder."""
    names = stores.strays() if url.startswith("file:") else ()
    if names:
        warnings.warn(about_strays(url, names), stacklevel=3)


def add_resume_note(error: BaseException | None, session_id: str) -> None:
    """Add to the error that ended a block how to resume its session."""
    if error is not None:
        error.add_note(
            f"The session keeps what was written; resume it with repo.resume({session_id!r}), or "
            f"delete it with repo.sessions.delete({session_id!r})."
        )


def check_on_nothing(on_nothing: str) -> None:
    """Check what a block should do at its end if nothing changed.

    Raises:
        InvalidInputError: it is neither "raise" nor "skip".
    """
    if on_nothing not in ("raise", "skip"):
        raise InvalidInputError(f"on_nothing must be 'raise' or 'skip', not {on_nothing!r}")
