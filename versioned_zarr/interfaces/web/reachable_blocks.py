"""Reachable blocks: whether some refs reach a block, walked no further than needed."""

from __future__ import annotations

from collections.abc import Callable

from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid


class ReachableBlocks:
    """Walks down from refs that may move. Thread-safe.

    A reachable block is reported as soon as the walk reaches it; an unreachable one only after the
    whole walk, which is done once and continues when a root moves forward. Costs about 100 bytes
    per block, and reads trees and commits, never leaves.

    Args:
        below: returns the blocks that a block links to; empty for a leaf.
        roots: returns the current roots.
        is_past: whether one root is reachable from another.
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
        """Update the roots; keeps the reached blocks if the new roots reach the old ones."""
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
            return []  # blocks below a damaged block are unknown, and not exposed
