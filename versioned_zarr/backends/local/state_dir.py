"""The state directory: where this machine keeps caches and sessions of remote repositories."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from versioned_zarr.errors import ReadOnlyError, StorageError

HOME_VARIABLE = "VERSIONED_ZARR_HOME"


def home() -> Path:
    """The folder; $VERSIONED_ZARR_HOME, or `versioned-zarr` in the user's state directory.

    Raises:
        ReadOnlyError: no permission to write there.
        StorageError: the path is not valid.
    """
    try:
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except (OSError, RuntimeError, ValueError) as error:  # no home directory, or a NUL
        why = getattr(error, "strerror", None) or str(error)
        where = getattr(error, "filename", None) or os.environ.get(HOME_VARIABLE, "")
        message = (
            f"local data of remote repositories cannot be stored in {where!r}: {why}; set "
            f"${HOME_VARIABLE} to a writable folder"
        )
        if isinstance(error, PermissionError):
            raise ReadOnlyError(message, url=where) from error
        raise StorageError(message, where=where) from error
    return folder


def _folder() -> Path:
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "versioned-zarr"
