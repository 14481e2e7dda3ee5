"""The parts that every module of the lakeFS backend works on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from versioned_zarr.backends.lakefs.client import LakefsClient
from versioned_zarr.backends.lakefs.knowledge import Knowledge
from versioned_zarr.backends.lakefs.workers import Workers
from versioned_zarr.ipld.cid import HashFunction

if TYPE_CHECKING:
    from versioned_zarr.backends.lakefs.blocks import LakefsBlocks
    from versioned_zarr.backends.lakefs.commits import Commits
    from versioned_zarr.backends.lakefs.survey import Survey
    from versioned_zarr.tree.lookup import Trees


@dataclass(frozen=True)
class Lake:
    """A folder of a lakeFS repository, and what this machine knows of it.

    Attributes:
        client: the lakeFS repository.
        prefix: the folder of it that we speak of, ending in "/"; empty for all of it.
        knowledge: what was found out before.
        hash: names blocks.
        workers: threads for requests.
    """

    client: LakefsClient
    prefix: str
    knowledge: Knowledge
    hash: HashFunction
    workers: Workers

    def path(self, key: str) -> str:
        """Where the object of a key lies in the lakeFS repository."""
        return self.prefix + key

    def key(self, path: str) -> str:
        """The key whose object lies there."""
        return path[len(self.prefix) :]


@dataclass(frozen=True)
class Parts:
    """A lake, and what reads and writes it.

    Attributes:
        lake: the lake.
        survey: computes the trees of its commits.
        commits: reads its commits.
        blocks: its blocks.
        trees: reads trees from them.
    """

    lake: Lake
    survey: Survey
    commits: Commits
    blocks: LakefsBlocks
    trees: Trees
