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
    """A lake, and what reads and writes it.

    Attributes:
        lake: the lake.
        survey: computes the trees of its commits.
        commits: reads its commits.
        blocks: its blocks.
        trees: reads trees from them.
    """

    lake: LakefsFolder
    survey: TreeReader
    commits: CommitMapping
    blocks: LakefsBlocks
    trees: Trees
