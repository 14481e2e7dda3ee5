"""The GC guard: detects whether a node's garbage collection removed blocks of unfinished work.

Data that is sent is not pinned. Before the guard relies on any block, it stores a block that
nothing refers to, the canary, on the node. As long as the canary exists, no collection has removed
anything. docs/design/kubo.md explains why this is sufficient.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from versioned_zarr.backends.kubo.client import KuboClient
from versioned_zarr.blocks.protocol import Block, Followable
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.storage.protocol import Bytes

_CANARY_BYTES = 32
_HELD_BYTES = 64 << 20


class GcGuard(ExitStack):
    """The blocks that one commit, session or transfer relies on, until a ref reaches them.

    Thread-safe, without a lock that an interrupt could leave held. As a context manager, it keeps
    what is needed to send the blocks again.

    Args:
        client: the node.

    Attributes:
        whole: commits that are complete on the node.
        tips: the commits of all refs when they were first read; None before that.
    """

    def __init__(self, client: KuboClient) -> None:
        super().__init__()
        self._client = client
        self.whole: set[Cid] = set()
        self.tips: set[Cid] | None = None
        self._canaries: list[str] = []
        self._is_unsure = False
        self._counted_on: set[Cid] = set()
        self._held: dict[Cid, Bytes] = {}
        self._held_bytes = 0
        self._drafts: list[Followable] = []
        self._locations: dict[Cid, tuple[Followable, int, int]] = {}

    def begin(self) -> None:
        """Put the canary on the node, to detect every later collection."""
        if not self._canaries:
            self._canaries.append(self._new_canary())

    def _new_canary(self) -> str:
        canary = self._client.put_block(secrets.token_bytes(_CANARY_BYTES))
        # A running collection may spare it, and remove a block that is checked next.
        self._client.wait_for_gc()
        return canary

    def count_on(self, wanted: Iterable[Cid]) -> None:
        """Remember blocks that are on the node, or will be."""
        self.begin()
        self._counted_on.update(list(wanted))

    def remember(self, there: Iterable[Cid]) -> None:
        """Rely on blocks that were looked up without a canary, and so must be looked up again.

        Most callers that look up blocks in this way need no canary afterward.
        """
        self._counted_on.update(list(there))
        self._is_unsure = bool(self._counted_on)

    def hold(self, blocks: Sequence[Block]) -> None:
        """Keep some of the sent blocks in memory, in case they are removed."""
        for cid, data in blocks:
            if self._held_bytes + len(data) > _HELD_BYTES:
                return
            self._held[cid] = data
            self._held_bytes += len(data)

    def hold_draft(self, draft: Followable) -> None:
        """Treat the blocks of a draft as available: its session keeps it until the commit."""
        self._drafts.append(draft)

    def held(self, cid: Cid) -> Bytes | None:
        """A block that was kept in memory, or is in a draft."""
        found = self._held.get(cid)
        if found is not None:
            return found
        while self._drafts:
            draft = self._drafts[-1]
            locations = {each: (draft, start, end) for each, start, end in draft.finished()}
            self._locations.update(locations)
            self._drafts.remove(draft)
        location = self._locations.get(cid)
        return None if location is None else location[0].read(*location[1:])

    def counts_on(self, cid: Cid) -> bool:
        """Whether a block was sent or found there since the canary was stored."""
        return cid in self._counted_on

    def join(self, other: GcGuard) -> None:
        """Rely on the blocks of another guard, since the same time."""
        self._canaries += list(other._canaries)
        self._counted_on.update(list(other._counted_on))
        self._drafts += list(other._drafts)

    def is_undisturbed(self) -> bool:
        """Whether no collection has removed anything since; one may be running."""
        return not self._is_unsure and all(
            self._client.has_block(from_text(canary)) for canary in self._canaries
        )

    def taken(self) -> list[Cid]:
        """The relied-on blocks that a collection removed; starts again."""
        canary = self._new_canary()
        absent = self._client.missing(list(self._counted_on))
        # Not earlier: if this is interrupted, the check must be repeated.
        self._canaries, self._is_unsure = [canary], False
        return absent
