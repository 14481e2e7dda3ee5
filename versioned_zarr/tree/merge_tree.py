"""The three-way merge of trees by key: the changes to take, and the conflicting keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.diff_tree import KeyChange, changes
from versioned_zarr.tree.lookup import Trees


class KeyConflict(NamedTuple):
    """A key that both sides changed incompatibly.

    Attributes:
        key: the key; or the path at which one side has a value and the other a directory.
        base: the link in the common base; None if absent. In all three, a link may lead to a
            directory if `key` is such a path.
        ours: the link on our side; None if removed.
        theirs: the link on their side; None if removed.
    """

    key: str
    base: Link | None
    ours: Link | None
    theirs: Link | None


@dataclass(frozen=True)
class KeyMerge:
    """How to merge their changes into our tree.

    Attributes:
        take: what to apply to our tree, in this order: first the keys to remove (None), then those
            to set, each sorted. Contains nothing at or below a key in conflict.
        conflicts: the conflicts, sorted by key.
    """

    take: list[tuple[str, Link | None]] = field(default_factory=list)
    conflicts: list[KeyConflict] = field(default_factory=list)


def merge_keys(trees: Trees, base: Cid, ours: Cid, theirs: Cid) -> KeyMerge:
    """Compute a three-way merge, key by key.

    A key changed on one side only is taken from that side; one changed equally on both sides is
    kept; one changed differently is a conflict. So is a path where one side has a value and the
    other adds keys below it; the whole subtree is then one conflict.

    Costs O(changes on both sides), in time and in memory.
    """
    take: dict[str, Link | None] = {}
    conflicts: dict[str, KeyConflict] = {}
    added: list[str] = []
    for our_change, their_change in _in_step(
        changes(trees, base, ours), changes(trees, base, theirs)
    ):
        if their_change is None:
            continue
        key, old, new = their_change
        if our_change is None:
            take[key] = new
            if old is None:
                added.append(key)
        elif _cid(our_change.new) != _cid(new):
            conflicts[key] = KeyConflict(key, old, our_change.new, new)
            if new is not None and our_change.new is None:
                added.append(key)
    roots = (base, ours, theirs)
    for path in _clashes(trees, ours, added, take):
        links = [trees.subtree(root, path) for root in roots]
        conflicts[path] = KeyConflict(path, *links)
    settled = _Settled(conflicts)
    removals = [(key, link) for key, link in take.items() if link is None]
    settings = [(key, link) for key, link in take.items() if link is not None]
    return KeyMerge(
        [item for item in removals + settings if not settled.is_within(item[0])],
        [each for key, each in sorted(conflicts.items()) if not settled.is_below(key)],
    )


def _in_step(
    ours: Iterator[KeyChange], theirs: Iterator[KeyChange]
) -> Iterator[tuple[KeyChange | None, KeyChange | None]]:
    """Pair the changes of two sides, both sorted by key, if they change the same key."""
    our, their = next(ours, None), next(theirs, None)
    while our is not None or their is not None:
        if their is None or (our is not None and our.key < their.key):
            yield our, None
            our = next(ours, None)
        elif our is None or their.key < our.key:
            yield None, their
            their = next(theirs, None)
        else:
            yield our, their
            our, their = next(ours, None), next(theirs, None)


def _cid(link: Link | None) -> Cid | None:
    return None if link is None else link.cid


def _clashes(
    trees: Trees, ours: Cid, added: list[str], take: dict[str, Link | None]
) -> Iterator[str]:
    """Yield the paths where one tree has a value and the other has new keys below it.

    Only keys that are new in our tree can clash; `added` lists them all. Keys that `take` removes
    from our tree do not clash.
    """
    seen: set[str] = set()
    for key in added:
        link = trees.subtree(ours, key)
        if link is not None and trees.is_directory(link):
            below = trees.walk_directory(trees.directory(link.cid), f"{key}/")
            if any(take.get(each, link) is not None for each, _ in below):
                yield key
        path, _, _ = key.rpartition("/")
        while path and path not in seen:
            seen.add(path)
            found = trees.find(ours, path)
            if found is not None and take.get(path, found) is not None:
                yield path
            path, _, _ = path.rpartition("/")


class _Settled:
    """Tracks whether keys are at or below a path in conflict."""

    def __init__(self, conflicts: dict[str, KeyConflict]) -> None:
        self._conflicts = conflicts

    def is_within(self, key: str) -> bool:
        return key in self._conflicts or self.is_below(key)

    def is_below(self, key: str) -> bool:
        path, _, _ = key.rpartition("/")
        while path:
            if path in self._conflicts:
                return True
            path, _, _ = path.rpartition("/")
        return False
