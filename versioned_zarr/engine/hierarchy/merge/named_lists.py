"""Named lists: merges lists in attributes item by item, by name or by value.

OME-Zarr keeps its labels, multiscales and channels in such lists, as do other conventions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from versioned_zarr.engine.hierarchy.json_values import MISSING

IDENTITIES: Final = ("name", "id", "label")
"""The keys that identify an object in a list: the first one that all objects have."""

_Items: TypeAlias = dict[str, Any]
MergeItem: TypeAlias = Callable[[str, Any, Any, Any], Any]
"""Merges an item, given its name in paths, and its values in the base and on each side; MISSING
to leave it out."""


def merge_lists(base: Any, ours: Any, theirs: Any, merge_item: MergeItem) -> list[Any] | None:
    """Merge two lists item by item; None if they cannot be merged in this way.

    Items keep the order of the base. An added item follows the item that it followed on its side;
    if both sides added items there, ours come first.

    Args:
        base: the list in the base.
        ours: our side.
        theirs: the other side.
        merge_item: see `MergeItem`.
    """
    if not (isinstance(base, list) and isinstance(ours, list) and isinstance(theirs, list)):
        return None
    found = _by_identity((base, ours, theirs))
    if found is None:
        return None
    before, mine, others = found
    if not (_keeps_order(before, mine) and _keeps_order(before, others)):
        return None
    our_gaps, their_gaps = _additions(before, mine), _additions(before, others)
    if _both_replaced(before, (mine, our_gaps), (others, their_gaps)):
        return None
    merged = []
    for anchor in (None, *before):
        names = [] if anchor is None else [anchor]
        names += our_gaps.get(anchor, [])
        names += [name for name in their_gaps.get(anchor, []) if name not in mine]
        for name in names:
            sides = (side.get(name, MISSING) for side in (before, mine, others))
            value = merge_item(name, *sides)
            if value is not MISSING:
                merged.append(value)
    return merged


def _by_identity(lists: Sequence[list[Any]]) -> list[_Items] | None:
    """The items of each list by identity; None if the items have none."""
    items = [item for each in lists for item in each]
    if all(isinstance(item, str) for item in items):
        return _unique([[(json.dumps(item), item) for item in each] for each in lists])
    if not all(isinstance(item, dict) for item in items):
        return None
    for key in IDENTITIES:
        names = [item.get(key) for item in items]
        if all(isinstance(name, (str, int)) and not isinstance(name, bool) for name in names):
            found = _unique(
                [[(f"[{key}={_text(item[key])}]", item) for item in each] for each in lists]
            )
            if found is not None:
                return found
    return None


def _text(name: str | int) -> str:
    # A string that looks like a number keeps its quotes, so that "1" is not 1.
    return name if isinstance(name, str) and not name.lstrip("-").isdigit() else json.dumps(name)


def _unique(lists: Sequence[Sequence[tuple[str, Any]]]) -> list[_Items] | None:
    found = [dict(each) for each in lists]
    is_unique = all(len(items) == len(each) for items, each in zip(found, lists, strict=True))
    return found if is_unique else None


def _keeps_order(before: _Items, side: _Items) -> bool:
    return [name for name in before if name in side] == [name for name in side if name in before]


def _additions(before: _Items, side: _Items) -> dict[str | None, list[str]]:
    """The items that a side added, by the base item that they follow; None for the start."""
    gaps: dict[str | None, list[str]] = {}
    anchor = None
    for name in side:
        if name in before:
            anchor = name
        else:
            gaps.setdefault(anchor, []).append(name)
    return gaps


_Side: TypeAlias = tuple[_Items, dict[str | None, list[str]]]


def _both_replaced(before: _Items, ours: _Side, theirs: _Side) -> bool:
    """Whether both sides replaced one item differently."""
    mine, others = _replacements(before, ours), _replacements(before, theirs)
    return any(mine[name] != others[name] for name in mine.keys() & others.keys())


def _replacements(before: _Items, side: _Side) -> dict[str, list[str]]:
    """The items that a side removed where it added others, with those."""
    items, gaps = side
    found: dict[str, list[str]] = {}
    anchor = None
    for name in before:
        if name in items:
            anchor = name
        elif anchor in gaps:
            found[name] = gaps[anchor]
    return found
