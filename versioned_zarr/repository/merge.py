"""Three-way merge of trees that knows what Zarr keys mean.

Keys merge by CID. Metadata documents merge field by field, attributes one by one. Chunks merge
with chunks; a chunk written on one side and a change of the array's structure or its removal on
the other are a conflict, since each would be right only without the other.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository import hierarchy
from versioned_zarr.repository.documents import MISSING, FieldClash, dump, merge_documents
from versioned_zarr.tree.diff import KeyChange, changes
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.merge import KeyConflict, merge_keys

Side: TypeAlias = Literal["ours", "theirs", "base"]
Decision: TypeAlias = Side | bytes | None
Resolve: TypeAlias = "Side | Mapping[str, Side] | Callable[[Conflict], Decision] | None"
"""How conflicts are settled: one side for all, a side for each path pattern (as in `fnmatch`), or
a function that gives a side, the bytes of the value for a key, or None to leave the conflict."""

_Document: TypeAlias = dict[str, Any] | None
_SIDES: tuple[Side, ...] = ("ours", "theirs", "base")


@dataclass(frozen=True)
class Conflict:
    """Something that both sides changed, in ways that do not go together.

    Attributes:
        path: the key, or the path of the node.
        kind: what happened, in words.
        base: what it was: the CID of the value in text, or the value of the field; None if it
            was not there.
        ours: what it is on the side that is merged into.
        theirs: what it is on the other side.
        field: the field of the metadata document, for a conflict within one.
    """

    path: str
    kind: str
    base: Any
    ours: Any
    theirs: Any
    field: str | None = None

    def __str__(self) -> str:
        where = self.path or "/"
        if self.field is not None:
            where += f" [{self.field}]"
        sides = ", ".join(
            f"{side} {_shown(getattr(self, side))}" for side in ("base", "ours", "theirs")
        )
        return f"{where}: {self.kind} ({sides})"

    def to_dict(self) -> dict[str, Any]:
        """The conflict as plain JSON data."""
        return dict(self.__dict__)


def _shown(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


@dataclass
class Merged:
    """What a merge comes to.

    Attributes:
        changes: what to do to our tree: each key with a link to its value, its bytes, or None.
        conflicts: what is not settled; `changes` then leave it out.
    """

    changes: list[tuple[str, Link | bytes | None]]
    conflicts: list[Conflict]


def merge_trees(
    trees: Trees,
    *,
    base: Cid,
    ours: Cid,
    theirs: Cid,
    read: Callable[[Link], bytes],
    resolve: Resolve = None,
    may_agree: bool = True,
) -> Merged:
    """Merge what changed from `base` to `theirs` into `ours`. O(what both sides changed).

    Args:
        trees: reads trees.
        base: the tree that both sides started from.
        ours: the tree to change.
        theirs: the other tree.
        read: gives all bytes of a value; asked for metadata documents alone.
        resolve: see `Resolve`.
        may_agree: whether both sides may have made the same change to a value. Two branches
            that did agree; two sessions that did may both have added 1 to the same 6, and one
            of them is lost. Documents may always be the same.

    Raises:
        InvalidInputError: `resolve` says something that is no decision.
    """
    return _Merge(trees, base, ours, theirs, read, _decider(resolve)).run(may_agree=may_agree)


def check_resolve(resolve: Resolve) -> None:
    """Make sure that conflicts can be settled so, before there is one.

    Raises:
        InvalidInputError: `resolve` is nothing that decides.
    """
    _decider(resolve)


def _decider(resolve: Resolve) -> Callable[[Conflict], Decision]:
    if resolve is None:
        return lambda conflict: None
    if isinstance(resolve, str):
        side = _checked_side(resolve)
        return lambda conflict: side
    if isinstance(resolve, Mapping):
        for pattern in resolve:
            if not isinstance(pattern, str):
                raise InvalidInputError(f"a path pattern in resolve is text, not {pattern!r}")
        sides = {pattern: _checked_side(side) for pattern, side in resolve.items()}

        def by_pattern(conflict: Conflict) -> Decision:
            return next(
                (side for pattern, side in sides.items() if fnmatchcase(conflict.path, pattern)),
                None,
            )

        return by_pattern
    if not callable(resolve):
        raise InvalidInputError(
            "resolve must be 'ours', 'theirs', a mapping of path patterns to those, or a "
            f"function, not {type(resolve).__name__}"
        )
    decide = resolve
    return lambda conflict: _checked(decide(conflict))


def _checked(decision: Any) -> Decision:
    if decision is None or isinstance(decision, bytes):
        return decision
    return _checked_side(decision)


def _checked_side(side: Any) -> Side:
    for known in _SIDES:
        if isinstance(side, str) and side == known:
            return known
    raise InvalidInputError(f"a conflict is settled by 'ours' or 'theirs', not {side!r}")


class _Side:
    """One side of a merge: its tree, and what it changed."""

    def __init__(self, merge: _Merge, root: Cid) -> None:
        self.root = root
        self.changes: dict[str, KeyChange] = {
            change.key: change for change in changes(merge.trees, merge.base, root)
        }
        self._sorted = sorted(self.changes)

    def below(self, path: str) -> Iterator[str]:
        """The keys that it changed in a folder and below it."""
        start = f"{path}/" if path else ""
        for at in range(bisect_left(self._sorted, start), len(self._sorted)):
            if not self._sorted[at].startswith(start):
                return
            yield self._sorted[at]


class _Merge:
    def __init__(
        self,
        trees: Trees,
        base: Cid,
        ours: Cid,
        theirs: Cid,
        read: Callable[[Link], bytes],
        decide: Callable[[Conflict], Decision],
    ) -> None:
        self.trees, self.base = trees, base
        self._read, self._decide = read, decide
        self._ours, self._theirs = _Side(self, ours), _Side(self, theirs)
        self._take: dict[str, Link | bytes | None] = {}
        self._conflicts: list[Conflict] = []

    def run(self, *, may_agree: bool) -> Merged:
        merged = merge_keys(self.trees, self.base, self._ours.root, self._theirs.root)
        self._take = dict(merged.take)
        settled = self._settle_nodes()
        clashes = merged.conflicts if may_agree else [*merged.conflicts, *self._agreements()]
        for clash in clashes:
            if not any(_is_below(clash.key, path) for path in settled):
                self._settle_key(clash)
        return Merged(list(self._take.items()), self._conflicts)

    def _agreements(self) -> Iterator[KeyConflict]:
        """The values that both sides changed alike."""
        for key in self._ours.changes.keys() & self._theirs.changes.keys():
            ours, theirs = self._ours.changes[key], self._theirs.changes[key]
            is_document = hierarchy.split(key)[1] in hierarchy.DOCUMENTS
            if not is_document and _text(ours.new) == _text(theirs.new):
                yield KeyConflict(key, ours.old, ours.new, theirs.new)

    # Nodes

    def _settle_nodes(self) -> list[str]:
        """Find the nodes that cannot be merged key by key; gives their paths."""
        settled: list[str] = []
        for one, other in ((self._ours, self._theirs), (self._theirs, self._ours)):
            documents = [
                change
                for change in one.changes.values()
                if change.old is not None
                and hierarchy.split(change.key)[1] in hierarchy.NODE_DOCUMENTS
            ]
            # The group before what is in it, so that its removal is one conflict.
            for change in sorted(documents, key=lambda change: change.key.count("/")):
                path, name = hierarchy.split(change.key)
                if any(_is_below(change.key, above) for above in settled):
                    continue
                kind = self._clash_at(path, name, change, one, other)
                if kind is not None:
                    settled.append(path)
                    self._settle_node(path, kind, change.key)
        return settled

    def _clash_at(
        self, path: str, name: str, change: KeyChange, one: _Side, other: _Side
    ) -> str | None:
        """What is wrong between one side's change of a node's document and the other's of it."""
        if change.new is None:
            for key in other.below(path):
                theirs, mine = other.changes[key].new, one.changes.get(key)
                if theirs is not None and (mine is None or mine.new != theirs):
                    return "removed on one side, changed on the other"
            return None
        found = self.trees.find(other.root, change.key)
        if found is None:
            return None
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

    def _settle_node(self, path: str, kind: str, document: str) -> None:
        conflict = Conflict(
            path,
            kind,
            *(self._text_at(root, document) for root in self._roots()),
        )
        decision = self._decide(conflict)
        keys = [*self._ours.below(path), *self._theirs.below(path)]
        for key in keys:
            self._take.pop(key, None)
        if decision is None or isinstance(decision, bytes):
            self._conflicts.append(conflict)
        elif decision != "ours":
            root = self._theirs.root if decision == "theirs" else self.base
            for key in keys:
                self._take[key] = self.trees.find(root, key)

    def _roots(self) -> tuple[Cid, Cid, Cid]:
        return self.base, self._ours.root, self._theirs.root

    def _text_at(self, root: Cid, key: str) -> str | None:
        return _text(self.trees.find(root, key))

    # Keys

    def _settle_key(self, clash: KeyConflict) -> None:
        name = hierarchy.split(clash.key)[1]
        if name in hierarchy.DOCUMENTS and clash.ours is not None and clash.theirs is not None:
            documents = (
                self._document(clash.base),
                self._document(clash.ours),
                self._document(clash.theirs),
            )
            if documents[1] is not None and documents[2] is not None:
                self._settle_document(clash, name, documents)
                return
        kind = "changed on both sides"
        if clash.ours is None or clash.theirs is None:
            kind = "removed on one side, changed on the other"
        elif clash.base is None:
            kind = "added on both sides"
        if _text(clash.ours) == _text(clash.theirs):
            kind = "changed alike on both sides, unaware of each other"
        links = {"base": clash.base, "ours": clash.ours, "theirs": clash.theirs}
        conflict = Conflict(clash.key, kind, *(_text(link) for link in links.values()))
        decision = self._decide(conflict)
        if decision is None:
            self._conflicts.append(conflict)
        elif isinstance(decision, bytes):
            self._take[clash.key] = decision
        elif decision != "ours":
            self._take_tree(clash.key, links[decision])

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

    def _settle_document(
        self, clash: KeyConflict, name: str, documents: tuple[_Document, _Document, _Document]
    ) -> None:
        left: list[Conflict] = []

        def settle(field: FieldClash) -> Any:
            base, ours, theirs = (None if value is MISSING else value for value in field.values)
            conflict = Conflict(
                clash.key,
                "field changed on both sides",
                base,
                ours,
                theirs,
                ".".join(field.path),
            )
            decision = self._decide(conflict)
            if decision is None or isinstance(decision, bytes):
                left.append(conflict)
                return field.values[1]
            return field.values[_SIDES_OF_FIELD.index(decision)]

        merged = merge_documents(name, *documents, settle)
        if left:
            self._conflicts += left
        elif merged == documents[2]:
            self._take[clash.key] = clash.theirs
        elif merged != documents[1]:
            self._take[clash.key] = dump(merged)

    def _document(self, link: Link | None) -> dict[str, Any] | None:
        if link is None or self.trees.is_directory(link):
            return None
        return hierarchy.parse(self._read(link))


_SIDES_OF_FIELD = ("base", "ours", "theirs")


def _text(link: Link | None) -> str | None:
    return None if link is None else to_text(link.cid)


def _is_below(key: str, path: str) -> bool:
    return not path or key == path or key.startswith(f"{path}/")
