"""Trees of keys over content-addressed blocks: finding, listing, changing, comparing, merging."""

from versioned_zarr.tree.build import Leaf, WorkTree
from versioned_zarr.tree.diff import KeyChange, changes
from versioned_zarr.tree.keys import check_key
from versioned_zarr.tree.lookup import BlockSource, Directory, Trees
from versioned_zarr.tree.merge import KeyConflict, KeyMerge, merge_keys

__all__ = [
    "BlockSource",
    "Directory",
    "KeyChange",
    "KeyConflict",
    "KeyMerge",
    "Leaf",
    "Trees",
    "WorkTree",
    "changes",
    "check_key",
    "merge_keys",
]
