"""The context of the lakeFS backend: the parts that its modules share."""

from __future__ import annotations

from dataclasses import dataclass

from versioned_zarr.backends.lakefs.commits.commit_mapping import CommitMapping
from versioned_zarr.backends.lakefs.lakefs_folder import LakefsFolder
from versioned_zarr.backends.lakefs.trees.lakefs_blocks import LakefsBlocks
from versioned_zarr.backends.lakefs.trees.tree_reader import TreeReader
from versioned_zarr.tree.lookup import Trees


@dataclass(frozen=True)
class LakefsContext:
    """The context of a repository on lakeFS: its folder, and the objects that read and write it.

    Attributes:
        lakefs_folder: the folder.
        tree_reader: computes the trees of its commits.
        commits: reads its commits.
        blocks: its block store.
        trees: reads its trees.
    """

    lakefs_folder: LakefsFolder
    tree_reader: TreeReader
    commits: CommitMapping
    blocks: LakefsBlocks
    trees: Trees
