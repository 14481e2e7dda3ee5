"""The repository context: its blocks, trees, refs and session storage in one object."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

from versioned_zarr.blocks.file_reader import read_value
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.errors import BlockNotFoundError
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.refs import RefStore
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction, from_text, is_foreign, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.lru_cache import LruCache
from versioned_zarr.storage.protocol import Documents, Storage
from versioned_zarr.tree.lookup import Trees

if TYPE_CHECKING:
    from versioned_zarr.engine.sessions.protocol import SessionStore

TRANSFER_LOCK = "transfer"
"""Shared by transfers, which count on blocks to stay for longer than a commit should wait."""
_REMEMBERED_COMMITS = 4096


class Publisher(Protocol):
    """Where a snapshot can be given a name that lasts while the snapshot changes."""

    def publish(self, tree: Cid, key: str) -> str:
        """Let the name of a key stand for a tree; the name, as `ipns://…`. Makes a new key."""
        ...

    def resolve(self, name: str) -> tuple[Cid, str]:
        """The tree that a name leads to, and the path in it, which is empty for all of it.

        Raises:
            RefNotFoundError: for none.
        """
        ...


class ForeignCommits(Protocol):
    """Commits of a system that has versions of its own, under names of that system.

    The CID of such a commit holds the name that the system gave it; see `is_foreign`.
    """

    def commit(self, cid: Cid) -> Commit:
        """The commit of this CID. Its tree may be found out only when it is asked for.

        Raises:
            BlockNotFoundError: there is none.
        """
        ...

    def named(self, text: str) -> Cid | None:
        """The CID of the commit that the system itself, and not this package, names so."""
        ...

    def may_move(self, branch: str, to: Cid) -> bool:
        """Whether a branch may go to a commit that comes after it without a merge there.

        Not where the system lets a branch change by merges alone, or asks somebody about them.
        """
        ...


OpenOther: TypeAlias = "Callable[[str | os.PathLike[str]], RepositoryContext]"
"""Opens the repository at a path or URL."""


@dataclass
class RepositoryContext:
    """The parts that every module of the repository works on.

    Attributes:
        storage: where sessions, and for packed repositories all else, live.
        blocks: the blocks.
        refs: the branches and tags.
        trees: reads trees, with a cache.
        read_marker: gives the bytes of the repository's marker.
        open_other: opens another repository, for transfers and for the rest of a partial clone.
        documents: small files that all machines share; None where there is no room for them.
        publisher: publishes snapshots under names, if the backend can.
        session_store: stores the sessions, if not `storage` does.
        upkeep: who looks after the blocks, if that is not done here, and how, in words.
        others: the commits that others made, in a system of versions that is not ours.
    """

    storage: Storage
    blocks: BlockStore
    refs: RefStore
    trees: Trees
    read_marker: Callable[[], bytes]
    open_other: OpenOther
    documents: Documents | None = None
    publisher: Publisher | None = None
    session_store: SessionStore | None = None
    others: ForeignCommits | None = None
    upkeep: str = ""
    _commits: LruCache[str, Commit] = field(default_factory=lambda: LruCache(_REMEMBERED_COMMITS))

    @property
    def hash(self) -> HashFunction:
        """The hash function that names every block."""
        return self.blocks.hash

    @property
    def empty_tree(self) -> Cid:
        """The CID of the tree that holds nothing; every repository has its block."""
        return self.hash.dag_pb(unixfs.directory([]))

    def has(self, cid: Cid) -> bool:
        """Whether a block is here; a round trip if it is not near and the blocks are remote."""
        return cid in self.blocks or not self.blocks.missing([cid])

    def commit(self, cid: str) -> Commit:
        """The commit of this CID, from memory if it was read lately.

        Raises:
            BlockNotFoundError: it is not here.
            CorruptBlockError: it is no commit, or damaged.
        """
        found = self._commits.get(cid)
        if found is not None:
            return found
        name = from_text(cid)
        if self.others is not None and is_foreign(name):
            found = self.others.commit(name)
        else:
            found = commits.read(name, self.blocks)
            if self.others is None and any(is_foreign(from_text(each)) for each in found.parents):
                # History that others made on a server ends where it left that server.
                known = tuple(each for each in found.parents if not is_foreign(from_text(each)))
                found = replace(found, parents=known)
        self._commits.put(cid, found)
        return found

    def tree_of(self, commit: Cid) -> Cid:
        """The tree of a commit."""
        return from_text(self.commit(to_text(commit)).tree)

    def is_commit(self, cid: Cid) -> bool:
        """Whether a commit of this CID is here."""
        if self.others is not None and is_foreign(cid):
            with suppress(BlockNotFoundError):
                return bool(self.commit(to_text(cid)))
            return False
        return self.has(cid) and commits.is_commit(cid, self.blocks)

    def link_to(self, commit: Cid) -> Link:
        """A commit as the parent of another: a link with its depth, 0 where that is not known."""
        return Link("", commit, self.commit(to_text(commit)).depth)

    def read_link(self, link: Link) -> bytes:
        """All bytes of the value that a link names."""
        return bytes(read_value(self.blocks.get, link.cid))
