"""Consolidated metadata: copies of nodes' documents in a document of a group above them.

They say nothing of their own, so after a merge they are made to say what the nodes' documents do.
Pure functions on documents. Sources: zarr-python's `consolidated_metadata` in `zarr.json`, and the
`.zmetadata` of Zarr v2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from versioned_zarr.repository.hierarchy import V3, join, split

V2 = ".zmetadata"
_FIELD = "consolidated_metadata"
_OF_NODE = {V3: (V3,), V2: (".zarray", ".zgroup", ".zattrs")}

Document = dict[str, Any]


def node_of(name: str, field: Sequence[str]) -> str | None:
    """The node whose copy a field of a document is part of, relative to that document's group.

    Args:
        name: the document, as `zarr.json`.
        field: the names that lead to the field.
    """
    if name == V3 and len(field) > 2 and tuple(field[:2]) == (_FIELD, "metadata"):
        return field[2]
    if name == V2 and len(field) > 1 and field[0] == "metadata":
        return split(field[1])[0] or None
    return None


def refreshed(
    name: str,
    document: Document,
    others: Sequence[Document | None],
    nodes: Sequence[str],
    read: Callable[[str], Document | None],
) -> Document:
    """A document whose copies of some nodes are as the nodes' own documents.

    A node that has no copy here gets one only if it has one in another state of the document.

    Args:
        name: which document, as `zarr.json`.
        document: what it says; not changed.
        others: what it says in other trees.
        nodes: the paths of the nodes, relative to the document's group.
        read: gives a document by its key, relative likewise.
    """
    copies = _copies(name, document)
    if copies is None:
        return document
    listed = {key for other in (document, *others) for key in _copies(name, other) or ()}
    new = dict(copies)
    for node in nodes:
        for own in _OF_NODE[name]:
            key = node if name == V3 else join(node, own)
            found = read(join(node, own))
            if found is None:
                new.pop(key, None)
            elif key in listed or (name == V2 and _lists(listed, node)):
                new[key] = _copy(name, found, new.get(key))
    if new == copies:
        return document
    if name == V2:
        return {**document, "metadata": new}
    return {**document, _FIELD: {**document[_FIELD], "metadata": new}}


def _copies(name: str, document: Document | None) -> Document | None:
    holder = document if name == V2 or document is None else document.get(_FIELD)
    copies = holder.get("metadata") if isinstance(holder, dict) else None
    return copies if isinstance(copies, dict) else None


def _lists(keys: set[str], node: str) -> bool:
    return any(join(node, own) in keys for own in _OF_NODE[V2])


def _copy(name: str, document: Document, before: Any) -> Document:
    """A node's document as its copy has it, which keeps its own consolidated metadata."""
    if name == V2:
        return document
    copy = {key: value for key, value in document.items() if key != _FIELD}
    if isinstance(before, dict) and _FIELD in before:
        copy[_FIELD] = before[_FIELD]
    elif document.get("node_type") == "group":
        copy[_FIELD] = {"kind": "inline", "must_understand": False, "metadata": {}}
    return copy
