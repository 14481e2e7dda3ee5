"""JSON merge: the three-way merge of Zarr metadata, field by field, at any depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from versioned_zarr.engine.hierarchy.json_values import MISSING, same
from versioned_zarr.engine.hierarchy.merge.named_lists import merge_lists
from versioned_zarr.engine.hierarchy.zarr_nodes import DOCUMENTS

_POSITIONAL = "_ARRAY_DIMENSIONS"
"""xarray's names of the dimensions in Zarr v2: one name per dimension, not a set of names."""
_LABELS = "labels"
"""OME-Zarr's list of the label images in a group: a set of names, also if both sides began it."""


class FieldClash(NamedTuple):
    """A field that both sides changed differently.

    Attributes:
        path: its path, from the outermost name; `[name=x]` for an item of a list.
        values: its value in the base, on our side and on theirs; MISSING if absent.
    """

    path: tuple[str, ...]
    values: tuple[Any, Any, Any]


def merge_documents(
    name: str,
    base: dict[str, Any] | None,
    ours: dict[str, Any] | None,
    theirs: dict[str, Any] | None,
    settle: Callable[[FieldClash], Any],
) -> dict[str, Any]:
    """Merge the changes of both sides to a document.

    Args:
        name: the document, such as `zarr.json`.
        base: the document in the base; None if absent.
        ours: our side.
        theirs: the other side.
        settle: returns the value of a field that both sides changed differently; MISSING to
            leave it out.
    """
    merged = _JsonMerge(name, settle).merge((), base or {}, ours or {}, theirs or {})
    return dict(merged)


def field_name(path: Iterable[str]) -> str:
    """The path of a field as text, such as `attributes.ome.multiscales[name=x].version`."""
    return "".join(part if part.startswith("[") else f".{part}" for part in path).lstrip(".")


class _JsonMerge:
    def __init__(self, name: str, settle: Callable[[FieldClash], Any]) -> None:
        self._name, self._settle = name, settle

    def merge(self, path: tuple[str, ...], base: Any, ours: Any, theirs: Any) -> Any:
        if same(ours, theirs) or same(base, theirs):
            return ours
        if same(base, ours):
            return theirs
        if isinstance(ours, dict) and isinstance(theirs, dict) and _has_fields(path, self._name):
            return self._merge_fields(path, base if isinstance(base, dict) else {}, ours, theirs)
        if _is_attribute(path, self._name) and path[-1] != _POSITIONAL:
            before = [] if base is MISSING and path[-1] == _LABELS else base
            merged = merge_lists(
                before, ours, theirs, lambda name, *sides: self.merge((*path, name), *sides)
            )
            if merged is not None:
                return merged
        return self._settle(FieldClash(path, (base, ours, theirs)))

    def _merge_fields(
        self,
        path: tuple[str, ...],
        base: dict[str, Any],
        ours: dict[str, Any],
        theirs: dict[str, Any],
    ) -> dict[str, Any]:
        merged = {}
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            sides = (side.get(key, MISSING) for side in (base, ours, theirs))
            value = self.merge((*path, key), *sides)
            if value is not MISSING:
                merged[key] = value
        return merged


def _has_fields(path: tuple[str, ...], name: str) -> bool:
    """Whether an object at a path of a document is merged field by field.

    These are the document, its attributes and everything below them, and the documents in
    consolidated metadata; any other object, such as a chunk grid, is a single value.
    """
    inner = _in_copy(path, name)
    if inner is not None:
        return _has_fields(*inner)
    if name == ".zmetadata":
        return path in ((), ("metadata",))
    consolidated = ("consolidated_metadata", "metadata")
    return not path or path in (consolidated[:1], consolidated) or _is_within(path, name)


def _is_attribute(path: tuple[str, ...], name: str) -> bool:
    """Whether a path of a document is an attribute or a part of one."""
    inner = _in_copy(path, name)
    if inner is not None:
        return _is_attribute(*inner)
    return bool(path) and path != ("attributes",) and _is_within(path, name)


def _is_within(path: tuple[str, ...], name: str) -> bool:
    return name == ".zattrs" or path[:1] == ("attributes",)


def _in_copy(path: tuple[str, ...], name: str) -> tuple[tuple[str, ...], str] | None:
    """The path within a document that has a copy in consolidated metadata, and its name."""
    if name == ".zmetadata" and path[:1] == ("metadata",) and len(path) > 1:
        inner = path[1].rpartition("/")[2]
        return (path[2:], inner) if inner in DOCUMENTS and inner != name else None
    if path[:2] == ("consolidated_metadata", "metadata") and len(path) > 2:
        return path[3:], name
    return None
