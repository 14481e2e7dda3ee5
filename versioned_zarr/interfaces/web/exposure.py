"""Exposure: which refs, trees and blocks of a repository the web interface may show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from versioned_zarr.blocks.file_reader import get_verified
from versioned_zarr.blocks.protocol import Searchable
from versioned_zarr.errors import (
    CorruptError,
    InvalidCidError,
    InvalidRefError,
    NotFoundError,
    RefNotFoundError,
)
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import is_commit
from versioned_zarr.history.ref_names import check_ref_name
from versioned_zarr.history.refs import HEADS, TAGS
from versioned_zarr.interfaces.web.reachable_blocks import ReachableBlocks
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.address.ipfs_address import read_cid
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.repository.repository import Repository
from versioned_zarr.tree.dag import resolve
from versioned_zarr.tree.dag_nodes import links_of
from versioned_zarr.tree.lookup import Trees

_REMEMBERED_TREES = 1024


class ExposedTree(NamedTuple):
    """The current tree of a name, and whether that can change."""

    tree: Cid
    is_fixed: bool


class ExposedRef(NamedTuple):
    """An exposed branch or tag.

    Attributes:
        kind: "heads" or "tags".
        name: its name.
        commit: its commit.
        path: its path in a URL, before quoting.
    """

    kind: str
    name: str
    commit: Cid
    path: str


class Exposure:
    """A repository, or some of its refs with everything that they reach. Thread-safe.

    Args:
        repository: the repository.
        refs: see `app`.

    Raises:
        RefNotFoundError: one of `refs` does not exist.
    """

    def __init__(self, repository: Repository, refs: Sequence[str] | None) -> None:
        self._stores = repository._stores
        self._blocks = repository._stores.blocks
        self.trees = Trees(self, self._stores.hash)
        self._tree_of: dict[Cid, Cid] = {}
        self._names: set[tuple[str, str]] | None = None
        self._fixed: set[Cid] = set()
        self._reach: ReachableBlocks | None = None
        if refs is not None:
            self._names = set()
            for ref in refs:
                self._add(ref)
            self._reach = ReachableBlocks(self._below, self._roots, self._is_past)

    def _add(self, ref: str) -> None:
        found = self._standing(ref)
        cid = _whole_cid(ref)
        assert self._names is not None
        if found:
            self._names.update((kind, name) for kind, name, _ in found)
        elif cid is not None and self._is_stored(cid):
            self._fixed.add(cid)
        else:
            raise RefNotFoundError(
                f"{ref!r} is not a branch, a tag, or the CID of a commit or tree in this "
                "repository",
                ref=ref,
            )

    # Blocks

    def get(self, cid: Cid) -> memoryview:
        """The verified block of a CID; does not check whether it is exposed.

        Raises:
            BlockNotFoundError: it is missing.
            CorruptBlockError: its bytes do not match its CID.
        """
        return get_verified(self._blocks, cid, "the repository")

    def size(self, cid: Cid) -> int:
        """The size of a raw block, without verifying it."""
        return len(self._blocks.get(cid))

    def __contains__(self, cid: Cid) -> bool:
        """Whether a block is exposed. If `refs` were selected, this may cost a walk."""
        return self._is_stored(cid) and (self._reach is None or cid in self._reach)

    def _is_stored(self, cid: Cid) -> bool:
        """Whether a block is stored here or on the server of the repository, which may be asked."""
        return self._stores.has(cid) or (
            isinstance(self._blocks, Searchable) and self._blocks.search(cid)
        )

    def is_sound(self, cid: str) -> bool:
        """Whether a block matches its CID, whatever else may be wrong with it."""
        try:
            self.get(cids.from_text(cid))
        except (CorruptError, NotFoundError, InvalidCidError):
            return False
        return True

    # Names

    def refs(self) -> list[ExposedRef]:
        """The exposed branches and tags, sorted."""
        found = []
        names = {kind: self._stores.refs.names(kind) for kind in (HEADS, TAGS)}
        for kind, other in ((HEADS, TAGS), (TAGS, HEADS)):
            for name in names[kind]:
                entry = self._stores.refs.read(kind, name)
                if entry is None or entry.commit is None or not self._is_named(kind, name):
                    continue
                is_plain = name not in names[other] and name not in {"ipfs", "ipns"}
                path = name if is_plain else f"{kind}/{name}"
                found.append(ExposedRef(kind, name, entry.commit, path))
        return found

    def version(self, name: str) -> ExposedTree:
        """The tree of a branch, a tag, or the CID of a commit or tree.

        Raises:
            RefNotFoundError: nothing exposed has this name.
            InvalidRefError: a branch and a tag have this name, at different commits.
        """
        standing = {
            commit for kind, each, commit in self._standing(name) if self._is_named(kind, each)
        }
        if len(standing) > 1:
            raise InvalidRefError(
                f"{name!r} is both a branch and a tag; use 'heads%2F{name}' or 'tags%2F{name}'",
                ref=name,
            )
        if standing:
            return ExposedTree(self._tree(standing.pop()), is_fixed=False)
        cid = _whole_cid(name)
        if cid is None or not self._is_version(cid):
            raise RefNotFoundError(f"no branch, tag, commit or tree {name!r} here", ref=name)
        return ExposedTree(self._tree(cid), is_fixed=True)

    def _is_version(self, cid: Cid) -> bool:
        if cids.is_foreign(cid):
            return self._stores.is_commit(cid) and (self._reach is None or cid in self._reach)
        return not cids.is_raw(cid) and cid in self

    def _standing(self, name: str) -> list[tuple[str, str, Cid]]:
        """The refs with a name: kind, name, and commit of each."""
        meant = [(HEADS, name), (TAGS, name)]
        for kind in (HEADS, TAGS):
            if name.startswith(f"{kind}/"):
                meant.append((kind, name.removeprefix(f"{kind}/")))
        found = []
        for kind, each in meant:
            try:
                entry = self._stores.refs.read(kind, check_ref_name(each))
            except InvalidRefError:
                continue
            if entry is not None and entry.commit is not None:
                found.append((kind, each, entry.commit))
        return found

    def _is_named(self, kind: str, name: str) -> bool:
        return self._names is None or (kind, name) in self._names

    def _tree(self, cid: Cid) -> Cid:
        """The tree of a commit, or the CID if it is a tree."""
        found = self._tree_of.get(cid)
        if found is None:
            if cids.is_foreign(cid):
                found = self._stores.tree_of(cid)
            elif is_commit(cid, self._blocks):
                found = resolve(self.get, cid, ["tree"]).end
            else:
                found = cid
            if len(self._tree_of) >= _REMEMBERED_TREES:
                self._tree_of.clear()
            self._tree_of[cid] = found
        return found

    # Reachability from the exposed refs

    def _roots(self) -> frozenset[Cid]:
        roots = set(self._fixed)
        for kind, name in self._names or ():
            entry = self._stores.refs.read(kind, name)
            if entry is not None and entry.commit is not None:
                roots.add(entry.commit)
        return frozenset(roots)

    def _below(self, cid: Cid) -> list[Cid]:
        if cids.is_foreign(cid):
            commit = self._stores.commit(cids.to_text(cid))
            return [*map(cids.from_text, commit.parents), cids.from_text(commit.tree)]
        return [] if cids.is_raw(cid) else [link.cid for link in links_of(cid, self.get(cid))]

    def _is_past(self, old: Cid, new: Cid) -> bool:
        try:
            return walk.is_ancestor(cids.to_text(old), cids.to_text(new), self._stores.commit)
        except (NotFoundError, ValueError):
            return False  # a root is a bare tree, or its history is incomplete here


def _whole_cid(text: str) -> Cid | None:
    try:
        return read_cid(text)
    except InvalidCidError:
        return None
