"""Rewrites of history: merge, revert, cherry-pick and squash, as three-way merges of trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.commit import (
    CommitMessage,
    Step,
    apply_changes,
    conflict_error,
    move_on,
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
"""So much of a message's first line is quoted by the message of its revert."""


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
    theirs = resolve_commit(stores, source)

    def step_from(head: Commit) -> Step:
        bases = walk.merge_bases(head.cid, theirs.cid, stores.commit)
        if theirs.cid in bases:
            return Step(head, [], "")
        if head.cid in bases and _may_move(stores, into, theirs):
            return Step(theirs, [], f"merge {source}: fast-forward")
        tree, blocks = _three_way(
            stores,
            _merge_base_tree(stores, bases),
            from_text(head.tree),
            from_text(theirs.tree),
            resolve,
            (f"branch {into!r}", repr(source)),
        )
        text = f"Merge {source!r} into {into!r}" if message is None else message
        draft = CommitMessage(text, author, metadata, f"merge {source}")
        return new_step(stores, tree, blocks, [head, theirs], draft)

    return move_on(stores, into, step_from)


def _may_move(stores: RepositoryContext, branch: str, to: Commit) -> bool:
    return stores.others is None or stores.others.may_move(branch, from_text(to.cid))


def _merge_base_tree(stores: RepositoryContext, bases: list[str]) -> Cid:
    """The tree that both sides are compared with.

    With several best common ancestors it is their own merge, and where they are in conflict what
    they all came from: both sides then have a change to what is in dispute.
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
    return _replay(stores, branch, commit.tree, _parent_tree(stores, commit), draft, resolve)


def cherry_pick(stores: RepositoryContext, ref: str, branch: str, resolve: Resolve) -> Commit:
    """See `Repository.cherry_pick`."""
    check_resolve(resolve)
    commit = resolve_commit(stores, ref)
    metadata = {**commit.metadata, "cherry_picked_from": commit.cid}
    draft = CommitMessage(commit.message, commit.author, metadata, "cherry-pick")
    return _replay(stores, branch, _parent_tree(stores, commit), commit.tree, draft, resolve)


def _parent_tree(stores: RepositoryContext, commit: Commit) -> str:
    if not commit.parents:
        raise InvalidInputError(f"{commit.cid} is the root commit; it has no change to take")
    return stores.commit(commit.parents[0]).tree


def _replay(
    stores: RepositoryContext,
    branch: str,
    old: str,
    new: str,
    draft: CommitMessage,
    resolve: Resolve,
) -> Commit:
    """Make on a branch the change that leads from one tree to another."""

    def step_from(head: Commit) -> Step:
        tree, blocks = _three_way(
            stores,
            from_text(old),
            from_text(head.tree),
            from_text(new),
            resolve,
            (f"branch {branch!r}", "the change"),
        )
        if tree.cid == from_text(head.tree):
            raise NothingToCommitError(
                f"nothing to commit: branch {branch!r} is already so", branch=branch
            )
        return new_step(stores, tree, blocks, [head], draft)

    return move_on(stores, branch, step_from)


def squash(stores: RepositoryContext, since: str, branch: str, message: str | None) -> Commit:
    """See `Repository.squash`."""
    start = resolve_commit(stores, since)

    def step_from(head: Commit) -> Step:
        if start.cid == head.cid:
            raise NothingToCommitError(
                f"nothing to squash: {branch!r} is at {since!r}", branch=branch
            )
        if not walk.is_ancestor(start.cid, head.cid, stores.commit):
            raise InvalidRefError(f"{since!r} is not in the past of branch {branch!r}", ref=since)
        replaced = map(stores.commit, walk.beyond([head.cid], [start.cid], stores.commit))
        text = message
        if text is None:
            text = "\n\n".join(commit.message for commit in reversed([*replaced]))
        tree = commits.link_to(from_text(head.tree), stores.blocks)
        return new_step(stores, tree, [], [start], CommitMessage(text, why="squash"))

    return move_on(stores, branch, step_from)
