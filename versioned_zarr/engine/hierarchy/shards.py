"""The index of a shard: the byte range of each inner chunk, without decoding chunks.

Source: the Zarr v3 specification of the `sharding_indexed` codec. A shard with an unsupported index
encoding has no layout here and is treated as one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from versioned_zarr.engine.hierarchy.crc32c import crc32c

EMPTY: Final = 2**64 - 1
"""The offset and the length in the index of an inner chunk that is not stored."""

Index: TypeAlias = "NDArray[np.uint64]"
"""Offset and length of each inner chunk, in row-major order."""
Order: TypeAlias = "NDArray[np.intp]"
"""The numbers of inner chunks, in the order in which a shard stores them."""
Part: TypeAlias = "bytes | memoryview | None"
Read: TypeAlias = Callable[[int, int], "bytes | memoryview"]
"""Returns the bytes of a shard from a start to a stop."""

_CHECKSUM_BYTES = 4
_ENTRY_BYTES = 16
_MAX_CHUNKS = 1 << 20
_READ_BYTES = 8 << 20
_KEEP_SHAPE = ("numcodecs.", "scale_offset", "cast_value")
"""Prefixes of the codecs before the sharding codec that do not change the shape of a chunk."""


@dataclass(frozen=True)
class ShardLayout:
    """The layout of the shards of an array.

    Attributes:
        grid: the number of inner chunks of a shard along each dimension of its index.
        dimensions: the dimension of the array for each dimension of the index.
        is_at_start: whether the index is before the inner chunks; otherwise it is after them.
        byte_order: of the index: `<` or `>`.
        has_checksum: whether a CRC-32C follows the index.
        inner: the layout of each inner chunk, if these are shards themselves.
    """

    grid: tuple[int, ...]
    dimensions: tuple[int, ...]
    is_at_start: bool
    byte_order: str
    has_checksum: bool
    inner: ShardLayout | None = None

    @property
    def chunks(self) -> int:
        """The number of inner chunks of a shard."""
        return prod(self.grid)

    @property
    def index_bytes(self) -> int:
        """The size of the index in bytes, including its checksum."""
        return self.chunks * _ENTRY_BYTES + _CHECKSUM_BYTES * self.has_checksum

    def coordinates(self, shard: Sequence[int], number: int) -> tuple[int, ...]:
        """The position of an inner chunk in the array's grid of inner chunks.

        Args:
            shard: the position of its shard in the grid of shards.
            number: the number of the inner chunk, in the order of the index.
        """
        inner = np.unravel_index(number, self.grid) if self.grid else ()
        found = [0] * len(self.grid)
        for dimension, at, size in zip(self.dimensions, inner, self.grid, strict=True):
            found[dimension] = shard[dimension] * size + int(at)
        return tuple(found)

    @cached_property
    def orders(self) -> tuple[Order, ...]:
        """The orders in which writers store inner chunks; the first is zarr-python's default."""
        numbers = np.arange(self.chunks)
        across = numbers.reshape(self.grid).transpose().ravel()
        return np.argsort(self._morton(), kind="stable"), numbers, across

    def _morton(self) -> Order:
        """The position of each on the Z-order curve, without bits that no position has."""
        positions = np.indices(self.grid).reshape(len(self.grid), -1)
        widths = [(size - 1).bit_length() for size in self.grid]
        code = np.zeros(self.chunks, dtype=np.intp)
        place = 0
        for bit in range(max(widths, default=0)):
            for position, width in zip(positions, widths, strict=True):
                if bit < width:
                    code |= (position >> bit & 1) << place
                    place += 1
        return code


def layout_of(document: dict[str, Any]) -> ShardLayout | None:
    """The layout of an array's shards; None if it is not sharded, or the layout is unsupported.

    Args:
        document: the array's `zarr.json`.
    """
    grid, codecs = document.get("chunk_grid"), document.get("codecs")
    if _name(grid) != "regular" or not isinstance(codecs, list):
        return None
    shape = _sizes(_configuration(grid).get("chunk_shape"))
    return None if shape is None else _layout(shape, tuple(range(len(shape))), codecs)


def _layout(
    shape: tuple[int, ...], dimensions: tuple[int, ...], codecs: list[Any]
) -> ShardLayout | None:
    *before, sharding = codecs or [None]
    if _name(sharding) != "sharding_indexed":
        return None
    for codec in before:
        if _name(codec) == "transpose":
            order = _configuration(codec).get("order")
            if not isinstance(order, list) or sorted(map(str, order)) != [
                *map(str, range(len(shape)))
            ]:
                return None
            shape, dimensions = (tuple(of[at] for at in order) for of in (shape, dimensions))
        elif not _name(codec).startswith(_KEEP_SHAPE):
            return None
    options = _configuration(sharding)
    inner = _sizes(options.get("chunk_shape"))
    index = _index_codecs(options.get("index_codecs"))
    location = options.get("index_location", "end")
    if inner is None or index is None or len(inner) != len(shape):
        return None
    if location not in ("start", "end") or any(map(int.__mod__, shape, inner)):
        return None
    grid = tuple(map(int.__floordiv__, shape, inner))
    if not 0 < prod(grid) <= _MAX_CHUNKS:
        return None
    below = options.get("codecs")
    nested = _layout(inner, dimensions, below) if isinstance(below, list) else None
    return ShardLayout(grid, dimensions, location == "start", *index, nested)


def _index_codecs(codecs: Any) -> tuple[str, bool] | None:
    """The byte order of an index, and whether it has a checksum; None for other codecs."""
    if not isinstance(codecs, list) or not codecs:
        return None
    names = [_name(codec) for codec in codecs]
    if names not in (["bytes"], ["bytes", "crc32c"]):
        return None
    order = {"little": "<", "big": ">"}.get(_configuration(codecs[0]).get("endian", "little"))
    return None if order is None else (order, len(names) == 2)


def _name(codec: Any) -> str:
    name = codec.get("name") if isinstance(codec, dict) else codec
    return name if isinstance(name, str) else ""


def _configuration(codec: Any) -> dict[str, Any]:
    found = codec.get("configuration") if isinstance(codec, dict) else None
    return found if isinstance(found, dict) else {}


def _sizes(shape: Any) -> tuple[int, ...] | None:
    if not isinstance(shape, list) or not shape:
        return None
    if not all(type(size) is int and size > 0 for size in shape):
        return None
    return tuple(shape)


def empty_index(layout: ShardLayout) -> Index:
    """The index of a shard that is not stored."""
    return np.full((layout.chunks, 2), EMPTY, dtype=np.uint64)


def read_index(layout: ShardLayout, size: int, read: Read) -> Index | None:
    """The index of a shard; None if it is not valid: too short, damaged, or pointing outside.

    Args:
        layout: the layout of the shard.
        size: the size of the shard in bytes.
        read: returns a range of it; used only for the index.
    """
    length = layout.index_bytes
    if size < length:
        return None
    start = 0 if layout.is_at_start else size - length
    data = bytes(read(start, start + length))
    entries = data[: layout.chunks * _ENTRY_BYTES]
    if (
        layout.has_checksum
        and crc32c(entries).to_bytes(_CHECKSUM_BYTES, "little") != data[len(entries) :]
    ):
        return None
    index = np.frombuffer(entries, f"{layout.byte_order}u8").astype(np.uint64).reshape(-1, 2)
    stored = index[(index != EMPTY).any(axis=1)]
    offsets, lengths = stored[:, 0], stored[:, 1]
    first, last = (length, size) if layout.is_at_start else (0, size - length)
    # In this order no sum can overflow.
    is_inside = (offsets >= first) & (offsets <= last) & (lengths <= last)
    if not is_inside.all() or (lengths > np.uint64(last) - offsets).any():
        return None
    return index


def _index_of(layout: ShardLayout, shard: memoryview) -> Index | None:
    return read_index(layout, len(shard), lambda start, end: shard[start:end])


def inner_chunks(layout: ShardLayout, shard: Part) -> list[Part] | None:
    """The stored bytes of each inner chunk, in the order of the index; None for an empty one.

    Args:
        layout: the layout of the shard.
        shard: the bytes of the shard; None if it is not stored.

    Returns:
        None if the index cannot be read.
    """
    if shard is None:
        return [None] * layout.chunks
    whole = memoryview(shard)
    index = _index_of(layout, whole)
    if index is None:
        return None
    return [
        None if offset == EMPTY else whole[offset : offset + length]
        for offset, length in index.tolist()
    ]


def order_of(layout: ShardLayout, shards: Iterable[Part]) -> Order:
    """The order of the inner chunks in all these shards; zarr-python's if they have none."""
    indexes = [_index_of(layout, memoryview(shard)) for shard in shards if shard is not None]
    for order in layout.orders:
        offsets = [index[order, 0] for index in indexes if index is not None]
        if all((np.diff(each[each != EMPTY].astype(np.int64)) > 0).all() for each in offsets):
            return order
    return layout.orders[0]


def assemble(layout: ShardLayout, chunks: Sequence[Part], order: Order) -> bytes | None:
    """A shard with these inner chunks, contiguous; None if all are empty.

    Args:
        layout: the layout of the shard.
        chunks: the stored bytes of each inner chunk, in the order of the index.
        order: the order of the inner chunks in the shard.
    """
    index = empty_index(layout)
    at = layout.index_bytes if layout.is_at_start else 0
    parts: list[bytes | memoryview] = []
    for number in order.tolist():
        chunk = chunks[number]
        if chunk is None:
            continue
        index[number] = at, len(chunk)
        parts.append(chunk)
        at += len(chunk)
    if not parts:
        return None
    entries = index.astype(f"{layout.byte_order}u8").tobytes()
    if layout.has_checksum:
        entries += crc32c(entries).to_bytes(_CHECKSUM_BYTES, "little")
    return b"".join([entries, *parts] if layout.is_at_start else [*parts, entries])


def changed_inner(
    layout: ShardLayout, old: tuple[int, Read] | None, new: tuple[int, Read] | None
) -> list[int] | None:
    """The numbers of the inner chunks that differ between two states of a shard.

    Reads the two indexes, and only those inner chunks that have the same size in both: some MiB at
    a time, so that shards of any size are compared with little memory and few reads.

    Args:
        layout: the layout of both states.
        old: the size of the old state and a function that reads it; None if it is not stored.
        new: the same for the new state.

    Returns:
        None if an index cannot be read.
    """
    indexes = [
        empty_index(layout) if state is None else read_index(layout, *state) for state in (old, new)
    ]
    before, after = indexes
    if before is None or after is None:
        return None
    differs = before[:, 1] != after[:, 1]
    if old is not None and new is not None:
        for run in _runs(before, after, np.flatnonzero(~differs & (before[:, 0] != EMPTY))):
            _compare(run, old[1], new[1], differs)
    return [int(number) for number in np.flatnonzero(differs)]


class _Piece(NamedTuple):
    number: int
    start: int
    other_start: int
    length: int


def _runs(before: Index, after: Index, numbers: NDArray[np.intp]) -> Iterator[list[_Piece]]:
    """Groups of inner chunks that are contiguous in both states, so that one read suffices."""
    run: list[_Piece] = []
    for number in numbers[np.argsort(before[numbers, 0], kind="stable")].tolist():
        (start, length), (other_start, _) = before[number].tolist(), after[number].tolist()
        piece = _Piece(number, start, other_start, length)
        if run:
            last = run[-1]
            ends = last.start + last.length, last.other_start + last.length
            size = start + length - run[0].start
            if ends != (start, other_start) or size > _READ_BYTES:
                yield run
                run = []
        run.append(piece)
    if run:
        yield run


def _compare(run: list[_Piece], read: Read, read_other: Read, differs: NDArray[np.bool_]) -> None:
    """Record which inner chunks of a run differ."""
    first, last = run[0], run[-1]
    length = last.start + last.length - first.start
    one = memoryview(read(first.start, first.start + length))
    other = memoryview(read_other(first.other_start, first.other_start + length))
    if one == other:
        return
    for piece in run:
        at = piece.start - first.start
        differs[piece.number] = one[at : at + piece.length] != other[at : at + piece.length]
