"""The diff of two trees by key; equal subtrees and shards are skipped by their CIDs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from versioned_zarr.ipld import hamt
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.hamt import Shard
from versioned_zarr.tree.directory import Directory, ShardedDirectory, links_below
from versioned_zarr.tree.keys import in_key_order
from versioned_zarr.tree.lookup import Trees

_Pair: TypeAlias = tuple[Link | None, Link | None]


class KeyChange(NamedTuple):
    """A key whose value differs between two trees.

    Attributes:
        key: the key.
        old: the link to the old value; None for a key that was added.
        new: the link to the new value; None for a key that was removed.
    """

    key: str
    old: Link | None
    new: Link | None


def changes(trees: Trees, old: Cid, new: Cid, prefix: str = "") -> Iterator[KeyChange]:
    """Yield the keys whose values differ between the trees `old` and `new`, sorted by key.

    If a value replaced a directory, or vice versa, each key is one change.

    Args:
        trees: reads both trees.
        old: the root of the old tree.
        new: the root of the new tree.
        prefix: compare only this key, and those in the directory of this path.

    Lazy; reads only the blocks that one of the trees has and the other does not, and stores only
    the changes in the directories above the current key.
    """
    if old == new:
        return
    pair = trees.subtree(old, prefix), trees.subtree(new, prefix)
    path, slash, name = prefix.rpartition("/")
    yield from _of_names(trees, [(name, pair)], path + slash) if name else _of_pair(trees, pair, "")


def _of_names(trees: Trees, pairs: Iterable[tuple[str, _Pair]], start: str) -> Iterator[KeyChange]:
    """Yield the changes below names in one directory, in the order of the names."""
    for label, pair in in_key_order(_labelled(trees, pairs)):
        if label[-1] == "/":
            yield from _of_pair(trees, pair, start + label)
        else:
            yield KeyChange(start + label, *pair)


def _labelled(trees: Trees, pairs: Iterable[tuple[str, _Pair]]) -> Iterator[tuple[str, _Pair]]:
    """Split each pair of links into a pair of values and a pair of directories."""
    for name, (old, new) in pairs:
        if old is not None and new is not None and old.cid == new.cid:
            continue
        old_is_directory = old is not None and trees.is_directory(old)
        new_is_directory = new is not None and trees.is_directory(new)
        values = None if old_is_directory else old, None if new_is_directory else new
        if values != (None, None):
            yield name, values
        if old_is_directory or new_is_directory:
            yield f"{name}/", (old if old_is_directory else None, new if new_is_directory else None)


def _of_pair(trees: Trees, pair: _Pair, start: str) -> Iterator[KeyChange]:
    """Yield the changes between two directories, either of which may be missing."""
    old, new = pair
    if old is not None and new is not None:
        pairs = changed_links(trees, trees.directory(old.cid), trees.directory(new.cid))
        yield from _of_names(trees, pairs, start)
    elif old is not None:
        for key, link in trees.walk_directory(trees.directory(old.cid), start):
            yield KeyChange(key, link, None)
    elif new is not None:
        for key, link in trees.walk_directory(trees.directory(new.cid), start):
            yield KeyChange(key, None, link)


def changed_links(
    trees: Trees, old: Directory, new: Directory
) -> list[tuple[str, tuple[Link | None, Link | None]]]:
    """Return the names whose links differ between two directories, sorted, with both links."""
    if isinstance(old, ShardedDirectory) and isinstance(new, ShardedDirectory):
        found: list[tuple[str, _Pair]] = []
        _compare_shards(trees, old.shard, new.shard, 0, found)
    else:
        found = _compare({link.name: link for link in old}, {link.name: link for link in new})
    found.sort(key=lambda item: item[0])
    return found


def _compare(old: dict[str, Link], new: dict[str, Link]) -> list[tuple[str, _Pair]]:
    found: list[tuple[str, _Pair]] = []
    for name, link in old.items():
        other = new.get(name)
        if other is None or other.cid != link.cid:
            found.append((name, (link, other)))
    found.extend((name, (None, link)) for name, link in new.items() if name not in old)
    return found


def _compare_shards(
    trees: Trees, old: Shard, new: Shard, depth: int, found: list[tuple[str, _Pair]]
) -> None:
    for slot in old | new:
        old_link = old.get(slot)
        new_link = new.get(slot)
        if old_link == new_link:
            continue
        if (
            old_link is not None
            and new_link is not None
            and hamt.is_shard(old_link)
            and hamt.is_shard(new_link)
        ):
            if old_link.cid != new_link.cid:
                below = depth + 1
                old_shard = trees.shard(old_link.cid, below)
                _compare_shards(trees, old_shard, trees.shard(new_link.cid, below), below, found)
        else:
            found.extend(
                _compare(_in_slot(trees, old_link, depth), _in_slot(trees, new_link, depth))
            )


def _in_slot(trees: Trees, link: Link | None, depth: int) -> dict[str, Link]:
    if link is None:
        return {}
    return {each.name: each for each in links_below(trees, {link.name[:2]: link}, depth)}
