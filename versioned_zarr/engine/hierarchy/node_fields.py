"""Node fields: which fields of a node differ between two states, in both Zarr formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from versioned_zarr.engine.hierarchy.json_values import MISSING, same
from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNode

_Change: TypeAlias = tuple[str, Any, Any]


def differing(old: Mapping[int, ZarrNode], new: Mapping[int, ZarrNode]) -> Iterator[_Change]:
    """The fields that differ, sorted by name, each with its old and new value.

    A node is compared in a format that both states have, preferably that of `zarr.json`. Fields
    that changed differently in the other format have the prefix `v2.`.

    Args:
        old: the documents of each format in the old state; empty if the node did not exist.
        new: the same in the new state.
    """
    shared = [number for number in (3, 2) if number in old and number in new]
    if not shared:
        changes = _compared(_opened(old), _opened(new))
    else:
        changes = _compared(old[shared[0]], new[shared[0]])
    if shared and old.keys() != new.keys():
        known = {name for name, _, _ in changes}
        opened = _compared(_opened(old), _opened(new))
        changes += [each for each in opened if _is_of_both(each[0]) and each[0] not in known]
    if len(shared) == 2:
        changes += _of_second_format(changes, _compared(old[2], new[2]))
    if old and new and old.keys() != new.keys():
        changes.append(("zarr_format", _formats(old), _formats(new)))
    yield from sorted(changes, key=lambda change: change[0])


def _opened(formats: Mapping[int, ZarrNode]) -> ZarrNode | None:
    """The node as zarr opens it."""
    return next((formats[number] for number in (3, 2) if number in formats), None)


def _compared(old: ZarrNode | None, new: ZarrNode | None) -> list[_Change]:
    before, after = ({} if node is None else node.fields for node in (old, new))
    found = []
    for name in before.keys() | after.keys():
        one, other = before.get(name, MISSING), after.get(name, MISSING)
        if not same(one, other):
            found.append((name, one, other))
    return found


def _is_of_both(name: str) -> bool:
    """Whether a field has the same representation in both formats."""
    return name in ("shape", "chunks") or name.startswith("attributes.")


def _of_second_format(first: list[_Change], second: list[_Change]) -> Iterator[_Change]:
    """The fields that changed in format 2 but not equally in format 3."""
    known = {name: after for name, _, after in first}
    for name, before, after in second:
        if name not in known or not same(known[name], after):
            yield f"v2.{name}", before, after


def _formats(formats: Mapping[int, ZarrNode]) -> int | list[int]:
    numbers = sorted(formats)
    return numbers[0] if len(numbers) == 1 else numbers
