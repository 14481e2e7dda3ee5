"""Overlays: the changes of a tree in one directory, and how they are read over their base."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import Enum
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.keys import in_key_order
from versioned_zarr.tree.lookup import Trees


class TreeLeaf(Protocol):
    """The properties of a new value that a tree needs."""

    @property
    def cid(self) -> Cid:
        """The CID of the value."""
        ...

    @property
    def tsize(self) -> int:
        """The total size of its blocks in bytes."""
        ...


class Gone(Enum):
    """Marks a name whose value was deleted."""

    GONE = 0


GONE: Final = Gone.GONE
T = TypeVar("T", bound=TreeLeaf)
_Change: TypeAlias = "T | Overlay[T] | Gone"


class Overlay(Generic[T]):
    """The changes in one directory, relative to that directory of the base, if any.

    Attributes:
        base: the directory that it changes; None if there is none.
        is_linked: whether that directory was put here by its CID, in place of what the base has.
        changes: the changed names.
        removed: the names from which a directory of the base (its CID) or a value (None) was
            removed.
    """

    __slots__ = ("base", "changes", "is_linked", "removed")

    def __init__(self, base: Cid | None, *, is_linked: bool = False) -> None:
        self.base, self.is_linked = base, is_linked
        self.changes: dict[str, _Change[T]] = {}
        self.removed: dict[str, Cid | None] = {}


def base_links(trees: Trees, overlay: Overlay[T]) -> Iterator[Link]:
    """The links of the directory of the base."""
    return iter(() if overlay.base is None else trees.directory(overlay.base))


def is_empty(trees: Trees, overlay: Overlay[T]) -> bool:
    """Return whether there is no key in a changed directory."""
    for change in overlay.changes.values():
        if isinstance(change, Overlay):
            if not is_empty(trees, change):
                return False
        elif change is not GONE:
            return False
    return not any(
        link.name not in overlay.changes and _is_key(trees, link)
        for link in base_links(trees, overlay)
    )


def has_key(trees: Trees, directory: Cid) -> bool:
    """Return whether there is a key in a stored directory."""
    return any(_is_key(trees, link) for link in trees.directory(directory))


def _is_key(trees: Trees, link: Link) -> bool:
    """Return whether a link of the base leads to a value, or to a directory with one."""
    return not trees.is_directory(link) or has_key(trees, link.cid)


def walk(trees: Trees, overlay: Overlay[T], start: str) -> Iterator[tuple[str, T | Link]]:
    """Yield all keys in a changed directory and their values, sorted by key.

    Args:
        trees: reads the base.
        overlay: the directory.
        start: its path with a slash, with which the keys begin; empty for the root.
    """
    for label, item in in_key_order(_labelled(trees, overlay)):
        if label[-1] != "/":
            assert not isinstance(item, Overlay)
            yield start + label, item
        elif isinstance(item, Overlay):
            yield from walk(trees, item, start + label)
        else:
            directory = trees.directory(item.cid)
            yield from trees.walk_directory(directory, start + label)


def _labelled(trees: Trees, overlay: Overlay[T]) -> Iterator[tuple[str, T | Link | Overlay[T]]]:
    links = {link.name: link for link in base_links(trees, overlay)}
    for name in sorted(links.keys() | overlay.changes.keys()):
        change = overlay.changes.get(name)
        if change is None:
            yield trees.label(links[name]), links[name]
        elif isinstance(change, Overlay):
            yield f"{name}/", change
        elif change is not GONE:
            yield name, change


def changed_in(
    trees: Trees, overlay: Overlay[T], start: str
) -> Iterator[tuple[str, T | Link | None]]:
    """Yield the keys set, with their leaves, and deleted (None), sorted; see `walk`.

    All keys in a linked directory count as set.
    """
    if overlay.is_linked:
        yield from walk(trees, overlay, start)
        return
    for label, change in in_key_order(_labelled_changes(overlay)):
        if label[-1] != "/":
            assert not isinstance(change, Overlay)
            yield start + label, change
            continue
        assert change is None or isinstance(change, Overlay)
        removed = overlay.removed.get(label[:-1])
        if removed is not None:
            yield from changed_where_removed(trees, removed, change, start + label)
        elif change is not None:
            yield from changed_in(trees, change, start + label)


def _labelled_changes(overlay: Overlay[T]) -> Iterator[tuple[str, T | Overlay[T] | None]]:
    for name, change in sorted(overlay.changes.items(), key=lambda item: item[0]):
        removed = overlay.removed.get(name)
        if isinstance(change, Overlay):
            if name in overlay.removed and removed is None:
                yield name, None
            yield f"{name}/", change
            continue
        if change is not GONE:
            yield name, change
        elif removed is None:
            yield name, None
        if removed is not None:
            yield f"{name}/", None


def changed_where_removed(
    trees: Trees, removed: Cid, overlay: Overlay[T] | None, start: str
) -> Iterator[tuple[str, T | Link | None]]:
    """Yield the keys set and deleted where a directory of the base was removed."""
    base = trees.walk_directory(trees.directory(removed), start)
    was_set = iter(()) if overlay is None else changed_in(trees, overlay, start)
    gone: Iterator[tuple[str, T | Link | None]] = ((key, None) for key, _ in base)
    last = ""
    # If both have a key, merge yields the one that was set first.
    for key, leaf in heapq.merge(was_set, gone, key=lambda item: item[0]):
        if key != last:
            yield key, leaf
        last = key
