"""Opening what a snapshot holds with zarr or xarray."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zarr

from versioned_zarr.errors import MissingDependencyError
from versioned_zarr.interfaces.zarr_store import VersionedStore
from versioned_zarr.repository.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray


def open_node(snapshot: Snapshot, path: str = "", **options: Any) -> zarr.Group | zarr.Array[Any]:
    """The group or array at `path`, read-only; `options` go to `zarr.open`."""
    return zarr.open(VersionedStore(snapshot), path=path or None, mode="r", **options)


def to_xarray(snapshot: Snapshot, group: str | None = None, **options: Any) -> xarray.Dataset:
    """The group as a Dataset; `options` go to `xarray.open_zarr`.

    Consolidated metadata is not used unless asked for: the tree is as quick, and never stale.

    Raises:
        MissingDependencyError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise MissingDependencyError(
            "to_xarray needs xarray: pip install 'versioned-zarr[xarray]'",
            package="xarray",
            extra="xarray",
        ) from error
    options.setdefault("consolidated", False)
    dataset: xarray.Dataset = xarray.open_zarr(VersionedStore(snapshot), group=group, **options)
    return dataset
