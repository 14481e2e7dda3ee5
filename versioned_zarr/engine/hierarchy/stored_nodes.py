"""Stored nodes: the groups and arrays of a tree, with the sizes of what is stored for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from versioned_zarr.engine.hierarchy.json_values import plain
from versioned_zarr.engine.hierarchy.zarr_nodes import (
    NODE_DOCUMENTS,
    ReadKey,
    ZarrNode,
    ZarrNodes,
    split,
)


@dataclass(frozen=True)
class StoredNode:
    """A group or an array, and what is stored for it.

    Attributes:
        node: its metadata.
        size_bytes: the size of all values at and below it.
        stored_chunks: the number of its chunks (shards, if sharded) that have a value.
    """

    node: ZarrNode
    size_bytes: int
    stored_chunks: int

    @property
    def grid_chunks(self) -> int | None:
        """The number of chunks in its grid; None for a group, and if the grid is not regular."""
        grid = self.node.grid_shape
        return None if grid is None else prod(grid)

    def to_dict(self) -> dict[str, Any]:
        """The facts as plain JSON data."""
        node = self.node
        found: dict[str, Any] = {
            "path": node.path,
            "type": "array" if node.is_array else "group",
            "zarr_format": node.zarr_format,
            "size_bytes": self.size_bytes,
        }
        if not node.is_array:
            return found
        fields = node.fields
        named = {name: plain(fields.get(name)) for name in ("shape", "dtype", "chunks", "shards")}
        counts = {"stored_chunks": self.stored_chunks, "grid_chunks": self.grid_chunks}
        return {**found, **named, **counts}


def stored_nodes(sizes: Iterable[tuple[str, int]], read: ReadKey) -> list[StoredNode]:
    """The nodes of a tree, each before those below it. O(keys); chunks are not read.

    Args:
        sizes: all keys with the sizes of their values.
        read: returns the bytes of a document by its key.
    """
    nodes = ZarrNodes(read)
    found: dict[str, ZarrNode] = {}
    own: Counter[str] = Counter()
    chunks: Counter[str] = Counter()
    for key, size in sizes:
        folder, name = split(key)
        node = nodes.at(folder) if name in NODE_DOCUMENTS else None
        if node is not None:
            found[folder] = node
        array = nodes.array_above(key)
        own[folder if array is None else array.path] += size
        if array is not None and nodes.chunk(key) is not None:
            chunks[array.path] += 1
    totals: Counter[str] = Counter()
    for folder, size in own.items():
        totals[folder] += size
        while folder:
            folder = split(folder)[0]
            totals[folder] += size
    order = sorted(found, key=lambda path: path.split("/"))
    return [StoredNode(found[path], totals[path], chunks[path]) for path in order]
