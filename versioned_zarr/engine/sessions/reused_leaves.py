"""Reused leaves: the leaves of a value that a session does not store: the repository has them.

The draft of such a value holds its nodes and its other leaves. docs/design/packs.md says when
leaves are reused, docs/design/sessions.md how the journal names them.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import NamedTuple

from versioned_zarr.blocks.protocol import Block, BlockStore, WouldBlockError
from versioned_zarr.ipld.cid import CID_SIZE, Cid, is_raw
from versioned_zarr.ipld.unixfs import LEAF_SIZE, File

_ROW = struct.Struct(f"<I{CID_SIZE}s")
_LEAST_SAVED = 4
"""Leaves are reused if this saves at least one fourth of the value."""


class Piece(NamedTuple):
    """Consecutive bytes of a value that are all in its draft, or all in leaves that it reuses.

    Attributes:
        size: the number of bytes.
        start: the first of them, relative to the value's bytes in the draft, or to the leaves.
        cids: the leaves that contain them; none if they are in the draft.
        sizes: the sizes of these leaves in bytes.
    """

    size: int
    start: int
    cids: Sequence[Cid]
    sizes: Sequence[int]


@dataclass(frozen=True, slots=True)
class ReusedLeaves:
    """See the module. A leaf is known by its number in the value, from 0, and its CID.

    Attributes:
        encoded: a row for each leaf, in their order, as the journal stores them.
    """

    encoded: bytes = b""

    def __iter__(self) -> Iterator[tuple[int, Cid]]:
        return ((number, Cid(cid)) for number, cid in _ROW.iter_unpack(self.encoded))

    def __bool__(self) -> bool:
        return bool(self.encoded)

    def cids(self) -> list[Cid]:
        """The leaves."""
        return [cid for _, cid in self]

    def is_valid_for(self, size: int) -> bool:
        """Whether these can be leaves of a value of `size` bytes."""
        if len(self.encoded) % _ROW.size:
            return False
        numbers = [-1, *(number for number, _ in self), -(-size // LEAF_SIZE)]
        return all(before < after for before, after in pairwise(numbers))

    def size_bytes(self, size: int) -> int:
        """Their total size, in a value of `size` bytes."""
        if not self.encoded:
            return 0
        count = len(self.encoded) // _ROW.size
        last, _ = _ROW.unpack_from(self.encoded, len(self.encoded) - _ROW.size)
        return (count - 1) * LEAF_SIZE + _leaf_size(last, size)

    def pieces(self, size: int, start: int, end: int) -> Iterator[Piece]:
        """The pieces of a range of a value of `size` bytes, in order."""
        reused = dict(self)
        numbers = list(reused)
        touched = range(start // LEAF_SIZE, -(-end // LEAF_SIZE))
        for is_reused, group in groupby(touched, reused.__contains__):
            leaves = list(group)
            first = leaves[0]
            low, high = max(start, first * LEAF_SIZE), min(end, (leaves[-1] + 1) * LEAF_SIZE)
            if is_reused:
                sizes = [_leaf_size(number, size) for number in leaves]
                wanted = [reused[number] for number in leaves]
                yield Piece(high - low, low - first * LEAF_SIZE, wanted, sizes)
            else:
                skipped = bisect_left(numbers, first) * LEAF_SIZE
                yield Piece(high - low, low - skipped, (), ())


NO_LEAVES = ReusedLeaves()


def _leaf_size(number: int, size: int) -> int:
    return min(LEAF_SIZE, size - number * LEAF_SIZE)


def reusable_leaves(
    file: File, blocks: BlockStore, among: AbstractSet[Cid] | None = None
) -> ReusedLeaves:
    """The leaves of a value that need not be stored again; none if this saves too little.

    Costs a lookup in the index for each leaf, and no request: leaves that a remote store would have
    to be asked for are stored again.

    Args:
        file: the value.
        blocks: the block store.
        among: only these leaves are reused, if given.
    """
    leaves = [cid for cid, _ in file.blocks if is_raw(cid)]
    try:
        with blocks.near():
            found = [
                (number, cid)
                for number, cid in enumerate(leaves)
                if cid in blocks and (among is None or cid in among)
            ]
    except WouldBlockError:
        return NO_LEAVES
    reused = ReusedLeaves(b"".join(_ROW.pack(number, cid) for number, cid in found))
    return reused if reused.size_bytes(file.size) * _LEAST_SAVED >= file.size else NO_LEAVES


def stored_blocks(file: File, reused: ReusedLeaves) -> list[Block]:
    """The blocks of a value without the leaves that it reuses."""
    if not reused:
        return list(file.blocks)
    nodes = [block for block in file.blocks if not is_raw(block[0])]
    leaves = file.blocks[len(nodes) :]
    left_out = {number for number, _ in reused}
    return [*nodes, *(leaf for number, leaf in enumerate(leaves) if number not in left_out)]
