"""The difference in one node: its metadata fields and its chunks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from versioned_zarr.engine.hierarchy.json_values import plain

How = Literal["added", "removed", "changed"]
_LONGEST, _BEFORE = 120, 30
"""How much of a value is shown, and how much of that is before the first difference."""
_Inner: TypeAlias = tuple[tuple[int, ...], ...] | None


@dataclass(frozen=True)
class ChunkChange:
    """A stored chunk (in a sharded array: a shard) that differs.

    Attributes:
        key: its key.
        coordinates: its position in the chunk grid.
        how: whether it was added, removed or changed.
    """

    key: str
    coordinates: tuple[int, ...]
    how: How
    _find_inner: Callable[[], _Inner] = field(default=lambda: None, repr=False, compare=False)

    @property
    def inner_coordinates(self) -> tuple[tuple[int, ...], ...] | None:
        """The positions of the inner chunks of a shard that differ, in the grid of inner chunks.

        None if the chunk is not a shard, or if the index of the shard cannot be read. Computed on
        first access: reads both indexes, and inner chunks of equal length.
        """
        return self._find_inner()

    def __reduce__(self) -> tuple[Any, ...]:
        return _with_inner, (self.key, self.coordinates, self.how, self.inner_coordinates)

    def to_dict(self, *, inner_chunks: bool = False) -> dict[str, Any]:
        """The chunk as plain JSON data, on request with its inner chunks."""
        found = {"key": self.key, "coordinates": list(self.coordinates), "how": self.how}
        if inner_chunks and self.inner_coordinates is not None:
            found["inner_coordinates"] = [list(each) for each in self.inner_coordinates]
        return found


def _with_inner(key: str, coordinates: tuple[int, ...], how: How, inner: _Inner) -> ChunkChange:
    return ChunkChange(key, coordinates, how, lambda: inner)


@dataclass
class NodeDiff:
    """The difference in one group or array.

    Attributes:
        path: its path; empty for the root.
        is_array: whether it is an array, now or before.
        how: whether the node was added, removed or changed.
        fields: the metadata fields that differ, each with its old and new values (None if absent):
            `shape`, `chunks`, `shards`, `dtype`, `codecs`, `attributes.NAME`, …. In a node with
            documents of both Zarr formats, `v2.NAME` is a field that changed only in format 2,
            and `zarr_format` shows that a format was added or removed.
        chunks: the chunks that differ.
        grid_shape: the number of stored chunks along each dimension, on the newest side that has
            the array; None for a group.
        dimension_names: the names of the array's dimensions there; `axis N` for those without one.
        fields_how: whether each field was added, removed or changed; distinguishes a null field
            from an absent one.
    """

    path: str
    is_array: bool
    how: How
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    chunks: list[ChunkChange] = field(default_factory=list)
    grid_shape: tuple[int, ...] | None = None
    dimension_names: tuple[str, ...] = ()
    fields_how: dict[str, How] = field(default_factory=dict)

    def count(self, how: How) -> int:
        """The number of chunks that were added, removed or changed."""
        return sum(1 for chunk in self.chunks if chunk.how == how)

    @property
    def chunks_added(self) -> list[ChunkChange]:
        """The chunks that were added."""
        return [chunk for chunk in self.chunks if chunk.how == "added"]

    @property
    def chunks_removed(self) -> list[ChunkChange]:
        """The chunks that were removed."""
        return [chunk for chunk in self.chunks if chunk.how == "removed"]

    @property
    def chunks_changed(self) -> list[ChunkChange]:
        """The chunks whose bytes changed."""
        return [chunk for chunk in self.chunks if chunk.how == "changed"]

    def to_dict(self, *, inner_chunks: bool = False) -> dict[str, Any]:
        """The difference as plain JSON data, on request with the inner chunks of shards."""
        return {
            "path": self.path,
            "type": "array" if self.is_array else "group",
            "how": self.how,
            "fields": {
                name: {"old": plain(old), "new": plain(new), "how": self.field_how(name)}
                for name, (old, new) in self.fields.items()
            },
            "chunks": [chunk.to_dict(inner_chunks=inner_chunks) for chunk in self.chunks],
            "grid_shape": None if self.grid_shape is None else list(self.grid_shape),
        }

    def field_how(self, name: str) -> How:
        """Whether a field that differs was added, removed or changed."""
        return self.fields_how.get(name, "changed")

    def field_texts(self, name: str) -> tuple[str, str]:
        """The old and new values of a field that differs, as JSON or `nothing`.

        Of long values, only the part from the first difference on.
        """
        old, new = map(json.dumps, self.fields[name])
        how = self.field_how(name)
        if how == "changed":
            return _from_first_difference(old, new)
        return "nothing" if how == "added" else _cut(old), "nothing" if how == "removed" else _cut(
            new
        )

    def summary(self) -> str:
        """A summary of the chunks, such as `3 chunks added, 1 changed`."""
        words: tuple[How, ...] = ("added", "changed", "removed")
        counts = [(how, self.count(how)) for how in words]
        parts = [f"{count} {how}" for how, count in counts if count]
        return f"chunks: {', '.join(parts)}" if parts else ""


def _from_first_difference(old: str, new: str) -> tuple[str, str]:
    """Two texts, of which long ones are cut so that the first difference is seen."""
    if max(len(old), len(new)) <= _LONGEST:
        return old, new
    places = (at for at, (one, other) in enumerate(zip(old, new, strict=False)) if one != other)
    start = max(0, next(places, min(len(old), len(new))) - _BEFORE)
    before = "…" if start else ""
    return before + _cut(old[start:]), before + _cut(new[start:])


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
