"""Rename detection: which nodes have the same content under another path in another version."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from versioned_zarr.engine.hierarchy.zarr_nodes import is_within, join
from versioned_zarr.ipld.cid import Cid, is_raw
from versioned_zarr.tree.diff_tree import KeyChange
from versioned_zarr.tree.lookup import Trees


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


def moved_from(trees: Trees, old: Cid, new: Cid, path: str) -> str | None:
    """The path that a folder or value had in an older tree, where it is no longer.

    Of several places with the same content, the one with the same name is used, or the first.
    Reads the folders that differ between the trees, without listing equal ones.

    Args:
        trees: reads both trees.
        old: the older tree, in which nothing is at `path`.
        new: the newer tree.
        path: the path there.
    """
    found = trees.subtree(new, path)
    if found is None:
        return None
    name = _name(path)
    waiting: list[tuple[str, Cid, Cid | None]] = [("", old, new)]
    candidates = []
    while waiting:
        folder, before, after = waiting.pop()
        now = None if after is None else trees.directory(after)
        for link in trees.directory(before):
            there = None if now is None else now.get(link.name)
            if there is not None and there.cid == link.cid:
                continue
            where = join(folder, link.name)
            if there is None and link.cid == found.cid:
                candidates.append(where)
            elif not is_raw(link.cid) and trees.is_directory(link):
                below = there is not None and trees.is_directory(there)
                waiting.append((where, link.cid, there.cid if there and below else None))
    return min(candidates, key=lambda each: (_name(each) != name, each), default=None)


def _put(folder: _Folder, key: str, cid: Cid) -> None:
    *above, name = key.split("/")
    for part in above:
        folder = folder.folders.setdefault(part, _Folder())
    folder.values[name] = cid


def _name(path: str) -> str:
    return path.rpartition("/")[2]
