"""Rename detection: which nodes of a diff have the same content under another path."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from versioned_zarr.engine.hierarchy.zarr_nodes import is_within
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.tree.diff_tree import KeyChange


class _Content(NamedTuple):
    """The content of a folder: folders with the same content have the same number."""

    number: int
    keys: int


_Numbers = dict[frozenset[tuple[str, Cid | int]], int]


@dataclass
class _Folder:
    values: dict[str, Cid] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)

    def number(self, path: str, numbers: _Numbers, found: dict[str, _Content]) -> _Content:
        """Number this folder and all below it, and record them in `found` by path."""
        below = {
            name: folder.number(f"{path}/{name}" if path else name, numbers, found)
            for name, folder in self.folders.items()
        }
        items: set[tuple[str, Cid | int]] = set(self.values.items())
        items.update((name, content.number) for name, content in below.items())
        keys = len(self.values) + sum(content.keys for content in below.values())
        content = _Content(numbers.setdefault(frozenset(items), len(numbers)), keys)
        found[path] = content
        return content


def find_moved(
    gone: Collection[str], come: Collection[str], keys: Iterable[KeyChange]
) -> list[tuple[str, str]]:
    """Pair removed nodes with added ones that have the same keys with the same values.

    Begins with the largest, so that a group moves as a whole if possible, and otherwise its members
    do: into a new group, or out of a removed one. Of several nodes with the same content, the one
    with the same name is used. O(keys).

    Args:
        gone: the paths of the removed nodes.
        come: the paths of the added nodes.
        keys: all keys that differ.

    Returns:
        Old and new path of each node that moved, without those that moved with their group.
    """
    if not gone or not come:
        return []
    removed, added = _Folder(), _Folder()
    for change in keys:
        if change.old is not None and change.new is None:
            _put(removed, change.key, change.old.cid)
        elif change.new is not None and change.old is None:
            _put(added, change.key, change.new.cid)
    numbers: _Numbers = {}
    before: dict[str, _Content] = {}
    after: dict[str, _Content] = {}
    removed.number("", numbers, before)
    added.number("", numbers, after)
    waiting: dict[tuple[int, str | None], list[str]] = {}
    for path in sorted((path for path in come if path and path in after), reverse=True):
        for name in (_name(path), None):
            waiting.setdefault((after[path].number, name), []).append(path)
    left: dict[str, str] = {}
    taken: set[str] = set()
    known = [path for path in gone if path and path in before]
    for path in sorted(known, key=lambda path: (-before[path].keys, path)):
        if is_within(path, left):
            continue
        for name in (_name(path), None):
            candidates = waiting.get((before[path].number, name), [])
            while candidates and is_within(candidates[-1], taken):
                candidates.pop()
            if candidates:
                left[path] = candidates.pop()
                taken.add(left[path])
                break
    return sorted(left.items())


def _put(folder: _Folder, key: str, cid: Cid) -> None:
    *above, name = key.split("/")
    for part in above:
        folder = folder.folders.setdefault(part, _Folder())
    folder.values[name] = cid


def _name(path: str) -> str:
    return path.rpartition("/")[2]
