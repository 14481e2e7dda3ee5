"""The three-way merge of trees that contain Zarr hierarchies.

Keys merge by CID. Metadata documents merge field by field, and attributes to any depth. Chunks
merge individually, and so do inner chunks within a shard. If one side wrote a chunk, and the other
changed the structure of the array or removed it, the two conflict, because each is valid only
without the other. Such a node is taken from one side as a whole. Consolidated metadata is updated
from the nodes' documents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from versioned_zarr.engine.hierarchy import zarr_nodes
from versioned_zarr.engine.hierarchy.json_values import MISSING, dump, same
from versioned_zarr.engine.hierarchy.merge import consolidated
from versioned_zarr.engine.hierarchy.merge.chunk_merge import (
    SIDES,
    ChunkClash,
    ChunksOfArray,
    Taken,
    kind_of,
)
from versioned_zarr.engine.hierarchy.merge.conflict_resolution import (
    Decider,
    FieldValue,
    Resolve,
    check_resolve,
)
from versioned_zarr.engine.hierarchy.merge.conflicts import Conflict, ConflictKind
from versioned_zarr.engine.hierarchy.merge.json_merge import FieldClash, field_name, merge_documents
from versioned_zarr.engine.hierarchy.merge.node_conflicts import (
    NodeConflict,
    NodeConflicts,
    Side,
    changed_nodes,
)
from versioned_zarr.engine.hierarchy.shards import ShardLayout, layout_of
from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNodes
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.merge_tree import KeyConflict, merge_keys

__all__ = ["Conflict", "Merged", "Resolve", "check_resolve", "merge_trees"]

_Document: TypeAlias = dict[str, Any] | None


@dataclass
class Merged:
    """The result of a merge.

    Attributes:
        changes: the changes to our tree: for each key a link to its value, its bytes, a function
            that returns these on demand, or None to delete it.
        conflicts: the unresolved conflicts; `changes` does not contain their keys.
    """

    changes: list[tuple[str, Taken]]
    conflicts: list[Conflict]


def merge_trees(
    trees: Trees,
    *,
    base: Cid,
    ours: Cid,
    theirs: Cid,
    read: Callable[[Link], bytes],
    resolve: Resolve = None,
    unaware: Callable[[str], bool] | None = None,
) -> Merged:
    """Merge what changed from `base` to `theirs` into `ours`. O(what both sides changed).

    Args:
        trees: reads trees.
        base: the tree of the merge base.
        ours: the tree that is changed.
        theirs: the other tree.
        read: returns all bytes of a value; used for metadata documents, and for shards that both
            sides changed.
        resolve: see `Resolve`.
        unaware: whether their side wrote a key without having read it; None if both sides may
            make the same change to any value, as two branches may. Two sessions that did so may
            both have added 1 to the same 6, and one update is lost. So the same change by two
            sessions is allowed only for documents, and for chunks of coordinate arrays that were
            written unaware.

    Raises:
        InvalidInputError: `resolve` returns something that is not valid.
    """
    return _TreeMerge(trees, (base, ours, theirs), read, Decider(resolve), unaware).run()


class _TreeMerge:
    def __init__(
        self,
        trees: Trees,
        roots: tuple[Cid, Cid, Cid],
        read: Callable[[Link], bytes],
        decider: Decider,
        unaware: Callable[[str], bool] | None,
    ) -> None:
        self.trees, self.roots = trees, roots
        self._read, self._decider, self._unaware = read, decider, unaware
        self.base = roots[0]
        self._ours, self._theirs = (Side(trees, self.base, root) for root in roots[1:])
        self._take: dict[str, Taken] = {}
        self._conflicts: list[Conflict] = []
        self._nodes = tuple(ZarrNodes(self._bytes_in(root)) for root in roots)
        self._copied = changed_nodes(self._ours, self._theirs, names=zarr_nodes.DOCUMENTS)
        """The nodes whose copies in consolidated metadata must be updated."""

    def run(self) -> Merged:
        merged = merge_keys(self.trees, *self.roots)
        self._take.update(merged.take)
        settled = self._settle_nodes()
        arrays: dict[str, ChunksOfArray] = {}
        clashes = [*merged.conflicts, *self._agreements()]
        for clash in clashes:
            if not zarr_nodes.is_within(clash.key, settled) and not self._collect(clash, arrays):
                self._settle_key(clash)
        for array in arrays.values():
            self._settle_chunks(array)
        if self._ours.changes and self._theirs.changes:
            self._refresh_copies()
        return Merged(list(self._take.items()), self._conflicts)

    def _agreements(self) -> Iterator[KeyConflict]:
        """The keys to which both sides made the same change although that is not allowed."""
        if self._unaware is None:
            return
        for key in sorted(self._ours.changes.keys() & self._theirs.changes.keys()):
            ours, theirs = self._ours.changes[key], self._theirs.changes[key]
            if zarr_nodes.split(key)[1] in zarr_nodes.DOCUMENTS:
                continue
            if _text(ours.new) == _text(theirs.new) and not self._may_agree(key):
                yield KeyConflict(key, ours.old, ours.new, theirs.new)

    def _may_agree(self, key: str) -> bool:
        """Whether both sides may have made the same change to a chunk."""
        if self._unaware is None:
            return True
        if not self._unaware(key):
            return False
        found = [nodes.chunk(key) for nodes in self._nodes[1:]]
        return all(each is not None and each[0].is_coordinate for each in found)

    # Nodes

    def _settle_nodes(self) -> set[str]:
        """Resolve the nodes that cannot be merged key by key; returns their paths and keys."""
        clashes = NodeConflicts(self.trees, self.base, self._ours, self._theirs, self._document)
        settled: set[str] = set()
        for clash in clashes:
            keys = clash.keys(self._ours, self._theirs)
            settled.update([clash.path] if clash.is_whole else keys)
            self._settle_node(clash, keys, clashes.texts(clash.path))
        return settled

    def _settle_node(
        self, clash: NodeConflict, keys: list[str], texts: tuple[str | None, str | None, str | None]
    ) -> None:
        conflict = Conflict(clash.path, clash.kind, *texts, fields=clash.names)
        decision = self._decider.of(conflict)
        for key in keys:
            self._take.pop(key, None)
        if decision is None or isinstance(decision, (bytes, FieldValue)):
            self._conflicts.append(conflict)
        elif decision != "ours":
            root = self.roots[SIDES.index(decision)]
            for key in keys:
                self._take[key] = self.trees.find(root, key)

    # Keys

    def _settle_key(self, clash: KeyConflict) -> None:
        name = zarr_nodes.split(clash.key)[1]
        if name in zarr_nodes.DOCUMENTS and clash.ours is not None and clash.theirs is not None:
            documents = (
                self._document(clash.base),
                self._document(clash.ours),
                self._document(clash.theirs),
            )
            if documents[1] is not None and documents[2] is not None:
                self._settle_document(clash, name, documents)
                return
        if consolidated.is_left_over(name, clash.ours is None, clash.theirs is None):
            self._take[clash.key] = clash.ours or clash.theirs
            return
        links = (clash.base, clash.ours, clash.theirs)
        base, ours, theirs = map(_text, links)
        conflict = Conflict(clash.key, kind_of(clash), base, ours, theirs)
        decision = self._decider.of(conflict)
        if decision is None or isinstance(decision, FieldValue):
            self._conflicts.append(conflict)
        elif isinstance(decision, bytes):
            self._take_tree(clash.key, None)
            self._take[clash.key] = decision
        elif decision != "ours":
            self._take_tree(clash.key, links[SIDES.index(decision)])

    def _take_tree(self, key: str, link: Link | None) -> None:
        """Take the other side's value, or all values of its folder of that name."""
        for ours, _ in self._values_at(self._ours.root, key):
            self._take[ours] = None
        if link is None:
            return
        if self.trees.is_directory(link):
            for name, value in self.trees.walk(link.cid):
                self._take[f"{key}/{name}"] = value
        else:
            self._take[key] = link

    def _values_at(self, root: Cid, key: str) -> Iterator[tuple[str, Link]]:
        link = self.trees.find(root, key)
        if link is not None:
            yield key, link
        else:
            yield from self.trees.walk(root, key)

    # Chunks

    def _collect(self, clash: KeyConflict, arrays: dict[str, ChunksOfArray]) -> bool:
        """Record a chunk under its array; returns false if the key is not a chunk on both sides."""
        if zarr_nodes.split(clash.key)[1] in zarr_nodes.DOCUMENTS:
            return False
        links = (clash.base, clash.ours, clash.theirs)
        if any(link is not None and self.trees.is_directory(link) for link in links):
            return False
        ours, theirs = (nodes.chunk(clash.key) for nodes in self._nodes[1:])
        if ours is None or theirs is None or (ours[0].path, ours[1]) != (theirs[0].path, theirs[1]):
            return False
        path, coordinates = ours[0].path, ours[1]
        if path not in arrays:
            arrays[path] = ChunksOfArray(path, self._layout(path), self._read)
        may_agree = self._may_agree(clash.key)
        arrays[path].clashes.append(ChunkClash(clash, coordinates, may_agree))
        return True

    def _layout(self, path: str) -> ShardLayout | None:
        """The layout of an array's shards, if it is the same in all states that have the array."""
        found = [nodes.at(path) for nodes in self._nodes]
        layouts = [layout_of(node.document) for node in found if node is not None and node.is_array]
        return layouts[0] if all(each == layouts[0] for each in layouts) else None

    def _settle_chunks(self, array: ChunksOfArray) -> None:
        taken, left = array.settle(self._decider)
        for key, value in taken:
            ours = self.trees.find(self._ours.root, key)
            if value == ours or (isinstance(value, Link) and ours and value.cid == ours.cid):
                self._take.pop(key, None)
            else:
                self._take[key] = value
        if left is not None:
            self._conflicts.append(left)

    # Documents

    def _settle_document(
        self, clash: KeyConflict, name: str, documents: tuple[_Document, _Document, _Document]
    ) -> None:
        left: list[Conflict] = []

        def settle(field: FieldClash) -> Any:
            node = consolidated.node_of(name, field.path)
            if node is not None:
                self._copied.add(f"{zarr_nodes.split(clash.key)[0]}/{node}".strip("/"))
                return field.values[1]
            left_over = consolidated.left_over(name, field)
            if left_over is not None:
                return left_over
            conflict = _field_conflict(clash.key, field)
            decision = self._decider.of(conflict)
            if isinstance(decision, FieldValue):
                return decision.value
            if decision is None or isinstance(decision, bytes):
                left.append(conflict)
                return field.values[1]
            return field.values[SIDES.index(decision)]

        merged = merge_documents(name, *documents, settle)
        if left:
            self._conflicts += left
        else:
            self._take_document(clash.key, merged)

    def _take_document(self, key: str, document: dict[str, Any]) -> None:
        """Take a document; as the bytes of a side, if that side has the same content."""
        ours, theirs = (self.trees.find(root, key) for root in self.roots[1:])
        if same(document, self._document(ours)):
            self._take.pop(key, None)
        elif same(document, self._document(theirs)):
            self._take[key] = theirs
        else:
            self._take[key] = dump(document)

    # Consolidated metadata

    def _refresh_copies(self) -> None:
        """Update the consolidated metadata of the affected nodes from their documents."""
        states = [self._reader(root) for root in self.roots]
        for key, document in consolidated.refreshed(self._copied, self._result, *states):
            self._take_document(key, document)

    def _reader(self, root: Cid) -> Callable[[str], _Document]:
        return lambda key: self._document(self.trees.find(root, key))

    def _bytes_in(self, root: Cid) -> Callable[[str], bytes | None]:
        return lambda key: self._read(link) if (link := self.trees.find(root, key)) else None

    def _result(self, key: str) -> _Document:
        """A document after the merge."""
        found = self._take[key] if key in self._take else self.trees.find(self._ours.root, key)
        if isinstance(found, bytes):
            return zarr_nodes.parse(found)
        return self._document(found) if isinstance(found, Link) else None

    def _document(self, link: Link | None) -> dict[str, Any] | None:
        if link is None or self.trees.is_directory(link):
            return None
        return zarr_nodes.parse(self._read(link))


def _field_conflict(key: str, field: FieldClash) -> Conflict:
    sides = zip(SIDES, field.values, strict=True)
    missing = tuple(side for side, value in sides if value is MISSING)
    base, ours, theirs = (None if value is MISSING else value for value in field.values)
    name = field_name(field.path)
    return Conflict(key, ConflictKind.FIELD, base, ours, theirs, field=name, missing=missing)


def _text(link: Link | None) -> str | None:
    return None if link is None else to_text(link.cid)
