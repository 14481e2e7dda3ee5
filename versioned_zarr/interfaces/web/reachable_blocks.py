"""Reachable blocks: whether some refs reach a block, walked no further than needed."""

from __future__ import annotations

from collections.abc import Callable

from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid


class ReachableBlocks:
    """Walks down from roots that may move. Thread-safe.

    A block that is reached is told once the walk has met it; that one is not, only after the whole
    walk, which is done once and goes on from there when a root moves forward. Costs about 100
    bytes a block, and reads trees and commits, never leaves.

    Args:
        below: gives what a block leads to; nothing, of a leaf.
        roots: tells where the roots stand now.
        is_past: tells whether one root is reached from another.
    """

    def __init__(
        self,
        below: Callable[[Cid], list[Cid]],
        roots: Callable[[], frozenset[Cid]],
        is_past: Callable[[Cid, Cid], bool],
    ) -> None:
        self._below = below
        self._roots = roots
        self._is_past = is_past
        self._guard = ForkSafeLock()
        self._from: frozenset[Cid] = frozenset()
        self._reached: set[bytes] = set()
        self._stack: list[Cid] = []

    def __contains__(self, cid: Cid) -> bool:
        roots = self._roots()
        digest = cids.digest(cid)
        with self._guard:
            if roots != self._from:
                self._follow(roots)
            return digest in self._reached or self._walk_to(digest)

    def _follow(self, roots: frozenset[Cid]) -> None:
        """Take new roots; what the old ones reached stays if the new ones reach those."""
        left = self._from - roots
        if not all(any(self._is_past(old, new) for new in roots) for old in left):
            self._reached.clear()
            self._stack.clear()
            self._stack += roots
        else:
            self._stack += roots - self._from
        self._from = roots

    def _walk_to(self, wanted: bytes) -> bool:
        stack, reached = self._stack, self._reached
        while stack:
            cid = stack.pop()
            digest = cids.digest(cid)
            if digest in reached:
                continue
            reached.add(digest)
            stack += self._known_below(cid)
            if digest == wanted:
                return True
        return False

    def _known_below(self, cid: Cid) -> list[Cid]:
        try:
            return self._below(cid)
        except (BlockNotFoundError, CorruptBlockError):
            return []  # what lies below a damaged block cannot be told, nor offered
