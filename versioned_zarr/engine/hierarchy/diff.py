"""The diff of two versions in Zarr's terms: nodes, metadata fields, chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from versioned_zarr import _hooks
from versioned_zarr.engine.hierarchy import node_fields, zarr_nodes
from versioned_zarr.engine.hierarchy.json_values import MISSING
from versioned_zarr.engine.hierarchy.node_diff import ChunkChange, How, NodeDiff
from versioned_zarr.engine.hierarchy.renames import find_moved
from versioned_zarr.engine.hierarchy.shards import Read, ShardLayout, changed_inner, layout_of
from versioned_zarr.engine.hierarchy.zarr_nodes import ReadKey, ZarrNodes
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.terminal_text import escaped_line
from versioned_zarr.tree.diff_tree import KeyChange

if TYPE_CHECKING:
    from versioned_zarr._hooks import ArrayDifference

ReadRange: TypeAlias = Callable[[Link, int, int], "bytes | memoryview"]
"""Returns the bytes of a linked value from a start to a stop."""


def _present(value: Any) -> Any:
    return None if value is MISSING else value


class Diff(_hooks.HintsAtNames, _hooks.AtPrompt):
    """The difference between two trees. Reads data on demand, and caches it.

    True if anything differs. Iteration yields each differing key as a `KeyChange`.

    Args:
        changes: the keys that differ.
        read_old: returns the bytes of a key on the old side, or None; for metadata documents.
        read_new: the same for the new side.
        old_name: the name of the old side.
        new_name: the name of the new side.
        size: returns the size in bytes of the value that a link names; for shards.
        read_range: reads part of a value; for shards. Without these two, shards are read whole.
        sides: returns the two sides as snapshots or sessions; for values.
    """

    def __init__(
        self,
        changes: Iterable[KeyChange],
        *,
        read_old: ReadKey,
        read_new: ReadKey,
        old_name: str,
        new_name: str,
        size: Callable[[Link], int] | None = None,
        read_range: ReadRange | None = None,
        sides: Callable[[], tuple[Any, Any]] | None = None,
    ) -> None:
        self._sides = sides
        self.old_name, self.new_name = old_name, new_name
        self._read_old, self._read_new = read_old, read_new
        self._size, self._read_range = size, read_range
        self._source = iter(changes)
        self._keys: list[KeyChange] = []
        self._old, self._new = ZarrNodes(read_old), ZarrNodes(read_new)
        self._nodes: dict[str, NodeDiff] | None = None
        self._other: list[KeyChange] = []
        self._layouts: dict[str, ShardLayout | None] = {}
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
        """Every key that differs, with its old and new links."""
        return list(self)

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs. Stops at the first key that differs."""
        return next(iter(self), None) is None

    def __bool__(self) -> bool:
        return not self.is_empty

    def __getitem__(self, path: str) -> ArrayDifference:
        """The difference of the array at a path in values; see `ArrayDiff`.

        Raises:
            KeyNotFoundError: no array at this path differs.
        """
        return _hooks.interfaces.array_diff(self, path)

    def sides(self) -> tuple[Any, Any]:
        """The old and the new side: snapshots, or a session.

        Raises:
            InvalidInputError: this diff was made without them.
        """
        if self._sides is None:
            raise InvalidInputError("this diff has no values; compare two refs with repo.diff")
        return self._sides()

    @property
    def nodes(self) -> dict[str, NodeDiff]:
        """Every node that differs, by path. A moved node appears as removed and as added."""
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
            if node.how == how and not zarr_nodes.is_within(path, moved)
        ]

    @property
    def nodes_added(self) -> list[str]:
        """The paths of new nodes, without moved ones."""
        return self._paths("added")

    @property
    def nodes_removed(self) -> list[str]:
        """The paths of removed nodes, without moved ones."""
        return self._paths("removed")

    @property
    def nodes_changed(self) -> list[str]:
        """The paths of nodes whose metadata or chunks differ."""
        return self._paths("changed")

    @property
    def nodes_moved(self) -> list[tuple[str, str]]:
        """The old and new paths of nodes that have the same content under another path."""
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
            path, name = zarr_nodes.split(change.key)
            if name not in zarr_nodes.DOCUMENTS:
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
        is_array = last.is_array or (old is not None and old.is_array)
        node = NodeDiff(
            path, is_array, how, grid_shape=last.grid_shape, dimension_names=last.dimension_names
        )
        found = node_fields.differing(self._old.formats(path), self._new.formats(path))
        for name, one, other in found:
            node.fields[name] = _present(one), _present(other)
            node.fields_how[name] = (
                "added" if one is MISSING else "removed" if other is MISSING else "changed"
            )
        return node

    def _place(self, change: KeyChange, nodes: dict[str, NodeDiff]) -> None:
        """Find the array whose chunk a key is."""
        side = self._old if change.new is None else self._new
        found = side.chunk(change.key)
        if found is None:
            self._other.append(change)
            return
        array, coordinates = found
        node = nodes.get(array.path)
        if node is None:
            node = NodeDiff(
                array.path,
                is_array=True,
                how="changed",
                grid_shape=array.grid_shape,
                dimension_names=array.dimension_names,
            )
            nodes[array.path] = node
        how: How = "added" if change.old is None else "removed" if change.new is None else "changed"
        layout = self._layout(array.path)
        if layout is None:
            node.chunks.append(ChunkChange(change.key, coordinates, how))
            return
        find = cache(lambda: self._inner_of(change, coordinates, layout))
        node.chunks.append(ChunkChange(change.key, coordinates, how, find))

    def _layout(self, path: str) -> ShardLayout | None:
        """The layout of an array's shards, if it is the same on both sides."""
        if path not in self._layouts:
            sides = [side.at(path) for side in (self._old, self._new)]
            found = [layout_of(node.document) for node in sides if node is not None]
            is_one = bool(found) and all(each == found[0] for each in found)
            self._layouts[path] = found[0] if is_one else None
        return self._layouts[path]

    def _inner_of(
        self, change: KeyChange, coordinates: tuple[int, ...], layout: ShardLayout
    ) -> tuple[tuple[int, ...], ...] | None:
        old = self._state(change.key, change.old, self._read_old)
        new = self._state(change.key, change.new, self._read_new)
        found = changed_inner(layout, old, new)
        if found is None:
            return None
        return tuple(layout.coordinates(coordinates, number) for number in found)

    def _state(self, key: str, link: Link | None, read: ReadKey) -> tuple[int, Read] | None:
        """The size of a value, and a function that reads parts of it; None if it does not exist."""
        if link is None:
            return None
        read_range = self._read_range
        if self._size is not None and read_range is not None:
            return self._size(link), lambda start, end: read_range(link, start, end)
        whole = memoryview(read(key) or b"")
        return len(whole), lambda start, end: whole[start:end]

    def to_dict(self, *, inner_chunks: bool = False) -> dict[str, Any]:
        """The difference as plain JSON data.

        Args:
            inner_chunks: whether to include the inner chunks of shards, which reads their indexes.
        """
        return {
            "old": self.old_name,
            "new": self.new_name,
            "added": self.nodes_added,
            "removed": self.nodes_removed,
            "changed": self.nodes_changed,
            "moved": [list(pair) for pair in self.nodes_moved],
            "nodes": [node.to_dict(inner_chunks=inner_chunks) for node in self.nodes.values()],
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
        """One line for each node, followed by one for each field that differs."""
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
        return "\n".join(map(escaped_line, lines)) if lines else "no differences"

    def _name(self) -> str:
        return f"<Diff {self.old_name} -> {self.new_name}>"

    def _repr_html_(self) -> str:
        return _hooks.interfaces.html(self)
