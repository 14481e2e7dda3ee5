"""Consolidated metadata: copies of nodes' documents in a document of a group above them.

They hold only copies, so after a merge they are updated from the nodes' documents.
Sources: zarr-python's `consolidated_metadata` in `zarr.json`, and the `.zmetadata` of Zarr v2.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeAlias

from versioned_zarr.engine.hierarchy.json_values import same
from versioned_zarr.engine.hierarchy.merge.json_merge import FieldClash
from versioned_zarr.engine.hierarchy.zarr_nodes import V3, join, split

V2 = ".zmetadata"
_FIELD = "consolidated_metadata"
_OF_NODE = {V3: (V3,), V2: (".zarray", ".zgroup", ".zattrs")}

Document: TypeAlias = dict[str, Any]
Read: TypeAlias = Callable[[str], Document | None]
"""Returns a document by its key, in one state of the tree."""


def node_of(name: str, field: Sequence[str]) -> str | None:
    """The node whose copy contains a field of a document, relative to that document's group.

    Args:
        name: the document, such as `zarr.json`.
        field: the path of the field.
    """
    if name == V3 and len(field) > 2 and tuple(field[:2]) == (_FIELD, "metadata"):
        return field[2]
    if name == V2 and len(field) > 1 and field[0] == "metadata":
        return split(field[1])[0]
    return None


def left_over(name: str, field: FieldClash) -> Document | None:
    """All copies, if one side changed some and the other dropped all; otherwise None.

    zarr-python drops them from a `zarr.json` when it writes other fields of it.
    """
    copies = [value for value in field.values[1:] if isinstance(value, dict)]
    return copies[0] if name == V3 and field.path == (_FIELD,) and len(copies) == 1 else None


def is_left_over(name: str, is_ours_gone: bool, is_theirs_gone: bool) -> bool:
    """Whether a document with only copies was changed by one side and removed by the other."""
    return name == V2 and is_ours_gone != is_theirs_gone


def refreshed(
    nodes: Iterable[str], result: Read, base: Read, ours: Read, theirs: Read
) -> Iterator[tuple[str, Document]]:
    """The documents whose copies of these nodes differ from the nodes' own documents.

    A node without a copy gets one only if it has one in another state of the document, or if it was
    visible without one, on a side whose document has no copies.

    Args:
        nodes: the paths of the nodes.
        result: reads the merged documents.
        base: reads the documents of the base.
        ours: reads the documents of our side.
        theirs: reads the documents of the other side.

    Yields:
        Each updated document with its key. Costs O(nodes times their depth), and the size of the
        documents with copies above them.
    """
    own = cache(result)
    for group, below in _by_group(nodes).items():
        for name in (V3, V2):
            key = join(group, name)
            document = own(key)
            copies = _copies(name, document)
            if document is None or copies is None:
                continue
            made = _Copies(name, group, copies, (base, ours, theirs))
            for node in below:
                made.refresh(node, own)
            if same(made.copies, copies):
                continue
            if name == V2:
                yield key, {**document, "metadata": made.copies}
            else:
                yield key, {**document, _FIELD: {**document[_FIELD], "metadata": made.copies}}


def listing(nodes: Collection[str], read: Read) -> Read:
    """A reader of documents whose copies also have entries for these nodes, for nodes that moved.

    Args:
        nodes: the paths of the nodes.
        read: reads the documents as they are.
    """

    def reader(key: str) -> Document | None:
        document = read(key)
        group, name = split(key)
        copies = _copies(name, document) if name in _OF_NODE else None
        if document is None or copies is None:
            return document
        start = f"{group}/" if group else ""
        below = [node[len(start) :] for node in nodes if node.startswith(start)]
        entries: Document = {
            node if name == V3 else join(node, each): {}
            for node in below
            for each in _OF_NODE[name]
        }
        more = {"metadata": {**copies, **entries}}
        return {**document, **(more if name == V2 else {_FIELD: {**document[_FIELD], **more}})}

    return reader


def _by_group(nodes: Iterable[str]) -> dict[str, list[str]]:
    """For each node and each group above nodes, the nodes at and below it."""
    groups: dict[str, list[str]] = {}
    for node in nodes:
        group = node
        groups.setdefault(group, []).append(node)
        while group:
            group = split(group)[0]
            groups.setdefault(group, []).append(node)
    return groups


class _Copies:
    """The copies in one document of a group.

    Args:
        name: the document, such as `zarr.json`.
        group: the path of the group.
        copies: the copies; not changed.
        states: read the base and the two sides.
    """

    def __init__(
        self, name: str, group: str, copies: Document, states: tuple[Read, Read, Read]
    ) -> None:
        self.copies = dict(copies)
        self._name, self._group = name, group
        found = [(_copies(name, read(join(group, name))), read) for read in states]
        self._known = [copies, *(each for each, _ in found if each is not None)]
        self._without = [read for each, read in found[1:] if each is None]

    def refresh(self, path: str, own: Read) -> None:
        """Update the copies of a node from its documents."""
        node = path[len(self._group) :].strip("/")
        if not node and self._name == V3:
            return
        keys = [
            (each, node if self._name == V3 else join(node, each)) for each in _OF_NODE[self._name]
        ]
        is_listed = any(key in each for each in self._known for _, key in keys)
        for each, key in keys:
            document = own(join(path, each))
            if document is None:
                self.copies.pop(key, None)
            elif is_listed or any(read(join(path, each)) is not None for read in self._without):
                before = [known.get(key) for known in (self.copies, *self._known)]
                self.copies[key] = _copy(self._name, document, before)


def has_copies(name: str, document: Document) -> bool:
    """Whether a document contains copies of nodes' documents."""
    return name in _OF_NODE and _copies(name, document) is not None


def _copies(name: str, document: Document | None) -> Document | None:
    holder = document if name == V2 or document is None else document.get(_FIELD)
    copies = holder.get("metadata") if isinstance(holder, dict) else None
    return copies if isinstance(copies, dict) else None


def _copy(name: str, document: Document, before: Iterable[Any]) -> Document:
    """The copy of a node's document; a group keeps its own consolidated metadata in it."""
    if name == V2:
        return document
    copy = {key: value for key, value in document.items() if key != _FIELD}
    if document.get("node_type") == "group":
        kept = (each[_FIELD] for each in before if isinstance(each, dict) and _FIELD in each)
        copy[_FIELD] = next(kept, {"kind": "inline", "must_understand": False, "metadata": {}})
    return copy
