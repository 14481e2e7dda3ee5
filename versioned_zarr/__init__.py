"""Version control for Zarr: branches, commits, diffs and merges of content-addressed arrays."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from versioned_zarr import _hooks
from versioned_zarr.errors import *  # noqa: F403
from versioned_zarr.errors import __all__ as _errors
from versioned_zarr.interfaces import presentation
from versioned_zarr.repository import guessed_names

if TYPE_CHECKING:
    from versioned_zarr.engine.hierarchy.diff import Diff
    from versioned_zarr.engine.hierarchy.merge.conflict_resolution import FieldValue
    from versioned_zarr.engine.hierarchy.merge.conflicts import (
        ChunkConflict,
        Conflict,
        ConflictKind,
    )
    from versioned_zarr.engine.hierarchy.missing_chunks import MissingChunks
    from versioned_zarr.engine.hierarchy.node_diff import ChunkChange, NodeDiff
    from versioned_zarr.engine.maintenance.collected import Collected
    from versioned_zarr.engine.maintenance.report import Damage, Report
    from versioned_zarr.engine.maintenance.stats import Stats
    from versioned_zarr.engine.progress import Progress
    from versioned_zarr.engine.remotes import Remotes
    from versioned_zarr.engine.sessions.protocol import SessionInfo
    from versioned_zarr.engine.transfer.push_fetch import Transfer
    from versioned_zarr.engine.transfer.ref_updates import RefMove
    from versioned_zarr.history.commit_object import Commit
    from versioned_zarr.interfaces.files.folder_cid import cid_of_folder
    from versioned_zarr.interfaces.files.zarr_import import import_zarr
    from versioned_zarr.interfaces.imports.any_format import import_from
    from versioned_zarr.interfaces.web.web_api import serve
    from versioned_zarr.location import clone, create, open, open_or_create, open_snapshot, recover  # noqa: A004 - vz.open
    from versioned_zarr.repository.repository import Repository
    from versioned_zarr.repository.session import Session
    from versioned_zarr.repository.snapshot import Snapshot

__version__ = "0.1.0"

__all__ = [  # noqa: PLE0604 - the errors are listed where they are
    "ChunkChange",
    "ChunkConflict",
    "Collected",
    "Commit",
    "Conflict",
    "ConflictKind",
    "Damage",
    "Diff",
    "FieldValue",
    "MissingChunks",
    "NodeDiff",
    "Progress",
    "RefMove",
    "Remotes",
    "Report",
    "Repository",
    "Session",
    "SessionInfo",
    "Snapshot",
    "Stats",
    "Transfer",
    "__version__",
    "cid_of_folder",
    "clone",
    "create",
    "import_from",
    "import_zarr",
    "open",
    "open_or_create",
    "open_snapshot",
    "recover",
    "serve",
    *_errors,
]

_hooks.interfaces = presentation

# Importing the engine and numpy takes a tenth of a second, so it is done on first use.
_MODULES = {
    "ChunkChange": "engine.hierarchy.node_diff",
    "ChunkConflict": "engine.hierarchy.merge.conflicts",
    "Collected": "engine.maintenance.repack",
    "Commit": "history.commit_object",
    "Conflict": "engine.hierarchy.merge.conflicts",
    "ConflictKind": "engine.hierarchy.merge.conflicts",
    "Damage": "engine.maintenance.report",
    "Diff": "engine.hierarchy.diff",
    "FieldValue": "engine.hierarchy.merge.conflict_resolution",
    "MissingChunks": "engine.hierarchy.missing_chunks",
    "NodeDiff": "engine.hierarchy.node_diff",
    "Progress": "engine.progress",
    "RefMove": "engine.transfer.ref_updates",
    "Remotes": "engine.remotes",
    "Report": "engine.maintenance.report",
    "Repository": "repository.repository",
    "Session": "repository.session",
    "SessionInfo": "engine.sessions.protocol",
    "Snapshot": "repository.snapshot",
    "Stats": "engine.maintenance.stats",
    "Transfer": "engine.transfer.push_fetch",
    "cid_of_folder": "interfaces.files.folder_cid",
    "clone": "location",
    "create": "location",
    "import_from": "interfaces.imports.any_format",
    "import_zarr": "interfaces.files.zarr_import",
    "open": "location",
    "open_or_create": "location",
    "open_snapshot": "location",
    "recover": "location",
    "serve": "interfaces.web.web_api",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        found = "" if name.startswith("_") else guessed_names.hint(__name__, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{found}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    # Imports and subpackages are in globals() too, and are not part of the API.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
