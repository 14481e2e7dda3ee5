"""Presentation: displays, opens and exports core objects; see `_hooks.Interfaces`.

Each interface is imported on first use. They need zarr, xarray or fsspec, and without them the
package imports in a tenth of the time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray
    import zarr
    from matplotlib.figure import Figure
    from zarr.storage import StorePath

    from versioned_zarr.engine.hierarchy.blame import Blame
    from versioned_zarr.engine.hierarchy.diff import Diff
    from versioned_zarr.engine.progress import OnProgress
    from versioned_zarr.interfaces.files.zarr_export import Exported
    from versioned_zarr.interfaces.zarr.array_diff import ArrayDiff
    from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore
    from versioned_zarr.repository.session import Session
    from versioned_zarr.repository.snapshot import Snapshot


def text(shown: object) -> str:
    """See `Interfaces.text`."""
    from versioned_zarr.interfaces.display.plain_text import text_of

    return text_of(shown)


def html(shown: object) -> str:
    """See `Interfaces.html`."""
    from versioned_zarr.interfaces.display.notebook import html_of

    return html_of(shown)


def zarr_store(view: Snapshot | Session) -> VersionedStore:
    """See `Interfaces.zarr_store`."""
    from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore

    return VersionedStore(view)


def session_url(session: Session) -> str:
    """See `Interfaces.session_url`."""
    from versioned_zarr.interfaces.fsspec.branch_urls import write_session
    from versioned_zarr.interfaces.fsspec.chained_place import chained

    return write_session(session.id, "", chained(session.repository.url))


def store_path(view: Snapshot | Session, path: str) -> StorePath:
    """See `Interfaces.store_path`."""
    from zarr.storage import StorePath

    return StorePath(view.store) / path


def open_node(view: Snapshot | Session, path: str, **options: Any) -> zarr.Group | zarr.Array[Any]:
    """See `Interfaces.open_node`."""
    from versioned_zarr.interfaces.zarr import open as opening

    return opening.open_node(view, path, **options)


def to_xarray(snapshot: Snapshot, group: str | None, **options: Any) -> xarray.Dataset:
    """See `Interfaces.to_xarray`."""
    from versioned_zarr.interfaces.zarr import open as opening

    return opening.to_xarray(snapshot, group, **options)


def to_datatree(snapshot: Snapshot, group: str | None, **options: Any) -> xarray.DataTree:
    """See `Interfaces.to_datatree`."""
    from versioned_zarr.interfaces.zarr import open as opening

    return opening.to_datatree(snapshot, group, **options)


def array_diff(diff: Diff, path: str) -> ArrayDiff:
    """See `Interfaces.array_diff`."""
    from versioned_zarr.interfaces.zarr.array_diff import array_diff

    return array_diff(diff, path)


def plot_blame(blame: Blame) -> Figure:
    """See `Interfaces.plot_blame`."""
    from versioned_zarr.interfaces.display.plots import figure_of_blame

    return figure_of_blame(blame)


def shown_progress(label: str) -> AbstractContextManager[OnProgress | None]:
    """See `Interfaces.shown_progress`."""
    from versioned_zarr.interfaces.display import progress_bar

    return progress_bar.shown_progress(label)


def create_hierarchy(
    session: Session, template: Any, path: str, *, overwrite: bool
) -> zarr.Group | zarr.Array[Any]:
    """See `Interfaces.create_hierarchy`."""
    from versioned_zarr.interfaces.zarr import hierarchy

    return hierarchy.create_hierarchy(session, template, path, overwrite=overwrite)


def to_folder(snapshot: Snapshot, path: str, **options: Any) -> Exported:
    """See `Interfaces.to_folder`."""
    from versioned_zarr.interfaces.files import zarr_export

    return zarr_export.to_folder(snapshot, path, **options)


def to_zip(snapshot: Snapshot, path: str, **options: Any) -> None:
    """See `Interfaces.to_zip`."""
    from versioned_zarr.interfaces.files import zip_export

    zip_export.to_zip(snapshot, path, **options)
