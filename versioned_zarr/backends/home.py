"""Where this machine keeps what belongs to repositories elsewhere: caches, unfinished sessions."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "VERSIONED_ZARR_HOME"


def home() -> Path:
    """The folder; $VERSIONED_ZARR_HOME, or `versioned-zarr` where the user's state lies."""
    named = os.environ.get(HOME_VARIABLE)
    if named:
        return Path(named)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "versioned-zarr"
