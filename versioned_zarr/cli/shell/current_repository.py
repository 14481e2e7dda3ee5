"""The current repository: the one that contains the current folder."""

from __future__ import annotations

from pathlib import Path

from versioned_zarr.engine.marker import MARKER


def enclosing_repository() -> str:
    """The nearest repository at or above the current folder, or else the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / MARKER).is_file():
            return str(folder)
    return str(here)


def repositories_below() -> list[str]:
    """The names of the folders in the current one that are repositories."""
    return sorted(found.parent.name for found in Path.cwd().glob(f"*/{MARKER}"))
