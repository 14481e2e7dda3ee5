"""The tree reader: builds the tree of a lakeFS commit from a listing or from a diff.

If this package wrote a value, its CID is in the user metadata of its object. Values written by
other tools are read and hashed, once per object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from versioned_zarr.backends.lakefs.api.objects import Stat
from versioned_zarr.backends.lakefs.commits.commit_metadata import value_in
from versioned_zarr.backends.lakefs.lakefs_folder import LakefsFolder
from versioned_zarr.backends.lakefs.trees.metadata_cache import ObjectLocation
from versioned_zarr.engine.progress import OnProgress, of_bytes
from versioned_zarr.errors import CorruptBlockError, InvalidKeyError, StorageError
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder

_RECENT_COMMITS = 20
_LOOKED_AT = 10_000


class ListedValue(NamedTuple):
    """The properties of a value that a tree needs."""

    cid: Cid
    tsize: int


class TreeReader:
    """Computes the trees of lakeFS commits. Thread-safe.

    Args:
        lakefs_folder: the folder of the repository.
        tell: called while values of other tools are hashed; may be None.

    Attributes:
        trees: reads trees; set by the block store.
    """

    trees: Trees

    def __init__(self, lakefs_folder: LakefsFolder, tell: OnProgress | None = None) -> None:
        self._lakefs_folder, self._tell = lakefs_folder, tell or (lambda progress: None)
        self._client, self._metadata_cache = lakefs_folder.client, lakefs_folder.metadata_cache
        self._lock = ForkSafeLock()

    def tree_of(self, commit: str) -> Link:
        """The root of the tree of a lakeFS commit, whose nodes are cached afterward.

        If a recent ancestor is known, costs one request, and one per key that changed since;
        otherwise one per 1000 keys. Also reads all values that were never hashed.

        Raises:
            CorruptBlockError: the metadata of the commit state another tree.
            InvalidKeyError: there are keys that no tree can contain.
        """
        with self._lock:
            said = self._metadata_cache.tree(commit)
            if said is not None and self._is_known(said.cid):
                return said
            root = self._compute(commit)
            if said is not None and said.cid != root.cid:
                found, claimed = cids.to_text(root.cid), cids.to_text(said.cid)
                raise CorruptBlockError(
                    f"lakeFS commit {commit} claims that its tree is {claimed}, but its content "
                    f"hashes to {found}",
                    cid=claimed,
                    where=commit,
                )
            self._metadata_cache.add_tree(commit, root)
            return root

    def _is_known(self, root: Cid) -> bool:
        return root == self.trees.empty or self._metadata_cache.node(root) is not None

    def _compute(self, commit: str) -> Link:
        near = self._nearest(commit)
        if near is None:
            work: TreeBuilder[ListedValue] = TreeBuilder(self.trees)
            stats: Iterable[Stat | None] = self._client.list(commit, self._lakefs_folder.prefix)
        else:
            work = TreeBuilder(self.trees, near[1])
            changes = list(self._client.diff(near[0], commit, prefix=self._lakefs_folder.prefix))
            for change in changes:
                if change.kind == "removed":
                    work.delete(self._lakefs_folder.key(change.path))
            paths = [change.path for change in changes if change.kind != "removed"]
            stats = (stat for _, stat in self._lakefs_folder.stats(commit, paths))
        for key, value in self.values(commit, (stat for stat in stats if stat is not None)):
            try:
                work.set(key, value)
            except InvalidKeyError as error:
                raise InvalidKeyError(
                    f"lakeFS commit {commit} has an object that a tree cannot hold: {error}; open "
                    "the repository at a prefix without it",
                    key=key,
                ) from error
        nodes: list[tuple[Cid, bytes]] = []
        root = work.flush(lambda cid, data: nodes.append((cid, bytes(data))))
        self._metadata_cache.add_nodes(nodes)
        return root

    def _nearest(self, commit: str) -> tuple[str, Cid] | None:
        """The nearest first-parent ancestor with a known, nonempty tree, among the last ones."""
        history = self._client.log(commit, amount=_RECENT_COMMITS, first_parent=True)
        for _, found in zip(range(_RECENT_COMMITS), history, strict=False):
            root = self._metadata_cache.tree(found.id)
            if root is not None and root.cid == self.trees.empty:
                return None  # a listing costs less than a diff with an empty tree
            if found.id != commit and root is not None and self._is_known(root.cid):
                return found.id, root.cid
        return None

    def values(self, ref: str, stats: Iterable[Stat]) -> Iterator[tuple[str, ListedValue]]:
        """The keys and values of objects; hashes those that are not known.

        Args:
            ref: an immutable ref to read from, so that the values can be found there later.
            stats: the objects.
        """
        locations: list[tuple[Cid, ObjectLocation]] = []
        done = total = 0
        left = (stat for stat in stats if not _is_marker(stat))
        while batch := list(islice(left, _LOOKED_AT)):
            told = [(stat, self._said(stat)) for stat in batch]
            unknown = sum(stat.size for stat, said in told if said is None)
            if unknown:
                total += unknown
                self._tell(of_bytes(done, total))
            found = self._lakefs_folder.workers.stream(lambda each: self._value(ref, *each), told)
            for (stat, said), value in zip(told, found, strict=True):
                if said is None:
                    done += stat.size
                    self._tell(of_bytes(done, total))
                locations.append((value.cid, ObjectLocation(ref, stat.path, stat.size)))
                yield self._lakefs_folder.key(stat.path), value
        self._metadata_cache.add_locations(locations)

    def value(self, ref: str, stat: Stat) -> ListedValue:
        """The CID of an object's value, which is read if it was never hashed."""
        return self._value(ref, stat, self._said(stat))

    def _said(self, stat: Stat) -> ListedValue | None:
        """The value of an object according to its metadata or the cache."""
        said = value_in(stat.metadata, stat.size, stat.checksum)
        if said is None:
            said = self._metadata_cache.object(stat.physical_address, stat.checksum)
        return None if said is None else ListedValue(*said)

    def _value(self, ref: str, stat: Stat, said: ListedValue | None) -> ListedValue:
        if said is not None:
            return said
        data = self._client.read(ref, stat.path, expected_bytes=stat.size)
        if len(data) != stat.size:
            raise StorageError(
                f"lakeFS at {self._client.endpoint} sent {len(data)} bytes of {stat.path!r} at "
                f"{ref!r}, which has {stat.size}; try again"
            )
        file = unixfs.build_file(data, self._lakefs_folder.hash)
        self._metadata_cache.add_nodes(block for block in file.blocks if not cids.is_raw(block[0]))
        self._metadata_cache.add_object(stat.physical_address, stat.checksum, file.cid, file.tsize)
        return ListedValue(file.cid, file.tsize)


def _is_marker(stat: Stat) -> bool:
    """Whether an object is the marker of an empty folder, as written by some tools, not a value.

    Raises:
        InvalidKeyError: it has the name of a marker, but has content, which no key can name.
    """
    if not stat.path.endswith("/"):
        return False
    if stat.size:
        raise InvalidKeyError(
            f"lakeFS has an object {stat.path!r} of {stat.size} bytes, which no key can name "
            "because it "
            "ends in '/'; remove it there, or open the repository at a prefix without it",
            key=stat.path,
        )
    return True
