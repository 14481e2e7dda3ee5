"""What differs between two versions, in Zarr's terms: nodes, metadata fields, chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from versioned_zarr import faces
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.repository import hierarchy
from versioned_zarr.repository.documents import MISSING, plain, same
from versioned_zarr.repository.hierarchy import Node, ReadKey
from versioned_zarr.repository.moves import find_moved
from versioned_zarr.tree.diff import KeyChange

How = Literal["added", "removed", "changed"]


@dataclass(frozen=True)
class ChunkChange:
    """One stored chunk (a shard, in a sharded array) that differs.

    Attributes:
        key: its key.
        coordinates: its position in the chunk grid.
        how: whether it was added, removed or changed.
    """

    key: str
    coordinates: tuple[int, ...]
    how: How


@dataclass
class NodeDiff:
    """What differs in one group or array.

    Attributes:
        path: where it is; the root is empty.
        is_array: whether it is an array, now or before.
        how: whether the node was added, removed or changed.
        fields: the metadata that differs, each with its old and its new value (None: not
            there): `shape`, `chunks`, `shards`, `dtype`, `codecs`, `attributes.NAME`, …
        chunks: the chunks that differ.
        grid_shape: how many stored chunks the array has along each dimension, on the newer side
            that has it; None for a group.
        fields_how: whether each of the fields was added, removed or changed; tells one that is
            null from one that is not there.
    """

    path: str
    is_array: bool
    how: How
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    chunks: list[ChunkChange] = field(default_factory=list)
    grid_shape: tuple[int, ...] | None = None
    fields_how: dict[str, How] = field(default_factory=dict)

    def count(self, how: How) -> int:
        """How many chunks were added, removed or changed."""
        return sum(1 for chunk in self.chunks if chunk.how == how)

    @property
    def chunks_added(self) -> list[ChunkChange]:
        """The chunks that are new."""
        return [chunk for chunk in self.chunks if chunk.how == "added"]

    @property
    def chunks_removed(self) -> list[ChunkChange]:
        """The chunks that are gone."""
        return [chunk for chunk in self.chunks if chunk.how == "removed"]

    @property
    def chunks_changed(self) -> list[ChunkChange]:
        """The chunks that hold other bytes."""
        return [chunk for chunk in self.chunks if chunk.how == "changed"]

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain JSON data."""
        return {
            "path": self.path,
            "type": "array" if self.is_array else "group",
            "how": self.how,
            "fields": {
                name: {"old": plain(old), "new": plain(new), "how": self.field_how(name)}
                for name, (old, new) in self.fields.items()
            },
            "chunks": [
                {"key": chunk.key, "coordinates": list(chunk.coordinates), "how": chunk.how}
                for chunk in self.chunks
            ],
            "grid_shape": None if self.grid_shape is None else list(self.grid_shape),
        }

    def field_how(self, name: str) -> How:
        """Whether a field that differs was added, removed or changed."""
        return self.fields_how.get(name, "changed")

    def field_texts(self, name: str) -> tuple[str, str]:
        """The old and the new value of a field that differs as JSON, or `nothing`."""
        old, new = map(json.dumps, self.fields[name])
        how = self.field_how(name)
        return "nothing" if how == "added" else old, "nothing" if how == "removed" else new

    def summary(self) -> str:
        """The chunks in a few words, as `3 chunks added, 1 changed`."""
        words: tuple[How, ...] = ("added", "changed", "removed")
        counts = [(how, self.count(how)) for how in words]
        parts = [f"{count} {how}" for how, count in counts if count]
        return f"chunks: {', '.join(parts)}" if parts else ""


class Diff:
    """What differs between two trees. Reads what it is asked for, and remembers it.

    Truthy if anything differs; iterating gives each differing key as a `KeyChange`.

    Args:
        changes: the keys that differ.
        read_old: gives the bytes under a key on the old side, or None; for metadata documents.
        read_new: likewise on the new side.
        old_name: what the old side is called.
        new_name: what the new side is called.
    """

    def __init__(
        self,
        changes: Iterable[KeyChange],
        *,
        read_old: ReadKey,
        read_new: ReadKey,
        old_name: str,
        new_name: str,
    ) -> None:
        self.old_name, self.new_name = old_name, new_name
        self._source = iter(changes)
        self._keys: list[KeyChange] = []
        self._old, self._new = _Nodes(read_old), _Nodes(read_new)
        self._nodes: dict[str, NodeDiff] | None = None
        self._other: list[KeyChange] = []
        self._moved: list[tuple[str, str]] = []

    def __iter__(self) -> Iterator[KeyChange]:
        at = 0
        while True:
            while at < len(self._keys):
                yield self._keys[at]
                at += 1
            change = next(self._source, None)
            if change is None:
                return
            self._keys.append(change)

    @property
    def keys(self) -> list[KeyChange]:
        """Every key that differs, with its old and its new link."""
        return list(self)

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs; looks no further than the first key."""
        return next(iter(self), None) is None

    def __bool__(self) -> bool:
        return not self.is_empty

    @property
    def nodes(self) -> dict[str, NodeDiff]:
        """Every node that differs, by path. A moved node is here as removed and as added."""
        if self._nodes is None:
            self._nodes = self._compare()
            found = self._nodes.items()
            gone = [path for path, node in found if node.how == "removed"]
            come = [path for path, node in found if node.how == "added"]
            self._moved = find_moved(gone, come, self._keys)
        return self._nodes

    @property
    def arrays(self) -> dict[str, NodeDiff]:
        """Every array that differs, by path."""
        return {path: node for path, node in self.nodes.items() if node.is_array}

    def _paths(self, how: How) -> list[str]:
        moved: set[str] = set()
        if how != "changed":
            moved = {new if how == "added" else old for old, new in self.nodes_moved}
        return [
            path
            for path, node in self.nodes.items()
            if node.how == how and not hierarchy.is_within(path, moved)
        ]

    @property
    def nodes_added(self) -> list[str]:
        """The paths of new nodes, moved ones apart."""
        return self._paths("added")

    @property
    def nodes_removed(self) -> list[str]:
        """The paths of nodes that are gone, moved ones apart."""
        return self._paths("removed")

    @property
    def nodes_changed(self) -> list[str]:
        """The paths of nodes whose metadata or chunks differ."""
        return self._paths("changed")

    @property
    def nodes_moved(self) -> list[tuple[str, str]]:
        """The old and the new path of nodes that hold the same under another path."""
        self.nodes  # noqa: B018 - finds them
        return self._moved

    @property
    def other_keys(self) -> list[KeyChange]:
        """The keys that differ and belong to no node."""
        self.nodes  # noqa: B018 - finds them
        return self._other

    def _compare(self) -> dict[str, NodeDiff]:
        nodes: dict[str, NodeDiff] = {}
        loose: list[KeyChange] = []
        for change in self:
            path, name = hierarchy.split(change.key)
            if name not in hierarchy.DOCUMENTS:
                loose.append(change)
            elif path not in nodes:
                found = self._compare_node(path)
                if found is None:
                    loose.append(change)
                else:
                    nodes[path] = found
        for change in loose:
            self._place(change, nodes)
        return dict(sorted(nodes.items()))

    def _compare_node(self, path: str) -> NodeDiff | None:
        old, new = self._old.at(path), self._new.at(path)
        last = new or old
        if last is None:
            return None
        how: How = "added" if old is None else "removed" if new is None else "changed"
        before = {} if old is None else old.fields
        after = {} if new is None else new.fields
        is_array = last.is_array or (old is not None and old.is_array)
        node = NodeDiff(path, is_array, how, grid_shape=last.grid_shape)
        for name in sorted(before.keys() | after.keys()):
            one, other = before.get(name, MISSING), after.get(name, MISSING)
            if not same(one, other):
                node.fields[name] = before.get(name), after.get(name)
                node.fields_how[name] = (
                    "added" if one is MISSING else "removed" if other is MISSING else "changed"
                )
        return node

    def _place(self, change: KeyChange, nodes: dict[str, NodeDiff]) -> None:
        """Find the array whose chunk a key is."""
        side = self._old if change.new is None else self._new
        node = side.array_above(change.key)
        coordinates = None if node is None else node.coordinates(change.key)
        if node is None or coordinates is None:
            self._other.append(change)
            return
        found = nodes.get(node.path)
        if found is None:
            found = NodeDiff(node.path, is_array=True, how="changed", grid_shape=node.grid_shape)
            nodes[node.path] = found
        how: How = "added" if change.old is None else "removed" if change.new is None else "changed"
        found.chunks.append(ChunkChange(change.key, coordinates, how))

    def to_dict(self) -> dict[str, Any]:
        """The difference as plain JSON data."""
        return {
            "old": self.old_name,
            "new": self.new_name,
            "added": self.nodes_added,
            "removed": self.nodes_removed,
            "changed": self.nodes_changed,
            "moved": [list(pair) for pair in self.nodes_moved],
            "nodes": [node.to_dict() for node in self.nodes.values()],
            "other_keys": [
                {
                    "key": change.key,
                    "old": None if change.old is None else to_text(change.old.cid),
                    "new": None if change.new is None else to_text(change.new.cid),
                }
                for change in self.other_keys
            ],
        }

    def __str__(self) -> str:
        """One line for each node, and one below it for each field that differs."""
        lines = [f"{old or '/'} -> {new or '/'}: moved" for old, new in self.nodes_moved]
        shown = {*self.nodes_added, *self.nodes_removed, *self.nodes_changed}
        for path, node in self.nodes.items():
            if path in shown:
                kind = "array" if node.is_array else "group"
                summary = node.summary()
                lines.append(
                    f"{node.how} {kind} {path or '/'}" + (f"; {summary}" if summary else "")
                )
                if node.how == "changed":
                    lines += [
                        f"    {name}: {' -> '.join(node.field_texts(name))}" for name in node.fields
                    ]
        for change in self.other_keys:
            word = "added" if change.old is None else "removed" if change.new is None else "changed"
            lines.append(f"{word} key {change.key}")
        return "\n".join(lines) if lines else "no differences"

    def __repr__(self) -> str:
        return f"<Diff {self.old_name} -> {self.new_name}>"

    def _repr_html_(self) -> str:
        html: str = faces.maker("diff_html")(self)
        return html


class _Nodes:
    """The nodes of one side, each looked up once."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self._read = read
        self._known: dict[str, Node | None] = {}
        self._arrays: dict[str, Node | None] = {}

    def at(self, path: str) -> Node | None:
        if path not in self._known:
            self._known[path] = hierarchy.node_at(path, self._read)
        return self._known[path]

    def array_above(self, key: str) -> Node | None:
        """The array that a key lies in: the nearest one on the way to the root."""
        folder = hierarchy.split(key)[0]
        if folder not in self._arrays:
            found = self.at(folder)
            if found is None and folder:
                found = self.array_above(folder)
            self._arrays[folder] = found if found is not None and found.is_array else None
        return self._arrays[folder]
