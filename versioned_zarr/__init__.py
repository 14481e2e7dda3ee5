"""Versioned Zarr: branches, commits, diffs and merges for arrays, named by what they hold."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from versioned_zarr import faces
from versioned_zarr.errors import *  # noqa: F403
from versioned_zarr.errors import __all__ as _errors

if TYPE_CHECKING:
    from versioned_zarr.history.commit import Commit
    from versioned_zarr.location import clone, create, open, open_or_create, open_snapshot  # noqa: A004 - vz.open
    from versioned_zarr.repository.conflicts import ChunkConflict, Conflict, ConflictKind
    from versioned_zarr.repository.deciding import FieldValue
    from versioned_zarr.repository.diff import ChunkChange, Diff, NodeDiff
    from versioned_zarr.repository.keeping import SessionInfo
    from versioned_zarr.repository.protocol import Repository
    from versioned_zarr.repository.ref_moves import RefMove
    from versioned_zarr.repository.remotes import Remotes
    from versioned_zarr.repository.repacking import Collected
    from versioned_zarr.repository.report import Damage, Report
    from versioned_zarr.repository.sending import Moving
    from versioned_zarr.repository.session import Session
    from versioned_zarr.repository.snapshot import Snapshot
    from versioned_zarr.repository.stats import Stats
    from versioned_zarr.repository.transfer import Transfer

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
    "Moving",
    "NodeDiff",
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
    "clone",
    "create",
    "open",
    "open_or_create",
    "open_snapshot",
    *_errors,
]

faces.register(
    store="versioned_zarr.interfaces.zarr_store:VersionedStore",
    snapshot_mapping="versioned_zarr.interfaces.mapping:SnapshotMapping",
    session_mapping="versioned_zarr.interfaces.mapping:SessionMapping",
    open="versioned_zarr.interfaces.opening:open_node",
    open_repository="versioned_zarr.location:open",
    to_xarray="versioned_zarr.interfaces.opening:to_xarray",
    to_folder="versioned_zarr.interfaces.transfer:to_folder",
    repository_text="versioned_zarr.interfaces.texts:repository_text",
    snapshot_text="versioned_zarr.interfaces.texts:snapshot_text",
    session_text="versioned_zarr.interfaces.texts:session_text",
    repository_html="versioned_zarr.interfaces.notebook:repository_html",
    snapshot_html="versioned_zarr.interfaces.notebook:snapshot_html",
    session_html="versioned_zarr.interfaces.notebook:session_html",
    commit_html="versioned_zarr.interfaces.notebook:commit_html",
    log_html="versioned_zarr.interfaces.notebook:log_html",
    log_text="versioned_zarr.interfaces.graph:log_text",
    diff_html="versioned_zarr.interfaces.notebook:diff_html",
)

# The engine and numpy take a tenth of a second to import: spent when a name is first used.
_MODULES = {
    "ChunkChange": "repository.diff",
    "ChunkConflict": "repository.conflicts",
    "Collected": "repository.repacking",
    "Commit": "history.commit",
    "Conflict": "repository.conflicts",
    "ConflictKind": "repository.conflicts",
    "Damage": "repository.report",
    "Diff": "repository.diff",
    "FieldValue": "repository.deciding",
    "Moving": "repository.sending",
    "NodeDiff": "repository.diff",
    "RefMove": "repository.ref_moves",
    "Remotes": "repository.remotes",
    "Report": "repository.report",
    "Repository": "repository.protocol",
    "Session": "repository.session",
    "SessionInfo": "repository.keeping",
    "Snapshot": "repository.snapshot",
    "Stats": "repository.stats",
    "Transfer": "repository.transfer",
    "clone": "location",
    "create": "location",
    "open": "location",
    "open_or_create": "location",
    "open_snapshot": "location",
}


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
