"""Three-way merge of trees that knows what Zarr keys mean.

Keys merge by CID. Metadata documents merge field by field, attributes one by one. Chunks merge
with chunks; a chunk written on one side and a change of the array's structure or its removal on
the other are a conflict, since each would be right only without the other. Such a node is taken
from one side as a whole. Consolidated metadata is made to say what the nodes' documents do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository import consolidated, hierarchy
from versioned_zarr.repository.documents import (
    MISSING,
    FieldClash,
    dump,
    merge_documents,
    plain,
    same,
)
from versioned_zarr.repository.node_clashes import NodeClashes, Side, changed_nodes
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.merge import KeyConflict, merge_keys

Choice: TypeAlias = Literal["ours", "theirs", "base"]
Decision: TypeAlias = Choice | bytes | None
Resolve: TypeAlias = "Choice | Mapping[str, Choice] | Callable[[Conflict], Decision] | None"
"""How conflicts are settled: one side for all, a side for each path pattern (as in `fnmatch`), or
a function that gives a side, the bytes of the value for a key, or None to leave the conflict."""

_Document: TypeAlias = dict[str, Any] | None
_SIDES: tuple[Choice, ...] = ("ours", "theirs", "base")


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
        return {name: plain(value) for name, value in self.__dict__.items()}


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


def _checked_side(side: Any) -> Choice:
    for known in _SIDES:
        if isinstance(side, str) and side == known:
            return known
    raise InvalidInputError(f"a conflict is settled by 'ours' or 'theirs', not {side!r}")


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
        self._ours, self._theirs = Side(trees, base, ours), Side(trees, base, theirs)
        self._take: dict[str, Link | bytes | None] = {}
        self._conflicts: list[Conflict] = []
        self._copied = changed_nodes(self._ours, self._theirs, names=hierarchy.DOCUMENTS)
        """The nodes whose copies in consolidated metadata are to be made again."""

    def run(self, *, may_agree: bool) -> Merged:
        merged = merge_keys(self.trees, self.base, self._ours.root, self._theirs.root)
        self._take = dict(merged.take)
        settled = self._settle_nodes()
        clashes = merged.conflicts if may_agree else [*merged.conflicts, *self._agreements()]
        for clash in clashes:
            if not hierarchy.is_within(clash.key, settled):
                self._settle_key(clash)
        if self._ours.changes and self._theirs.changes:
            self._refresh_copies()
        return Merged(list(self._take.items()), self._conflicts)

    def _agreements(self) -> Iterator[KeyConflict]:
        """The values that both sides changed alike."""
        for key in self._ours.changes.keys() & self._theirs.changes.keys():
            ours, theirs = self._ours.changes[key], self._theirs.changes[key]
            is_document = hierarchy.split(key)[1] in hierarchy.DOCUMENTS
            if not is_document and _text(ours.new) == _text(theirs.new):
                yield KeyConflict(key, ours.old, ours.new, theirs.new)

    # Nodes

    def _settle_nodes(self) -> set[str]:
        """Settle the nodes that cannot be merged key by key; gives their paths."""
        clashes = NodeClashes(self.trees, self.base, self._ours, self._theirs, self._document)
        settled: set[str] = set()
        for path, kind in clashes:
            settled.add(path)
            self._settle_node(Conflict(path, kind, *clashes.texts(path)))
        return settled

    def _settle_node(self, conflict: Conflict) -> None:
        path = conflict.path
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
        if consolidated.is_left_over(name, clash.ours is None, clash.theirs is None):
            self._take[clash.key] = clash.ours or clash.theirs
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
            self._take_tree(clash.key, None)
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
            node = consolidated.node_of(name, field.path)
            if node is not None:
                self._copied.add(f"{hierarchy.split(clash.key)[0]}/{node}".strip("/"))
                return field.values[1]
            left_over = consolidated.left_over(name, field)
            if left_over is not None:
                return left_over
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
        else:
            self._take_document(clash.key, merged)

    def _take_document(self, key: str, document: dict[str, Any]) -> None:
        """Take a document; as the bytes of a side, if one says the same."""
        ours, theirs = (self.trees.find(side.root, key) for side in (self._ours, self._theirs))
        if same(document, self._document(ours)):
            self._take.pop(key, None)
        elif same(document, self._document(theirs)):
            self._take[key] = theirs
        else:
            self._take[key] = dump(document)

    # Consolidated metadata

    def _refresh_copies(self) -> None:
        """Let consolidated metadata say of the nodes in question what their documents say."""
        states = [self._reader(root) for root in self._roots()]
        for key, document in consolidated.refreshed(self._copied, self._result, *states):
            self._take_document(key, document)

    def _reader(self, root: Cid) -> Callable[[str], _Document]:
        return lambda key: self._document(self.trees.find(root, key))

    def _result(self, key: str) -> _Document:
        """A document as the merge leaves it."""
        found = self._take[key] if key in self._take else self.trees.find(self._ours.root, key)
        return hierarchy.parse(found) if isinstance(found, bytes) else self._document(found)

    def _document(self, link: Link | None) -> dict[str, Any] | None:
        if link is None or self.trees.is_directory(link):
            return None
        return hierarchy.parse(self._read(link))


_SIDES_OF_FIELD = ("base", "ours", "theirs")


def _text(link: Link | None) -> str | None:
    return None if link is None else to_text(link.cid)
