"""Rewrites of history: merge, revert, cherry-pick and squash, as three-way merges of trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.commit import (
    BranchUpdate,
    CommitMessage,
    Step,
    apply_changes,
    conflict_error,
    new_step,
)
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve, check_resolve, merge_trees
from versioned_zarr.engine.revisions import resolve_commit
from versioned_zarr.errors import (
    InvalidInputError,
    InvalidRefError,
    NothingToCommitError,
)
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.ipld.dag_pb import Link

_QUOTED_CHARACTERS = 200
"""The maximum length of the summary that the message of a revert quotes."""


def merge(
    stores: RepositoryContext,
    source: str,
    into: str,
    message: str | None,
    resolve: Resolve,
    *,
    author: str | None,
    metadata: Mapping[str, Any] | None,
) -> Commit:
    """See `Repository.merge`."""
    check_resolve(resolve)
    text = f"Merge {source!r} into {into!r}" if message is None else message
    said = CommitMessage(text, author, metadata, f"merge {source}")
    return _Merge(stores, source, into, said, resolve).run()


class _Merge(BranchUpdate):
    """Merges a commit into a branch."""

    def __init__(
        self,
        stores: RepositoryContext,
        source: str,
        into: str,
        message: CommitMessage,
        resolve: Resolve,
    ) -> None:
        super().__init__(stores, into)
        self._source, self._theirs = source, resolve_commit(stores, source)
        self._message, self._resolve = message, resolve

    def stage(self, head: Commit) -> Step:
        """See `BranchUpdate.stage`."""
        stores, theirs = self.stores, self._theirs
        bases = walk.merge_bases(head.cid, theirs.cid, stores.commit)
        if theirs.cid in bases:
            return Step(head, [], "")
        if head.cid in bases and _may_move(stores, self.branch, theirs):
            return Step(theirs, [], f"merge {self._source}: fast-forward")
        tree, blocks = _three_way(
            stores,
            _merge_base_tree(stores, bases),
            from_text(head.tree),
            from_text(theirs.tree),
            self._resolve,
            (f"branch {self.branch!r}", repr(self._source)),
        )
        return new_step(stores, tree, blocks, [head, theirs], self._message)


def _may_move(stores: RepositoryContext, branch: str, to: Commit) -> bool:
    return stores.others is None or stores.others.may_move(branch, from_text(to.cid))


def _merge_base_tree(stores: RepositoryContext, bases: list[str]) -> Cid:
    """The tree with which both sides are compared.

    If there are several merge bases, they are merged; for their conflicts, the tree of their own
    merge base is used, so that both sides have changed the conflicting keys.
    """
    if not bases:
        return stores.empty_tree
    first = stores.commit(bases[0])
    tree = from_text(first.tree)
    for other in map(stores.commit, bases[1:]):
        below = walk.merge_bases(first.cid, other.cid, stores.commit)
        root, blocks = _three_way(
            stores,
            _merge_base_tree(stores, below),
            tree,
            from_text(other.tree),
            lambda conflict: "base",
            ("one merge base", "another"),
        )
        if blocks:
            stores.blocks.put(blocks, blocks[0][0])
        tree = root.cid
    return tree


def _three_way(
    stores: RepositoryContext,
    base: Cid,
    ours: Cid,
    theirs: Cid,
    resolve: Resolve,
    names: tuple[str, str],
) -> tuple[Link, list[Block]]:
    merged = merge_trees(
        stores.trees,
        base=base,
        ours=ours,
        theirs=theirs,
        read=stores.read_link,
        resolve=resolve,
    )
    if merged.conflicts:
        raise conflict_error(merged.conflicts, *names)
    return apply_changes(stores, ours, merged.changes)


def revert(stores: RepositoryContext, ref: str, branch: str, resolve: Resolve) -> Commit:
    """See `Repository.revert`."""
    check_resolve(resolve)
    commit = resolve_commit(stores, ref)
    subject = commit.summary
    if len(subject) > _QUOTED_CHARACTERS:
        subject = f"{subject[:_QUOTED_CHARACTERS]}…"
    draft = CommitMessage(f'Revert "{subject}"\n\nThis reverts commit {commit.cid}.', why="revert")
    change = commit.tree, _parent_tree(stores, commit)
    return _Replay(stores, branch, change, draft, resolve).run()


def cherry_pick(stores: RepositoryContext, ref: str, branch: str, resolve: Resolve) -> Commit:
    """See `Repository.cherry_pick`."""
    check_resolve(resolve)
    commit = resolve_commit(stores, ref)
    metadata = {**commit.metadata, "cherry_picked_from": commit.cid}
    draft = CommitMessage(commit.message, commit.author, metadata, "cherry-pick")
    change = _parent_tree(stores, commit), commit.tree
    return _Replay(stores, branch, change, draft, resolve).run()


def _parent_tree(stores: RepositoryContext, commit: Commit) -> str:
    if not commit.parents:
        raise InvalidInputError(f"{commit.cid} is the root commit; it has no changes to apply")
    return stores.commit(commit.parents[0]).tree


class _Replay(BranchUpdate):
    """Applies the change from one tree to another to a branch."""

    def __init__(
        self,
        stores: RepositoryContext,
        branch: str,
        change: tuple[str, str],
        message: CommitMessage,
        resolve: Resolve,
    ) -> None:
        super().__init__(stores, branch)
        self._old, self._new = map(from_text, change)
        self._message, self._resolve = message, resolve

    def stage(self, head: Commit) -> Step:
        """See `BranchUpdate.stage`."""
        tree, blocks = _three_way(
            self.stores,
            self._old,
            from_text(head.tree),
            self._new,
            self._resolve,
            (f"branch {self.branch!r}", "the change"),
        )
        if tree.cid == from_text(head.tree):
            raise NothingToCommitError(
                f"nothing to commit: branch {self.branch!r} already contains this change",
                branch=self.branch,
            )
        return new_step(self.stores, tree, blocks, [head], self._message)


def squash(stores: RepositoryContext, since: str, branch: str, message: str | None) -> Commit:
    """See `Repository.squash`."""
    return _Squash(stores, since, branch, message).run()


class _Squash(BranchUpdate):
    """Combines the commits of a branch after one of them into one commit."""

    def __init__(
        self, stores: RepositoryContext, since: str, branch: str, message: str | None
    ) -> None:
        super().__init__(stores, branch)
        self._since, self._start = since, resolve_commit(stores, since)
        self._text = message

    def stage(self, head: Commit) -> Step:
        """See `BranchUpdate.stage`."""
        stores, start = self.stores, self._start
        if start.cid == head.cid:
            raise NothingToCommitError(
                f"nothing to squash: {self.branch!r} is already at {self._since!r}",
                branch=self.branch,
            )
        if not walk.is_ancestor(start.cid, head.cid, stores.commit):
            raise InvalidRefError(
                f"{self._since!r} is not an ancestor of branch {self.branch!r}", ref=self._since
            )
        text = self._text
        if text is None:
            replaced = map(stores.commit, walk.beyond([head.cid], [start.cid], stores.commit))
            text = "\n\n".join(commit.message for commit in reversed([*replaced]))
        tree = commits.link_to(from_text(head.tree), stores.blocks)
        return new_step(stores, tree, [], [start], CommitMessage(text, why="squash"))
