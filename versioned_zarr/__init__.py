"""Versioned Zarr: branches, commits, diffs and merges for arrays, named by what they hold."""

from versioned_zarr.errors import *  # noqa: F403
from versioned_zarr.location import create, open, open_or_create
from versioned_zarr.repository import faces

faces.register(
    store="versioned_zarr.interfaces.zarr_store:VersionedStore",
    snapshot_mapping="versioned_zarr.interfaces.mapping:SnapshotMapping",
    session_mapping="versioned_zarr.interfaces.mapping:SessionMapping",
    open="versioned_zarr.interfaces.opening:open_node",
    to_xarray="versioned_zarr.interfaces.opening:to_xarray",
    to_folder="versioned_zarr.interfaces.transfer:to_folder",
    repository_html="versioned_zarr.interfaces.notebook:repository_html",
    snapshot_html="versioned_zarr.interfaces.notebook:snapshot_html",
    session_html="versioned_zarr.interfaces.notebook:session_html",
    commit_html="versioned_zarr.interfaces.notebook:commit_html",
    diff_html="versioned_zarr.interfaces.notebook:diff_html",
)
