"""Lookup of keys in a tree, and listings; reads blocks, and writes none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from versioned_zarr.errors import CorruptBlockError, InvalidCidError, InvalidInputError
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.hamt import MAX_DEPTH, Shard
from versioned_zarr.tree.dag_nodes import read_block
from versioned_zarr.tree.directory import Directory, OtherShard, ShardedDirectory, read
from versioned_zarr.tree.keys import MAX_PARTS, in_key_order

__all__ = ["BlockSource", "Directory", "Trees"]

_MAX_PATHS: Final = 4096


class BlockSource(Protocol):
    """A source of the blocks of trees."""

    def get(self, cid: Cid) -> bytes | memoryview:
        """Return the block with this CID, or raise BlockNotFoundError."""
        ...


class Trees:
    """Finds and lists keys in the trees in a `BlockSource`.

    Decoded directories and shards are cached, up to a number of links; nothing is ever invalidated,
    because blocks never change. Thread-safe.

    Args:
        blocks: the source of the blocks.
        hash_function: the hash function for blocks that a `TreeBuilder` on these trees creates.
        max_links: the maximum number of cached links, at about 250 bytes each.
        sizes: the lengths of values of many blocks that `blocks` may not have.
    """

    def __init__(
        self,
        blocks: BlockSource,
        hash_function: HashFunction,
        max_links: int = 1 << 18,
        sizes: Mapping[Cid, int] | None = None,
    ) -> None:
        self.blocks = blocks
        self.hash_function = hash_function
        self.empty = hash_function.dag_pb(unixfs.EMPTY_DIRECTORY)
        """The CID of the empty tree; readable even if no block is stored."""
        self._recent = _Recent(max_links)
        self._sizes = sizes or {}
        self._paths: dict[tuple[Cid, str], Cid] = {}

    def directory(self, cid: Cid) -> Directory:
        """Return the directory with this CID.

        Raises:
            InvalidCidError: it is the CID of a value.
            BlockNotFoundError: its block is missing.
            CorruptBlockError: its block is not a UnixFS node.
        """
        node = self._node(cid) if _is_dag_pb(cid) else 0
        if isinstance(node, Directory):
            return node
        text = cids.to_text(cid)
        raise InvalidCidError(f"{text} is the CID of a value, not of a tree", text=text)

    def shard(self, cid: Cid, depth: int) -> Shard:
        """Return the shard with this CID, `depth` shards below the root of a HAMT."""
        node = self._node(cid)
        if isinstance(node, ShardedDirectory) and depth < MAX_DEPTH:
            return node.shard
        text = cids.to_text(cid)
        raise CorruptBlockError(
            f"block {text} is linked as a HAMT shard but is not one, or is too deep", cid=text
        )

    def other_shard(self, cid: Cid) -> OtherShard:
        """Return the shard with this CID, of a HAMT with another width than the profile's."""
        node = self._node(cid)
        if isinstance(node, OtherShard):
            return node
        text = cids.to_text(cid)
        raise CorruptBlockError(
            f"block {text} is linked as a HAMT shard but is not one, or has another width", cid=text
        )

    def is_directory(self, link: Link) -> bool:
        """Return whether `link` leads to a directory. Reads its block, unless it is a raw leaf."""
        return not cids.is_raw(link.cid) and isinstance(self._node(link.cid), Directory)

    def size(self, link: Link) -> int:
        """Return the byte length of the value that `link` leads to.

        Raises:
            InvalidInputError: it leads to a directory.
        """
        if cids.is_raw(link.cid):
            return link.tsize
        node = self._node(link.cid)
        if isinstance(node, Directory):
            raise InvalidInputError(f"{link.name!r} is a directory and has no size of its own")
        return node

    def find(self, root: Cid, key: str) -> Link | None:
        """Return the link to the value under `key`, or None if there is none (or a directory)."""
        link = self._link_at(root, key)
        return None if link is None or self.is_directory(link) else link

    def subtree(self, root: Cid, path: str) -> Link | None:
        """Return the link to the directory or value at `path`; None if there is none."""
        if not path:
            return Link("", root, self.directory(root).tsize)
        return self._link_at(root, path)

    def list_dir(self, root: Cid, path: str = "") -> list[str]:
        """Return the names in the directory at `path`, sorted; empty if there is no directory."""
        directory = self._directory_at(root, path)
        return [link.name for link in directory.links()] if directory is not None else []

    def walk(self, root: Cid, prefix: str = "") -> Iterator[tuple[str, Link]]:
        """Yield all keys and their values' links in the directory at `prefix`, sorted by key.

        Lazy: keeps the links of the directories above the current key.
        """
        directory = self._directory_at(root, prefix)
        if directory is not None:
            yield from self.walk_directory(directory, f"{prefix}/" if prefix else "")

    def walk_directory(self, directory: Directory, start: str) -> Iterator[tuple[str, Link]]:
        """Yield the content of `directory` like `walk`; each key begins with `start`."""
        if start.count("/") >= MAX_PARTS:
            text = cids.to_text(directory.cid)
            raise CorruptBlockError(
                f"directory {text} is more than {MAX_PARTS} deep in its tree", cid=text
            )
        links = directory.links()
        if all(cids.is_raw(link.cid) for link in links):
            for link in links:
                yield start + link.name, link
            return
        for label, link in in_key_order((self.label(link), link) for link in links):
            if label[-1] == "/":
                yield from self.walk_directory(self.directory(link.cid), start + label)
            else:
                yield start + label, link

    def label(self, link: Link) -> str:
        """Return the name of `link`, followed by "/" if it leads to a directory."""
        return f"{link.name}/" if self.is_directory(link) else link.name

    def _link_at(self, root: Cid, path: str) -> Link | None:
        parent, slash, name = path.rpartition("/")
        if slash and not parent:
            return None  # no name is empty, so "/a" is not "a"
        directory = self._directory_at(root, parent)
        return None if directory is None else directory.get(name)

    def _directory_at(self, root: Cid, path: str) -> Directory | None:
        if not path:
            return self.directory(root)
        cid = self._paths.get((root, path))
        if cid is not None:
            return self.directory(cid)
        directory = self.directory(root)
        for part in path.split("/"):
            link = directory.get(part)
            if link is None or cids.is_raw(link.cid):
                return None
            node = self._node(link.cid)
            if not isinstance(node, Directory):
                return None
            directory = node
        if len(self._paths) >= _MAX_PATHS:
            self._paths.clear()
        self._paths[root, path] = directory.cid
        return directory

    def _node(self, cid: Cid) -> Directory | int:
        """Return the directory, or the size of the value, with a dag-pb block as its root."""
        node = self._recent.get(cid)
        if node is None:
            node = self._sizes.get(cid)
        if node is None:
            node, links = self._read(cid)
            self._recent.add(cid, node, links + 1)
        return node

    def _read(self, cid: Cid) -> tuple[Directory | int, int]:
        """Read and decode a block; also returns the number of its links."""
        if not _is_dag_pb(cid):
            text = cids.to_text(cid)
            raise CorruptBlockError(f"block {text} is linked in a tree but is not dag-pb", cid=text)
        block = unixfs.EMPTY_DIRECTORY if cid == self.empty else read_block(self.blocks.get, cid)
        return read(cid, bytes(block), self)


def _is_dag_pb(cid: Cid) -> bool:
    """Return whether `cid`, of version 1 or 0, is that of a dag-pb block."""
    return cid[:2] in {b"\x01\x70", b"\x12\x20"}


class _Recent:
    """A cache of nodes by CID, up to a total weight, that drops those not used recently.

    Two generations: an entry that is used moves to the young one; when that is full, it becomes the
    old one, and the old one is dropped. Reading a cached entry takes no lock.
    """

    def __init__(self, max_weight: int) -> None:
        self._lock = ForkSafeLock()
        self._max_young = max_weight // 2
        self._young: dict[Cid, tuple[Directory | int, int]] = {}
        self._old: dict[Cid, tuple[Directory | int, int]] = {}
        self._weight = 0

    def get(self, cid: Cid) -> Directory | int | None:
        found = self._young.get(cid)
        if found is None:
            found = self._old.get(cid)
            if found is None:
                return None
            self.add(cid, *found)
        return found[0]

    def add(self, cid: Cid, node: Directory | int, weight: int) -> None:
        with self._lock:
            if cid in self._young:
                return
            if self._weight + weight > self._max_young:
                self._old, self._young, self._weight = self._young, {}, 0
            self._young[cid] = node, weight
            self._weight += weight
