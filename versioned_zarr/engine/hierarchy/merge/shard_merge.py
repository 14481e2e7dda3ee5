"""Three-way merge of shards: per inner chunk, on the stored bytes."""

from __future__ import annotations

from dataclasses import dataclass

from versioned_zarr.engine.hierarchy.shards import (
    Order,
    Part,
    ShardLayout,
    assemble,
    inner_chunks,
    order_of,
)


@dataclass
class MergedShard:
    """The result of merging a shard.

    Attributes:
        layout: its layout.
        order: the order of its inner chunks.
        sides: the inner chunks in the base, on our side and on theirs.
        chunks: the merged inner chunks; ours if both sides changed one differently.
        conflicts: the numbers of those in conflict.
    """

    layout: ShardLayout
    order: Order
    sides: tuple[list[Part], list[Part], list[Part]]
    chunks: list[Part]
    conflicts: list[int]

    @property
    def is_alike(self) -> bool:
        """Whether both sides made the same change to everything in conflict."""
        _, ours, theirs = self.sides
        return bool(self.conflicts) and all(ours[at] == theirs[at] for at in self.conflicts)

    def settled(self, side: int) -> bytes | None:
        """The shard with its conflicts resolved to a side: 0 the base, 1 ours, 2 theirs."""
        return assemble(self.layout, self.settled_chunks(side), self.order)

    def settled_chunks(self, side: int) -> list[Part]:
        """Its inner chunks, resolved in the same way."""
        chunks = list(self.chunks)
        for number in self.conflicts:
            chunks[number] = self.sides[side][number]
        return chunks


def merge_shards(
    layout: ShardLayout, base: Part, ours: Part, theirs: Part, *, may_agree: bool
) -> MergedShard | None:
    """Merge three states of a shard; the result has the same bytes whichever side is ours.

    Args:
        layout: the layout of all three states.
        base: the shard in the base; None if it is not stored.
        ours: our side; None if it is not stored.
        theirs: the other side; None if it is not stored.
        may_agree: whether the same change of an inner chunk by both sides is allowed.

    Returns:
        None if an index cannot be read.
    """
    before, mine, others = (inner_chunks(layout, shard) for shard in (base, ours, theirs))
    if before is None or mine is None or others is None:
        return None
    chunks: list[Part] = []
    conflicts = []
    for number, (old, one, other) in enumerate(zip(before, mine, others, strict=True)):
        merged = one
        if one == old:
            merged = other
        elif other != old and (one != other or not may_agree):
            inner = _merge_nested(layout, old, one, other, may_agree=may_agree)
            if inner is None:
                conflicts.append(number)
            else:
                merged = inner.settled(1)
        chunks.append(merged)
    order = order_of(layout, (ours, theirs))
    return MergedShard(layout, order, (before, mine, others), chunks, conflicts)


def _merge_nested(
    layout: ShardLayout, old: Part, one: Part, other: Part, *, may_agree: bool
) -> MergedShard | None:
    """The merge of an inner chunk that is itself a shard; None if its index cannot be read."""
    if layout.inner is None:
        return None
    merged = merge_shards(layout.inner, old, one, other, may_agree=may_agree)
    return None if merged is None or merged.conflicts else merged
