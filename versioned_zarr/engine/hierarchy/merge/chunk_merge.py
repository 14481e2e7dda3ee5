"""Chunk merge: the chunks that both sides changed, merged in shards or in conflict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from versioned_zarr.engine.hierarchy.merge.conflict_resolution import Decider, Decision
from versioned_zarr.engine.hierarchy.merge.conflicts import (
    ChunkConflict,
    Conflict,
    ConflictKind,
    of_chunks,
)
from versioned_zarr.engine.hierarchy.merge.shard_merge import MergedShard, merge_shards
from versioned_zarr.engine.hierarchy.shards import ShardLayout
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.merge_tree import KeyConflict

SIDES: Final = ("base", "ours", "theirs")
Read: TypeAlias = Callable[[Link], bytes]
Taken: TypeAlias = "Link | bytes | Callable[[], bytes] | None"
"""The new value of a key: a link, bytes, a function that returns bytes, or None."""


@dataclass
class ChunkClash:
    """A chunk that both sides changed.

    Attributes:
        keys: its key, and the links to its three states.
        coordinates: its position in the grid of stored chunks.
        may_agree: whether both sides may have made the same change.
    """

    keys: KeyConflict
    coordinates: tuple[int, ...]
    may_agree: bool

    @property
    def links(self) -> tuple[Link | None, Link | None, Link | None]:
        """The links to the chunk in the base, on our side and on theirs."""
        return self.keys.base, self.keys.ours, self.keys.theirs

    def merge(self, layout: ShardLayout | None, read: Read) -> MergedShard | None:
        """The merge of a shard; None if this is not a shard with a readable index.

        Keeps all three states of the shard in memory, so merge one shard at a time.
        """
        if layout is None:
            return None
        states = [None if link is None else read(link) for link in self.links]
        return merge_shards(layout, *states, may_agree=self.may_agree)

    def told(self, merged: MergedShard | None) -> ChunkConflict:
        """The description of a conflict in it."""
        inner: tuple[tuple[int, ...], ...] = ()
        kind = kind_of(self.keys)
        if merged is not None:
            layout = merged.layout
            inner = tuple(layout.coordinates(self.coordinates, at) for at in merged.conflicts)
            kind = ConflictKind.ALIKE if merged.is_alike else kind
        base, ours, theirs = (None if link is None else to_text(link.cid) for link in self.links)
        return ChunkConflict(self.keys.key, self.coordinates, kind, base, ours, theirs, inner)


@dataclass
class ChunksOfArray:
    """All such chunks of one array.

    Attributes:
        path: the path of the array.
        layout: of its shards, the same in all three states; None if the array is not sharded.
        read: returns all bytes of a value; used for shards.
        clashes: the chunks.
    """

    path: str
    layout: ShardLayout | None
    read: Read
    clashes: list[ChunkClash] = field(default_factory=list)

    def settle(self, decider: Decider) -> tuple[list[tuple[str, Taken]], Conflict | None]:
        """Merge what can be merged, and resolve the rest.

        Returns:
            The new contents by key, and the remaining conflicts.
        """
        taken: list[tuple[str, Taken]] = []
        asked: list[tuple[ChunkClash, ChunkConflict]] = []
        for clash in self.clashes:
            merged = clash.merge(self.layout, self.read)
            if merged is not None and not merged.conflicts:
                taken.append((clash.keys.key, self._shard(clash, merged, 1)))
            else:
                asked.append((clash, clash.told(merged)))
        if not asked:
            return taken, None
        decisions = decider.of_chunks(of_chunks(self.path, [told for _, told in asked]))
        left = []
        for (clash, told), decision in zip(asked, decisions, strict=True):
            if decision is None:
                left.append(told)
            else:
                taken.append((clash.keys.key, self._settled(clash, decision)))
        return taken, of_chunks(self.path, left) if left else None

    def _settled(self, clash: ChunkClash, decision: Decision) -> Taken:
        """The resolved chunk."""
        if isinstance(decision, bytes):
            return decision
        side = SIDES.index(str(decision))
        merged = clash.merge(self.layout, self.read)
        return clash.links[side] if merged is None else self._shard(clash, merged, side)

    def _shard(self, clash: ChunkClash, merged: MergedShard, side: int) -> Taken:
        """The shard with its conflicts resolved to a side; the link if only one side has it."""
        chunks = merged.settled_chunks(side)
        if not any(chunk is not None for chunk in chunks):
            return None
        as_they_are = [at for at in (1, 2) if merged.sides[at] == chunks]
        if len(as_they_are) == 1:
            return clash.links[as_they_are[0]]

        def assembled() -> bytes:
            again = clash.merge(self.layout, self.read)
            data = None if again is None else again.settled(side)
            assert data is not None, "what was read once is read again"
            return data

        return assembled


def kind_of(clash: KeyConflict) -> ConflictKind:
    """The kind of change of a key."""
    ours, theirs = clash.ours, clash.theirs
    if (ours and ours.cid) == (theirs and theirs.cid):
        return ConflictKind.ALIKE
    if ours is None or theirs is None:
        return ConflictKind.REMOVED
    return ConflictKind.ADDED if clash.base is None else ConflictKind.CHANGED
