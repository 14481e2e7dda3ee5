"""Missing chunks: which stored chunks of an array have no value, from the keys that have one.

Knows the chunk grids and keys of `zarr_nodes`, and lists the keys of a tree once. It does not look
chunks up one by one, and does not read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from versioned_zarr.engine.hierarchy.zarr_nodes import (
    DOCUMENTS,
    NODE_DOCUMENTS,
    ReadKey,
    Region,
    ZarrNode,
    ZarrNodes,
    chunk_region,
    number_in_grid,
    split,
)


class MissingChunks:
    """The stored chunks (shards, if sharded) of an array that have no value, in row-major order.

    Iteration yields the region of each, as a tuple of slices of the array that ends at its edges:
    `for region in session.missing("air"): array[region] = …`. False if none is missing.

    Memory is 8 bytes for each chunk that has a value; the missing ones are produced on demand.

    Attributes:
        path: the path of the array.
        shape: its shape.
        chunk_shape: the shape of a stored chunk: of a shard, if it is sharded.
        grid_shape: the number of stored chunks along each dimension.
    """

    def __init__(
        self, node: ZarrNode, grid_shape: tuple[int, ...], written: NDArray[np.int64]
    ) -> None:
        fields = node.fields
        self._node, self._written = node, written
        self.path = node.path
        self.grid_shape = grid_shape
        self.shape: tuple[int, ...] = tuple(fields["shape"])
        self.chunk_shape: tuple[int, ...] = tuple(fields.get("shards") or fields["chunks"])

    @property
    def total(self) -> int:
        """The number of chunks in the grid, written or not."""
        return prod(self.grid_shape)

    @property
    def written(self) -> int:
        """The number of chunks in the grid that have a value."""
        return len(self._written)

    def __len__(self) -> int:
        return self.total - self.written

    def __iter__(self) -> Iterator[Region]:
        for coordinates in self.coordinates:
            yield chunk_region(coordinates, self.chunk_shape, self.shape)

    @property
    def coordinates(self) -> Iterator[tuple[int, ...]]:
        """The positions of the missing chunks in the chunk grid."""
        grid = self.grid_shape
        for number in self._numbers():
            yield tuple(int(at) for at in np.unravel_index(number, grid)) if grid else ()

    @property
    def keys(self) -> Iterator[str]:
        """The keys under which the missing chunks would be stored."""
        return map(self._node.chunk_key, self.coordinates)

    def _numbers(self) -> Iterator[int]:
        """The row-major numbers of the missing chunks: those between the written ones."""
        start = 0
        for number in self._written:
            yield from range(start, int(number))
            start = int(number) + 1
        yield from range(start, self.total)

    def __repr__(self) -> str:
        return f"<MissingChunks of {self.path or '/'}: {len(self)} of {self.total}>"

    def to_dict(self) -> dict[str, object]:
        """The numbers as plain JSON data."""
        return {"path": self.path, "chunks": self.total, "written": self.written}


def find_missing(keys: Iterable[str], read: ReadKey) -> dict[str, MissingChunks]:
    """The missing chunks of every array whose documents are among these keys, by path, sorted.

    An array without missing chunks is included. One whose chunk grid is not regular is left out.
    O(keys), and one read for each metadata document.

    Args:
        keys: all keys of a tree, or of a folder in it with the arrays.
        read: returns the bytes of a document by its key; called only for these keys.
    """
    documents: set[str] = set()
    others: list[str] = []
    for key in keys:
        (documents.add if split(key)[1] in DOCUMENTS else others.append)(key)
    nodes = ZarrNodes(lambda key: read(key) if key in documents else None)
    numbers: dict[str, list[int]] = {}
    grids: dict[str, tuple[int, ...]] = {}
    for key in documents:
        path, name = split(key)
        node = nodes.at(path) if name in NODE_DOCUMENTS else None
        if node is not None and node.grid_shape is not None:
            grids[path], numbers[path] = node.grid_shape, []
    for key in others:
        found = nodes.array_above(key)
        coordinates = found.coordinates(key) if found is not None else None
        if found is not None and coordinates is not None and found.path in grids:
            number = number_in_grid(coordinates, grids[found.path])
            if number is not None:
                numbers[found.path].append(number)
    missing = {}
    for path in sorted(grids):
        node = nodes.at(path)
        assert node is not None
        written = np.unique(np.array(numbers.pop(path), np.int64))
        missing[path] = MissingChunks(node, grids[path], written)
    return missing
