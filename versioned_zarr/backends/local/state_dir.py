"""The state directory: where this machine keeps caches and sessions of remote repositories.

Sessions there need file locks, which home directories on clusters often do not have. Then the
directory for temporary files is used, which is usually on a disk of the machine.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
from functools import lru_cache
from pathlib import Path

from versioned_zarr.backends.local import system
from versioned_zarr.errors import ReadOnlyError, StorageError

_LOG = logging.getLogger("versioned_zarr")
HOME_VARIABLE = "VERSIONED_ZARR_HOME"


def home() -> Path:
    """The folder; $VERSIONED_ZARR_HOME, or `versioned-zarr` in the user's state directory.

    If files there cannot be locked, a folder of the user among the temporary files, with a warning.

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
    return _lockable(folder)


@lru_cache(maxsize=16)
def _lockable(folder: Path) -> Path:
    """A folder, or one among the temporary files if only there files can be locked."""
    if _has_locks(folder):
        return folder
    user = os.getuid() if hasattr(os, "getuid") else "user"
    other = Path(tempfile.gettempdir()) / f"versioned-zarr-{user}"
    try:
        other.mkdir(mode=0o700, exist_ok=True)
        is_own = not hasattr(os, "getuid") or other.stat().st_uid == user
    except OSError:
        return folder
    if not is_own or not _has_locks(other):
        return folder
    _LOG.warning(
        "files in %s cannot be locked; uncommitted sessions of remote repositories are stored in "
        "%s on this machine; set $%s to choose another folder",
        folder,
        other,
        HOME_VARIABLE,
    )
    return other


def _has_locks(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            system.lock(file.fileno(), shared=False, wait=False)
    except OSError:
        return False
    return True


def _folder() -> Path:
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "versioned-zarr"
