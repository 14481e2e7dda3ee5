"""Three-way merge of Zarr's metadata documents, field by field."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from versioned_zarr.repository.hierarchy import DOCUMENTS


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""What a field is on a side that does not have it."""


class FieldClash(NamedTuple):
    """A field that both sides changed differently.

    Attributes:
        path: its names, from the outermost.
        values: its value in the base, on our side and on theirs; MISSING where it is not.
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
    """The document with both sides' changes.

    Args:
        name: which document, as `zarr.json`.
        base: what both sides started from; None if it was not there.
        ours: our side.
        theirs: the other side.
        settle: asked for the value of each field that both changed differently; MISSING to
            leave it out.
    """
    merged = _merge((), name, base or {}, ours or {}, theirs or {}, settle)
    return dict(merged)


def dump(document: dict[str, Any]) -> bytes:
    """A document as bytes, laid out as zarr-python does."""
    return json.dumps(document, indent=2).encode("utf-8")


def plain(value: Any) -> Any:
    """A value as JSON has it: NaN and infinities, which it has not, as Zarr v3 writes them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1 from True and from 1.0, as JSON's readers do."""
    if one is MISSING or other is MISSING:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _merge(
    path: tuple[str, ...],
    name: str,
    base: Any,
    ours: Any,
    theirs: Any,
    settle: Callable[[FieldClash], Any],
) -> Any:
    if same(ours, theirs) or same(base, theirs):
        return ours
    if same(base, ours):
        return theirs
    inner = base if isinstance(base, dict) else {}
    if not (_has_fields(path, name) and isinstance(ours, dict) and isinstance(theirs, dict)):
        return settle(FieldClash(path, (base, ours, theirs)))
    merged = {}
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        one, two, three = (side.get(key, MISSING) for side in (inner, ours, theirs))
        value = _merge((*path, key), name, one, two, three, settle)
        if value is not MISSING:
            merged[key] = value
    return merged


def _has_fields(path: tuple[str, ...], name: str) -> bool:
    """Whether what lies at a path of a document is merged by its own fields.

    That is the document, its attributes, and the documents in consolidated metadata; one
    attribute or one codec list is a value.
    """
    if name == ".zmetadata":
        if path in ((), ("metadata",)):
            return True
        inner = path[1].rpartition("/")[2] if path[0] == "metadata" else ""
        return inner in DOCUMENTS and _has_fields(path[2:], inner)
    if name == ".zattrs" or not path:
        return not path
    if path == ("attributes",):
        return True
    consolidated = ("consolidated_metadata", "metadata")
    if path in (consolidated[:1], consolidated):
        return True
    return path[:2] == consolidated and len(path) > 2 and _has_fields(path[3:], name)
