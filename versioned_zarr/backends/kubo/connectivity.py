"""The connectivity check: before a ref names a commit, the node has everything that it reaches.

Blocks in this machine's cache may have been collected on the node, and data that others left there
may be incomplete. So the node is asked for everything that no ref reaches yet and that this
operation did not send itself, and missing blocks are sent. Costs nothing if everything was just
sent; otherwise O(data that no ref reaches).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, cast

from versioned_zarr.backends.kubo.gc_guard import GcGuard
from versioned_zarr.backends.kubo.kubo_blocks import KuboBlocks
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.engine.transfer.missing_objects import MissingObjects
from versioned_zarr.errors import BlockNotFoundError, CollectedError, CorruptBlockError
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.cid import Cid, from_text, to_text

_ASKED_AT_ONCE: Final = 4096


def make_whole(
    blocks: KuboBlocks, new: Cid, before: Cid | None, tips: Callable[[], Iterable[Cid]]
) -> None:
    """Make sure that the node has everything that a commit reaches.

    Args:
        blocks: the block store of the node.
        new: the commit.
        before: the current commit of the ref, which is complete; None if there is none.
        tips: returns the commits of all refs, which are complete; called if `new` is not a child
            of `before`.

    Raises:
        CollectedError: a block is neither on the node nor on this machine.
    """
    with blocks.guarding() as gc_guard:
        if blocks.is_partial or new == before or new in gc_guard.whole:
            return
        try:
            _Whole(blocks, gc_guard).make(new, before, tips)
        except (BlockNotFoundError, CorruptBlockError) as error:
            url = blocks.client.base_url
            raise CollectedError(
                f"commit {to_text(new)} is incomplete on the IPFS node at {url} and on "
                f"this machine: block {error.cid} was collected; no ref was moved: push the "
                "commit from a complete copy",
                where=url,
            ) from error
        gc_guard.whole.add(new)


class _Whole:
    """One check of what a commit reaches."""

    def __init__(self, blocks: KuboBlocks, gc_guard: GcGuard) -> None:
        self._blocks, self._gc_guard = blocks, gc_guard

    def get(self, cid: Cid) -> memoryview:
        """A block that this operation sent, or one that is cached, or from the node."""
        held = self._gc_guard.held(cid)
        return self._blocks.get(cid) if held is None else memoryview(held)

    def _read(self, cid: str) -> Commit:
        return commits.read(from_text(cid), cast("BlockStore", self))  # reads only with `get`

    def make(self, new: Cid, before: Cid | None, tips: Callable[[], Iterable[Cid]]) -> None:
        """See `make_whole`."""
        parents = self._read(to_text(new)).parents
        if before is not None and parents == (to_text(before),):
            known = {before, *self._gc_guard.whole}
        else:
            known = self._known(new, tips)
        reached = (cid for cid in self._reached(new, known) if not self._gc_guard.counts_on(cid))
        while some := list(islice(reached, _ASKED_AT_ONCE)):
            self._blocks.send_missing(some, self._gc_guard)

    def _known(self, new: Cid, tips: Callable[[], Iterable[Cid]]) -> set[Cid]:
        """Enough complete commits on the node."""
        if self._gc_guard.tips is not None:
            return self._gc_guard.tips | self._gc_guard.whole
        known: set[Cid] = set()
        for tip in tips():
            known.add(tip)
            # Usually it is at the head of a branch, or is an ancestor of the first head.
            if tip == new or (len(known) == 1 and not self._beyond(new, known)):
                return known
        self._gc_guard.tips = known
        return known | self._gc_guard.whole

    def _beyond(self, new: Cid, known: set[Cid]) -> list[str]:
        return walk.beyond([to_text(new)], map(to_text, known), self._read)

    def _reached(self, new: Cid, known: set[Cid]) -> Iterator[Cid]:
        """The blocks that a commit reaches and known ones do not; the oldest commits first."""
        novelty = MissingObjects(self.get, set(known))
        for cid in reversed(self._beyond(new, known)):
            commit = self._read(cid)
            parents = [self._read(parent) for parent in commit.parents]
            novelty.complete.update(from_text(parent.cid) for parent in parents)
            older = [from_text(parent.tree) for parent in parents]
            for root, beside in ((from_text(commit.tree), older), (from_text(cid), [])):
                for found in novelty.blocks(root, beside):
                    yield found.cid
                novelty.complete.add(root)
