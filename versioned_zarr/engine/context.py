"""The repository context: its blocks, trees, refs and session storage in one object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, Unpack

from versioned_zarr.blocks.file_reader import read_value
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.engine.open_options import Location, ServerOptions
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
    from versioned_zarr.engine.maintenance.collected import Collector
    from versioned_zarr.engine.sessions.protocol import SessionStore

TRANSFER_LOCK = "transfer"
"""Shared by transfers, which rely on existing blocks for longer than a commit should wait."""
_REMEMBERED_COMMITS = 4096


class Publisher(Protocol):
    """Publishes a snapshot under a name that remains the same when the snapshot changes."""

    def publish(self, tree: Cid, key: str) -> str:
        """Publish a tree under a key, which is created if needed; returns the name, `ipns://…`."""
        ...

    def resolve(self, name: str) -> tuple[Cid, str]:
        """The tree that a name resolves to, and the path in it, empty for the whole tree.

        Raises:
            RefNotFoundError: the name does not resolve.
        """
        ...


class ForeignCommits(Protocol):
    """Commits of another version control system, by the ids of that system.

    The CID of such a commit contains its id in that system; see `is_foreign`.
    """

    def commit(self, cid: Cid) -> Commit:
        """The commit with this CID. Its tree may be determined only on demand.

        Raises:
            BlockNotFoundError: there is no such commit.
        """
        ...

    def named(self, text: str) -> Cid | None:
        """The CID of the commit with this id in the other system."""
        ...

    def may_move(self, branch: str, to: Cid) -> bool:
        """Whether a branch may fast-forward to a commit without a merge in the other system.

        False if that system requires a merge or a review to change the branch.
        """
        ...


class OpenOther(Protocol):
    """Opens another repository."""

    def __call__(self, url: Location, /, **options: Unpack[ServerOptions]) -> RepositoryContext:
        """The repository at a location, with the options of `vz.open`."""
        ...


@dataclass
class RepositoryContext:
    """The parts of a repository that all modules use.

    Attributes:
        storage: stores sessions, and all other data of packed repositories.
        blocks: the block store.
        refs: the branches and tags.
        trees: reads trees, with a cache.
        read_marker: returns the bytes of the repository's marker.
        open_other: opens another repository, for transfers and for the origin of a partial clone.
        documents: small files that all machines share; None if the backend cannot store them.
        publisher: publishes snapshots under names, if the backend can.
        session_store: stores the sessions, unless `storage` does.
        session_roots: returns commits that sessions elsewhere need, and which session needs each.
        collector: runs `gc` and `repack`, if the backend does that itself.
        upkeep: for error messages: what maintains the blocks, if not this package.
        strays: returns the documents of plain Zarr beside the repository; see `stray_zarr`.
        others: the commits of the other version control system, if any.
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
    session_roots: Callable[[], Iterable[tuple[Cid, str]]] | None = None
    others: ForeignCommits | None = None
    collector: Collector | None = None
    upkeep: str = ""
    strays: Callable[[], Sequence[str]] = tuple
    _commits: LruCache[str, Commit] = field(default_factory=lambda: LruCache(_REMEMBERED_COMMITS))

    @property
    def hash(self) -> HashFunction:
        """The hash function of all CIDs."""
        return self.blocks.hash

    @property
    def empty_tree(self) -> Cid:
        """The CID of the empty tree; every repository has its block."""
        return self.hash.dag_pb(unixfs.directory([]))

    def has(self, cid: Cid) -> bool:
        """Whether a block is here; one round trip if blocks are remote and it is not cached."""
        return cid in self.blocks or not self.blocks.missing([cid])

    def commit(self, cid: str) -> Commit:
        """The commit with this CID, from a cache if it was read recently.

        Raises:
            BlockNotFoundError: it is missing.
            CorruptBlockError: it is not a commit, or is damaged.
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
                # Foreign history is available only from the server that it comes from.
                known = tuple(each for each in found.parents if not is_foreign(from_text(each)))
                found = replace(found, parents=known)
        self._commits.put(cid, found)
        return found

    def tree_of(self, commit: Cid) -> Cid:
        """The tree of a commit."""
        return from_text(self.commit(to_text(commit)).tree)

    def is_commit(self, cid: Cid) -> bool:
        """Whether a commit with this CID is here."""
        if self.others is not None and is_foreign(cid):
            with suppress(BlockNotFoundError):
                return bool(self.commit(to_text(cid)))
            return False
        return self.has(cid) and commits.is_commit(cid, self.blocks)

    def link_to(self, commit: Cid) -> Link:
        """A commit as a parent of another: a link with its depth, 0 if that is unknown."""
        return Link("", commit, self.commit(to_text(commit)).depth)

    def read_link(self, link: Link) -> bytes:
        """All bytes of the value that a link names."""
        return bytes(read_value(self.blocks.get, link.cid))
