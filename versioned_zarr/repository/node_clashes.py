"""What both sides of a merge made of a node that cannot be merged key by key.

Its chunks mean something only with its document, so such a node is taken from one side as a whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeAlias

from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository import hierarchy
from versioned_zarr.tree.diff import KeyChange, changes
from versioned_zarr.tree.lookup import Trees

_Fields: TypeAlias = "dict[str, Any] | None"
_Kind: TypeAlias = "tuple[str, dict[str, Any]] | None"


class Side:
    """One side of a merge: its tree, and what it changed.

    Args:
        trees: reads trees.
        base: the tree that both sides started from.
        root: its tree.
    """

    def __init__(self, trees: Trees, base: Cid, root: Cid) -> None:
        self.root = root
        self.changes: dict[str, KeyChange] = {
            change.key: change for change in changes(trees, base, root)
        }
        self._sorted = sorted(self.changes)

    def below(self, path: str) -> Iterator[str]:
        """The keys that it changed in a folder and below it."""
        start = f"{path}/" if path else ""
        for at in range(bisect_left(self._sorted, start), len(self._sorted)):
            if not self._sorted[at].startswith(start):
                return
            yield self._sorted[at]

    def has_changed(self, path: str) -> bool:
        """Whether it changed the document of a node."""
        return any(key in self.changes for key in _documents_of(path))


def changed_nodes(*sides: Side, names: Collection[str] = hierarchy.NODE_DOCUMENTS) -> set[str]:
    """The nodes of which a side changed one of these documents."""
    parts = (hierarchy.split(key) for side in sides for key in side.changes)
    return {folder for folder, name in parts if name in names}


class NodeClashes:
    """Finds them: gives the path of each, and what is wrong; none lies below another.

    Args:
        trees: reads trees.
        base: the tree that both sides started from.
        ours: our side.
        theirs: the other side.
        document: reads a document.
    """

    def __init__(
        self,
        trees: Trees,
        base: Cid,
        ours: Side,
        theirs: Side,
        document: Callable[[Link | None], dict[str, Any] | None],
    ) -> None:
        self._trees, self._base, self._ours, self._theirs = trees, base, ours, theirs
        self._document = document

    def __iter__(self) -> Iterator[tuple[str, str]]:
        found: set[str] = set()
        paths = changed_nodes(self._ours, self._theirs)
        # The group before what is in it, so that its removal is one conflict.
        for path in sorted(paths, key=lambda path: (path.count("/") + bool(path), path)):
            if hierarchy.is_within(path, found):
                continue
            kind = self._clash_of(path)
            if kind is not None:
                found.add(path)
                yield path, kind

    def texts(self, path: str) -> tuple[str | None, str | None, str | None]:
        """The CIDs of a node's documents in the base, on our side and on theirs."""
        base, ours, theirs = (
            next((to_text(link.cid) for _, link in self._found(root, path)), None)
            for root in (self._base, self._ours.root, self._theirs.root)
        )
        return base, ours, theirs

    def _found(self, root: Cid, path: str) -> Iterator[tuple[str, Link]]:
        for key in _documents_of(path):
            link = self._trees.find(root, key)
            if link is not None:
                yield key, link

    def _clash_of(self, path: str) -> str | None:
        both = ((self._ours, self._theirs), (self._theirs, self._ours))
        for one, other in both:
            for key in _documents_of(path):
                change = one.changes.get(key)
                if change is not None and change.old is not None:
                    kind = self._clash_with(path, change, one, other)
                    if kind is not None:
                        return kind
        if self._ours.has_changed(path) and self._theirs.has_changed(path):
            base, ours, theirs = (
                self._kind_of(root, path)
                for root in (self._base, self._ours.root, self._theirs.root)
            )
            if base is None and ours is not None and theirs is not None and ours != theirs:
                return "added on both sides, not alike"
            fields = _clashing_fields(*(kind and kind[1] for kind in (base, ours, theirs)))
            if fields:
                return f"{' and '.join(fields)} changed differently on both sides"
        if any(self._has_nodes_in_array(path, one, other) for one, other in both):
            return "an array on one side, nodes below it on the other"
        return None

    def _clash_with(self, path: str, change: KeyChange, one: Side, other: Side) -> str | None:
        """What is wrong between one side's change of a node's document and the other's of it."""
        if change.new is None:
            for key in other.below(path):
                theirs, mine = other.changes[key].new, one.changes.get(key)
                if theirs is not None and (mine is None or mine.new != theirs):
                    return "removed on one side, changed on the other"
            return None
        found = self._trees.find(other.root, change.key)
        if found is None:
            return None
        name = hierarchy.split(change.key)[1]
        before = hierarchy.structure(name, self._document(change.old))
        after = hierarchy.structure(name, self._document(change.new))
        across = hierarchy.structure(name, self._document(found))
        fields = [
            field
            for field in sorted(before.keys() | after.keys())
            if before.get(field) != after.get(field) and after.get(field) != across.get(field)
        ]
        if not fields:
            return None
        if all(hierarchy.split(key)[1] in hierarchy.DOCUMENTS for key in other.below(path)):
            return None
        return f"{' and '.join(fields)} changed on one side, chunks written on the other"

    def _kind_of(self, root: Cid, path: str) -> _Kind:
        """A node's document by name, and what it says of how chunks are to be read."""
        for key, link in self._found(root, path):
            name = hierarchy.split(key)[1]
            return name, hierarchy.structure(name, self._document(link))
        return None

    def _has_nodes_in_array(self, path: str, one: Side, other: Side) -> bool:
        """Whether one side made an array where the other made nodes below."""
        if not one.has_changed(path):
            return False
        found = self._kind_of(one.root, path)
        before = self._kind_of(self._base, path)
        if found is None or not found[1] or (before is not None and before[1]):
            return False
        folders: set[str] = set()
        for key in other.below(path):
            folder = hierarchy.split(key)[0]
            while other.changes[key].new is not None and folder != path and folder not in folders:
                folders.add(folder)
                folder = hierarchy.split(folder)[0]
        return any(self._kind_of(other.root, folder) is not None for folder in folders)


def _clashing_fields(base: _Fields, ours: _Fields, theirs: _Fields) -> list[str]:
    """The fields of an array that no merge field by field would get right.

    A data type of one side and a fill value of the other may make no array. Two shapes alone do:
    which one it is to be is asked as of any field.
    """
    if base is None or ours is None or theirs is None:
        return []
    fields = base.keys() | ours.keys() | theirs.keys()
    differing = [field for field in sorted(fields) if ours.get(field) != theirs.get(field)]
    mine, others = (
        {field for field in differing if side.get(field) != base.get(field)}
        for side in (ours, theirs)
    )
    changed = mine | others
    is_clash = mine & others or (mine - {"shape"} and others - {"shape"})
    return sorted(changed) if is_clash and changed != {"shape"} else []


def _documents_of(path: str) -> Iterator[str]:
    return (hierarchy.join(path, name) for name in hierarchy.NODE_DOCUMENTS)
