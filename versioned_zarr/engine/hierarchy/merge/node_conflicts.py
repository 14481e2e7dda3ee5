"""Node conflicts: nodes that cannot be merged key by key.

The chunks of a node have meaning only with its document, so the whole node is taken from one side.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, TypeAlias

from versioned_zarr.engine.hierarchy import zarr_nodes
from versioned_zarr.engine.hierarchy.json_values import same
from versioned_zarr.engine.hierarchy.merge import shapes
from versioned_zarr.engine.hierarchy.merge.conflicts import ConflictKind
from versioned_zarr.engine.hierarchy.zarr_nodes import V2_DOCUMENTS, V3, ZarrNode
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.diff_tree import KeyChange, changes
from versioned_zarr.tree.lookup import Trees

_Fields: TypeAlias = "dict[str, Any] | None"
_FORMATS = ((V3,), (".zarray", ".zgroup"))
"""The names of a node's documents, by Zarr format."""
_OWN = (V3, *V2_DOCUMENTS)


class Side:
    """One side of a merge: its tree, and its changes.

    Args:
        trees: reads trees.
        base: the tree of the merge base.
        root: the tree of this side.
    """

    def __init__(self, trees: Trees, base: Cid, root: Cid) -> None:
        self.root = root
        self.changes: dict[str, KeyChange] = {
            change.key: change for change in changes(trees, base, root)
        }
        self._sorted = sorted(self.changes)

    def below(self, path: str) -> Iterator[str]:
        """The keys in a folder and below it that this side changed."""
        start = f"{path}/" if path else ""
        for at in range(bisect_left(self._sorted, start), len(self._sorted)):
            if not self._sorted[at].startswith(start):
                return
            yield self._sorted[at]

    def has_changed(self, path: str) -> bool:
        """Whether this side changed the document of a node."""
        return any(key in self.changes for key in _keys(path, zarr_nodes.NODE_DOCUMENTS))


def changed_nodes(*sides: Side, names: Collection[str] = zarr_nodes.NODE_DOCUMENTS) -> set[str]:
    """The nodes of which a side changed one of these documents."""
    parts = (zarr_nodes.split(key) for side in sides for key in side.changes)
    return {folder for folder, name in parts if name in names}


class NodeConflict(NamedTuple):
    """A node that cannot be merged key by key.

    Attributes:
        path: the path of the node.
        kind: the kind of conflict.
        names: the fields or documents involved.
        is_whole: whether it concerns all keys below the node, or only its documents.
    """

    path: str
    kind: ConflictKind
    names: tuple[str, ...] = ()
    is_whole: bool = True

    def keys(self, *sides: Side) -> list[str]:
        """The keys that it concerns, among those that a side changed."""
        if self.is_whole:
            return [key for side in sides for key in side.below(self.path)]
        own = list(_keys(self.path, _OWN))
        return [key for side in sides for key in own if key in side.changes]


class NodeConflicts:
    """Finds node conflicts; none is below another that concerns all keys below it.

    Args:
        trees: reads trees.
        base: the tree of the merge base.
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

    def __iter__(self) -> Iterator[NodeConflict]:
        found: set[str] = set()
        paths = changed_nodes(self._ours, self._theirs, names=_OWN)
        # Groups before their members, so that the removal of a group is one conflict.
        for path in sorted(paths, key=lambda path: (path.count("/") + bool(path), path)):
            if zarr_nodes.is_within(path, found):
                continue
            clash = self._clash_of(path)
            if clash is not None:
                if clash.is_whole:
                    found.add(path)
                yield clash

    def texts(self, path: str) -> tuple[str | None, str | None, str | None]:
        """The CIDs of a node's documents in the base, on our side and on theirs."""
        base, ours, theirs = (
            next((to_text(link.cid) for _, link in self._found(root, path)), None)
            for root in (self._base, self._ours.root, self._theirs.root)
        )
        return base, ours, theirs

    def _found(
        self, root: Cid, path: str, names: Collection[str] = zarr_nodes.NODE_DOCUMENTS
    ) -> Iterator[tuple[str, Link]]:
        for key in _keys(path, names):
            link = self._trees.find(root, key)
            if link is not None:
                yield key, link

    def _clash_of(self, path: str) -> NodeConflict | None:
        both = ((self._ours, self._theirs), (self._theirs, self._ours))
        clash = self._clash_of_formats(path)
        if clash is None:
            clash = self._clash_with_group(path, *both[0]) or self._clash_with_group(path, *both[1])
        if clash is not None:
            return clash
        for one, other in both:
            for key in _keys(path, zarr_nodes.NODE_DOCUMENTS):
                change = one.changes.get(key)
                if change is not None and change.old is not None:
                    clash = self._clash_with(path, change, one, other)
                    if clash is not None:
                        return clash
        if self._ours.has_changed(path) and self._theirs.has_changed(path):
            clash = self._clash_of_documents(path)
            if clash is not None:
                return clash
        if any(self._has_nodes_in_array(path, one, other) for one, other in both):
            return NodeConflict(path, ConflictKind.NODES_IN_ARRAY)
        return None

    # Two formats

    def _clash_of_formats(self, path: str) -> NodeConflict | None:
        """A node with documents of both formats, if the sides changed different formats.

        The documents of each side may be consistent, but those of the merge would not be.
        """
        mine = self._own_changes(path, self._ours, self._theirs)
        others = self._own_changes(path, self._theirs, self._ours)
        if not mine or not others or not any(self._found(self._base, path)):
            return None
        if not all(self._is_left(path, names) for names in _FORMATS):
            return None
        formats = {*map(_is_v3, mine)}
        was_both = all(any(self._found(self._base, path, names)) for names in _FORMATS)
        if formats == {*map(_is_v3, others)} and (len(formats) == 1 or was_both):
            return None
        roots = (self._base, self._ours.root, self._theirs.root)
        is_array = any(self._structures(root, path) for root in roots)
        names = (" and ".join(mine), " and ".join(others))
        return NodeConflict(path, ConflictKind.FORMATS, names, is_whole=is_array)

    def _clash_with_group(self, path: str, one: Side, other: Side) -> NodeConflict | None:
        """A node that one side added in the format of its group, which the other side changed.

        The node would be hidden if the group is opened in its new format.
        """
        if not one.has_changed(path):
            return None
        if any(any(self._found(root, path)) for root in (self._base, other.root)):
            return None
        group = path
        while group:
            group = zarr_nodes.split(group)[0]
            before = self._formats(one.root, group)
            if before:
                own, now = self._formats(one.root, path), self._formats(other.root, group)
                if other.has_changed(group) and before <= own and not now <= own:
                    return NodeConflict(
                        path, ConflictKind.FORMATS, (f"of its group {group or '/'}",)
                    )
                return None
        return None

    def _formats(self, root: Cid, path: str) -> set[bool]:
        """Whether a node has a document of format 3, and of format 2."""
        return {_is_v3(zarr_nodes.split(key)[1]) for key, _ in self._found(root, path)}

    def _own_changes(self, path: str, one: Side, other: Side) -> list[str]:
        """The documents of a node that one side changed, unless the other changed them equally."""
        found = []
        for name, key in zip(_OWN, _keys(path, _OWN), strict=True):
            change, across = one.changes.get(key), other.changes.get(key)
            if change is None or (across is not None and across.new == change.new):
                continue
            if name == V3 and self._is_of_copies(change):
                continue
            found.append(name)
        return found

    def _is_of_copies(self, change: KeyChange) -> bool:
        """Whether only consolidated metadata changed in a document."""
        old, new = (_without_copies(self._document(link)) for link in (change.old, change.new))
        return old is not None and new is not None and same(old, new)

    def _is_left(self, path: str, names: Collection[str]) -> bool:
        """Whether one of these documents exists after the changes of both sides."""
        for key in _keys(path, names):
            sides = [side.changes.get(key) for side in (self._ours, self._theirs)]
            changed = [change.new for change in sides if change is not None]
            if all(changed) and (changed or self._trees.find(self._base, key) is not None):
                return True
        return False

    # Structure

    def _structures(self, root: Cid, path: str) -> list[dict[str, Any]]:
        """The fields of a node's documents that determine how chunks are read; none for a group."""
        found = self._found(root, path)
        all_of_them = (
            zarr_nodes.structure(zarr_nodes.split(key)[1], self._document(link))
            for key, link in found
        )
        return [structure for structure in all_of_them if structure]

    def _clash_with(
        self, path: str, change: KeyChange, one: Side, other: Side
    ) -> NodeConflict | None:
        """The conflict between the changes of both sides to a node's document, if any."""
        if change.new is None:
            return self._clash_with_removal(path, one, other)
        found = self._trees.find(other.root, change.key)
        if found is None:
            return None
        name = zarr_nodes.split(change.key)[1]
        documents = [self._document(link) for link in (change.old, change.new, found)]
        before, after, across = (zarr_nodes.structure(name, document) for document in documents)
        fields = [
            field
            for field in sorted(before.keys() | after.keys())
            if before.get(field) != after.get(field) and after.get(field) != across.get(field)
        ]
        if not fields:
            return None
        written = [
            key for key in other.below(path) if zarr_nodes.split(key)[1] not in zarr_nodes.DOCUMENTS
        ]
        if not written:
            return None
        has_only_grown = (
            fields == ["shape"]
            and before.get("shape") == across.get("shape")
            and shapes.has_grown(before.get("shape"), after.get("shape"))
        )
        array = ZarrNode(path, is_array=True, document=before, attributes={})
        if has_only_grown and shapes.are_inside(array, written):
            return None
        return NodeConflict(path, ConflictKind.STRUCTURE_AND_CHUNKS, tuple(fields))

    def _clash_with_removal(self, path: str, one: Side, other: Side) -> NodeConflict | None:
        """The conflict if one side removed a node's document and the other changed the node.

        A group of which a document remains still exists, with its members; so does an array, if it
        had that document before.
        """
        left = [key for key, _ in self._found(one.root, path)]
        is_group = bool(left) and not any(
            self._structures(root, path) for root in (self._base, one.root)
        )
        is_there = is_group or any(self._trees.find(self._base, key) is not None for key in left)
        for key in [*_keys(path, _OWN)] if is_there else other.below(path):
            change, mine = other.changes.get(key), one.changes.get(key)
            if change is None or change.new is None:
                continue
            if mine is None or mine.new != change.new:
                return NodeConflict(path, ConflictKind.REMOVED, is_whole=not is_group)
        return None

    def _clash_of_documents(self, path: str) -> NodeConflict | None:
        """The conflict between two changed documents of one format, if any."""
        for names in _FORMATS:
            kinds = [
                self._kind_of(root, path, names)
                for root in (self._base, self._ours.root, self._theirs.root)
            ]
            base, ours, theirs = kinds
            if base is None and ours is not None and theirs is not None and ours != theirs:
                return NodeConflict(path, ConflictKind.ADDED_DIFFERENTLY)
            fields = _clashing_fields(*(kind and kind[1] for kind in kinds))
            if fields:
                return NodeConflict(path, ConflictKind.STRUCTURE, tuple(fields))
        was_there = any(self._found(self._base, path))
        kept = [self._formats(side.root, path) for side in (self._ours, self._theirs)]
        if not was_there and all(kept) and kept[0] != kept[1]:
            return NodeConflict(path, ConflictKind.ADDED_DIFFERENTLY)
        return None

    def _kind_of(
        self, root: Cid, path: str, names: Collection[str] = zarr_nodes.NODE_DOCUMENTS
    ) -> tuple[str, dict[str, Any]] | None:
        """The name of a node's document, and its fields that determine how chunks are read."""
        for key, link in self._found(root, path, names):
            name = zarr_nodes.split(key)[1]
            return name, zarr_nodes.structure(name, self._document(link))
        return None

    def _has_nodes_in_array(self, path: str, one: Side, other: Side) -> bool:
        """Whether one side created an array where the other created nodes below."""
        if not one.has_changed(path):
            return False
        if not self._structures(one.root, path) or self._structures(self._base, path):
            return False
        folders: set[str] = set()
        for key in other.below(path):
            folder = zarr_nodes.split(key)[0]
            while other.changes[key].new is not None and folder != path and folder not in folders:
                folders.add(folder)
                folder = zarr_nodes.split(folder)[0]
        return any(self._kind_of(other.root, folder) is not None for folder in folders)


def _clashing_fields(base: _Fields, ours: _Fields, theirs: _Fields) -> list[str]:
    """The fields of an array that cannot be merged field by field.

    The data type of one side with the fill value of the other may not be a valid array. If only the
    shapes differ, the array is valid, and the field is in conflict like any other.
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


def _keys(path: str, names: Collection[str]) -> Iterator[str]:
    return (zarr_nodes.join(path, name) for name in names)


def _is_v3(name: str) -> bool:
    return name == V3


def _without_copies(document: dict[str, Any] | None) -> dict[str, Any] | None:
    if document is None:
        return None
    return {key: value for key, value in document.items() if key != "consolidated_metadata"}
