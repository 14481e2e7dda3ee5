"""Trees of keys over content-addressed blocks: lookup, listing, update, diff and merge."""

from versioned_zarr.tree.diff_tree import KeyChange, changes
from versioned_zarr.tree.keys import check_key
from versioned_zarr.tree.lookup import BlockSource, Directory, Trees
from versioned_zarr.tree.merge_tree import KeyConflict, KeyMerge, merge_keys
from versioned_zarr.tree.overlay import TreeLeaf
from versioned_zarr.tree.tree_builder import TreeBuilder

__all__ = [
    "BlockSource",
    "Directory",
    "KeyChange",
    "KeyConflict",
    "KeyMerge",
    "TreeBuilder",
    "TreeLeaf",
    "Trees",
    "changes",
    "check_key",
    "merge_keys",
]
