"""The chunks of an array that both sides of a merge changed: merged in shards, or in conflict."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from versioned_zarr.ipld.cid import to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.conflicts import ChunkConflict, Conflict, ConflictKind, of_chunks
from versioned_zarr.repository.deciding import Decider, Decision
from versioned_zarr.repository.shard_merge import MergedShard, merge_shards
from versioned_zarr.repository.shards import ShardLayout
from versioned_zarr.tree.merge import KeyConflict

SIDES: Final = ("base", "ours", "theirs")
Taken: TypeAlias = "Link | bytes | None"


@dataclass
class ChunkClash:
    """A chunk that both sides changed.

    Attributes:
        keys: its key, and the links to its three states.
        coordinates: its position in the grid of stored chunks.
        may_agree: whether both sides may have made the same change.
        shard: its merge, if it is a shard whose index can be read.
    """

    keys: KeyConflict
    coordinates: tuple[int, ...]
    may_agree: bool
    shard: MergedShard | None = None

    @property
    def links(self) -> tuple[Link | None, Link | None, Link | None]:
        """The links to what it was, what it is on our side and on theirs."""
        return self.keys.base, self.keys.ours, self.keys.theirs

    @property
    def conflict(self) -> ChunkConflict:
        """What is told of it."""
        inner: tuple[tuple[int, ...], ...] = ()
        if self.shard is not None:
            layout = self.shard.layout
            inner = tuple(layout.coordinates(self.coordinates, at) for at in self.shard.conflicts)
        base, ours, theirs = (None if link is None else to_text(link.cid) for link in self.links)
        is_alike = self.shard is not None and self.shard.is_alike
        kind = ConflictKind.ALIKE if is_alike else kind_of(self.keys)
        return ChunkConflict(self.keys.key, self.coordinates, kind, base, ours, theirs, inner)


@dataclass
class ChunksOfArray:
    """All such chunks of one array.

    Attributes:
        path: the array.
        layout: of its shards, alike in all three states; None if they are no shards to look into.
        clashes: the chunks.
    """

    path: str
    layout: ShardLayout | None
    clashes: list[ChunkClash] = field(default_factory=list)

    def settle(
        self, decider: Decider, read: Callable[[Link], bytes]
    ) -> tuple[list[tuple[str, Taken]], Conflict | None]:
        """Merge what can be merged, and ask for the rest.

        Args:
            decider: settles conflicts.
            read: gives all bytes of a value; asked for shards.

        Returns:
            What to take under which key, and what is left in conflict.
        """
        taken: list[tuple[str, Taken]] = []
        asked = []
        for clash in self.clashes:
            if self.layout is not None:
                clash.shard = self._merged(clash, self.layout, read)
            if clash.shard is not None and not clash.shard.conflicts:
                taken.append((clash.keys.key, _shard(clash, 1, read)))
            else:
                asked.append(clash)
        if not asked:
            return taken, None
        decisions = decider.of_chunks(of_chunks(self.path, [clash.conflict for clash in asked]))
        left = []
        for clash, decision in zip(asked, decisions, strict=True):
            if decision is None:
                left.append(clash.conflict)
            else:
                taken.append((clash.keys.key, _settled(clash, decision, read)))
        return taken, of_chunks(self.path, left) if left else None

    @staticmethod
    def _merged(
        clash: ChunkClash, layout: ShardLayout, read: Callable[[Link], bytes]
    ) -> MergedShard | None:
        states = [None if link is None else read(link) for link in clash.links]
        return merge_shards(layout, *states, may_agree=clash.may_agree)


def kind_of(clash: KeyConflict) -> ConflictKind:
    """What happened to a key."""
    ours, theirs = clash.ours, clash.theirs
    if (ours and ours.cid) == (theirs and theirs.cid):
        return ConflictKind.ALIKE
    if ours is None or theirs is None:
        return ConflictKind.REMOVED
    return ConflictKind.ADDED if clash.base is None else ConflictKind.CHANGED


def _settled(clash: ChunkClash, decision: Decision, read: Callable[[Link], bytes]) -> Taken:
    """The chunk as it was decided."""
    if isinstance(decision, bytes):
        return decision
    side = SIDES.index(str(decision))
    return clash.links[side] if clash.shard is None else _shard(clash, side, read)


def _shard(clash: ChunkClash, side: int, read: Callable[[Link], bytes]) -> Taken:
    """The shard with its conflicts settled by a side; as one of the sides has it, if one does."""
    assert clash.shard is not None
    data = clash.shard.settled(side)
    if data is None:
        return None
    same: Sequence[Link] = [link for link in clash.links[1:] if link and read(link) == data]
    return same[0] if same else data
