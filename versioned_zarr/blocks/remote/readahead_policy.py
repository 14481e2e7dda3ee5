"""The read-ahead policy: how much to fetch beyond what was requested.

A request takes as long as transferring some more KiB. So if small values are read one after
another, like the chunks of an array, the whole directory or shard around the next one is fetched,
and the following ones while it is read. The bytes that were read ahead but not yet used, including
those in flight, never exceed the bytes requested. Knows only sizes, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from versioned_zarr.blocks.semaphore import Semaphore
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid

REQUEST_BYTES: Final = 128 << 10
"""A requested value counts as at least this many bytes, to account for its request."""
LIMIT_BYTES: Final = 16 << 20
"""The limit for one read-ahead, whatever was requested before."""
SMALL_BYTES: Final = 256 << 10
"""Children of a node are fetched together if their average size is at most this."""
UNSEEN_BYTES: Final = 4 << 20
"""The limit for the total size of a node that has not been read yet."""
NODES_AHEAD: Final = 3
_REMEMBERED: Final = 1 << 17


@dataclass
class _SeenNode:
    """The parent of a node or leaf, and its total size including everything below it."""

    above: Cid | None
    size_bytes: int
    links: int = 0
    following: Cid | None = None


class ReadAheadPolicy:
    """Tracks what was read and read ahead, and decides what to fetch next. Thread-safe."""

    def __init__(self) -> None:
        self._turns = Semaphore(1)
        self._nodes: dict[Cid, _SeenNode] = {}
        self._asked_bytes = 0
        self._unread_bytes = 0
        self._unread: dict[Cid, int] = {}
        self._coming: dict[Cid, int] = {}
        self._whole: set[Cid] = set()

    def size_bytes(self, cid: Cid) -> int | None:
        """The total size of a node and everything below it, if its parent was seen."""
        found = self._nodes.get(cid)
        return found.size_bytes if found is not None and found.above is not None else None

    def saw(self, cid: Cid, links: Callable[[], Iterable[tuple[Cid, int]]]) -> None:
        """Record a node that was read.

        Args:
            cid: the node.
            links: returns its links, in the usual order of reading, with their total sizes
                including everything below them.
        """
        found = self._nodes.get(cid)
        if found is not None and found.links:
            return
        below = list(links())
        with self._turns.take():
            if len(self._nodes) >= _REMEMBERED:
                self._nodes.clear()
            node = self._nodes.setdefault(cid, _SeenNode(None, sum(size for _, size in below)))
            node.links = len(below)
            last: _SeenNode | None = None
            for child, size in below:
                found = self._nodes.setdefault(child, _SeenNode(cid, size))
                if found.above is None:
                    found.above, found.size_bytes = cid, size
                if not cids.is_raw(child):
                    if last is not None:
                        last.following = child
                    last = found

    def around(self, cid: Cid) -> Cid | None:
        """The largest node at or above a block that may be fetched whole with it, or None.

        A node that is already in flight is preferred. Otherwise part of the budget is reserved:
        call `came` for the node in the end.
        """
        with self._turns.take():
            best, at = None, self._nodes.get(cid)
            name: Cid | None = cid
            while at is not None and name is not None and at.size_bytes <= LIMIT_BYTES:
                if name in self._coming:
                    return name
                if not cids.is_raw(name) and self._fits(at):
                    best = name
                name, at = at.above, self._nodes.get(at.above) if at.above else None
            if best is not None:
                self._coming[best] = self._nodes[best].size_bytes
            return best

    def after(self, cid: Cid) -> list[Cid]:
        """The nodes to fetch after one that was fetched whole; like `around` for each."""
        found: list[Cid] = []
        with self._turns.take():
            at = self._nodes.get(cid) if cid in self._whole else None
            for _ in range(NODES_AHEAD):
                name = at.following if at is not None else None
                at = self._nodes.get(name) if name is not None else None
                if name is None or at is None:
                    break
                if name not in self._whole and name not in self._coming and self._fits(at):
                    self._coming[name] = at.size_bytes
                    found.append(name)
        return found

    def _fits(self, node: _SeenNode) -> bool:
        most = SMALL_BYTES * node.links or UNSEEN_BYTES
        room = min(LIMIT_BYTES, self._asked_bytes - self._unread_bytes)
        return node.size_bytes <= min(most, room - sum(self._coming.values()))

    def came(self, cid: Cid, blocks: Mapping[Cid, memoryview]) -> None:
        """Record what was received with a node, requested or not."""
        with self._turns.take():
            self._coming.pop(cid, None)
            if cid in blocks:
                if len(self._whole) >= _REMEMBERED:
                    self._whole.clear()
                self._whole.add(cid)
            for leaf, block in blocks.items():
                if leaf != cid and cids.is_raw(leaf) and leaf not in self._unread:
                    self._unread[leaf] = len(block)
                    self._unread_bytes += len(block)
            while len(self._unread) > _REMEMBERED:  # they count as never read
                del self._unread[next(iter(self._unread))]

    def asked(self, leaf: Cid, *, was_near: bool) -> None:
        """Record a request for a leaf, and whether it was already local."""
        if was_near and leaf not in self._unread:
            return
        with self._turns.take():
            self._unread_bytes -= self._unread.pop(leaf, 0)
            self._asked_bytes += max(self.size_bytes(leaf) or 0, REQUEST_BYTES)

    def fetch_failed(self) -> None:
        """A node could not be fetched whole: start again with a small budget."""
        with self._turns.take():
            self._asked_bytes = 0
