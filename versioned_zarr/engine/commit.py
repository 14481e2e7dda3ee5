"""The commit: turns a session or a merge into a commit, by compare-and-swap on its branch.

Everything a commit needs is durable before the branch names it; of many that commit at once, one
wins and the others look again. What a compare-and-swap said is believed only after a look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.merge.chunk_merge import Taken
from versioned_zarr.engine.hierarchy.merge.three_way import (
    Conflict,
    Resolve,
    check_resolve,
    merge_trees,
)
from versioned_zarr.errors import (
    BranchMovedError,
    CollectedError,
    ConflictError,
    OutcomeUnknownError,
    RefNotFoundError,
    StorageError,
)
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.ref_names import check_ref_name
from versioned_zarr.history.refs import HEADS, went_to
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder

_PENDING_BYTES = 64 << 20


class StoredValue(NamedTuple):
    """A value as a work tree wants it: its CID and the cumulative size of its blocks."""

    cid: Cid
    tsize: int


class NewBlocks:
    """Blocks that are not stored yet, laid over those that are; reads as a block source.

    Args:
        stores: the repository.
        sizes: the lengths of new values, whose blocks are in drafts and not here.
    """

    def __init__(self, stores: RepositoryContext, sizes: Mapping[Cid, int]) -> None:
        self._stores = stores
        self.trees = Trees(self, stores.hash, sizes=sizes)
        self._new: dict[Cid, Bytes] = {}

    def put(self, cid: Cid, data: Bytes) -> None:
        """Add a block."""
        self._new[cid] = data

    def get(self, cid: Cid) -> memoryview:
        """A new block, or one that is stored."""
        found = self._new.get(cid)
        return self._stores.blocks.get(cid) if found is None else memoryview(found)

    def items(self) -> Iterable[Block]:
        """The new blocks, in the order they came."""
        return self._new.items()


@dataclass(frozen=True)
class CommitMessage:
    """What a commit is to say, but for its tree and parents.

    Attributes:
        message: why.
        author: who; None for `default_author`.
        metadata: JSON to go with it.
        why: what the branch's log says of the move; the message's first line is added.
    """

    message: str
    author: str | None = None
    metadata: Mapping[str, Any] | None = None
    why: str = "commit"


class Step(NamedTuple):
    """Where a branch goes.

    Attributes:
        commit: to which commit.
        blocks: what of it may not be stored yet.
        why: what the branch's log says of the move.
    """

    commit: Commit
    blocks: list[Block]
    why: str


@dataclass
class StagedTree:
    """A tree to be committed: what it was made from, and the blocks it needs.

    Attributes:
        base: the commit that the change was made on.
        root: the changed tree.
        blocks: the nodes of the tree, and values, that may not be stored yet.
        read: gives all bytes of the value that a link names, of a new value too.
        prepare: stores the values, called once when it is sure that there will be a commit;
            gives blocks that shall go into the commit's own pack.
        was_read: whether a key was read before it was written, so that what was written may come
            from what was read; every key, unless somebody knows better.
    """

    base: Commit
    root: Link
    blocks: NewBlocks
    read: Callable[[Link], bytes]
    prepare: Callable[[], list[Block]] = field(default=list)
    was_read: Callable[[str], bool] = field(default=lambda key: True)


def head_of(stores: RepositoryContext, branch: str) -> Commit:
    """The commit that a branch names.

    Raises:
        InvalidRefError: no branch can be called so.
        RefNotFoundError: there is no such branch.
    """
    entry = stores.refs.read(HEADS, check_ref_name(branch))
    if entry is None or entry.commit is None:
        names = ", ".join(repr(name) for name in stores.refs.names(HEADS)[:8])
        raise RefNotFoundError(
            f"branch {branch!r} not found in {stores.storage.url!r}; there are {names or 'none'}",
            ref=branch,
        )
    return stores.commit(to_text(entry.commit))


def commit_change(
    stores: RepositoryContext,
    branch: str,
    change: StagedTree,
    draft: CommitMessage,
    *,
    may_merge: bool = True,
    resolve: Resolve = None,
    before_swap: Callable[[Cid], None] | None = None,
) -> Commit:
    """Commit a change to a branch; where the branch has moved, merge the change into it.

    Args:
        stores: the repository.
        branch: the branch.
        change: what to commit.
        draft: what the commit says.
        may_merge: whether a change may be merged into a branch that moved.
        resolve: settles conflicts; see `merge_trees`.
        before_swap: told the commit's CID just before the branch is moved to it.

    Raises:
        BranchMovedError: the branch moved, and `may_merge` is false.
        ConflictError: the branch moved and its changes do not go with these.
        InvalidInputError: `resolve` is nothing that decides.
    """
    check_resolve(resolve)
    is_prepared = False

    def step_from(head: Commit) -> Step:
        nonlocal is_prepared
        root, blocks = change.root, list(change.blocks.items())
        if head.cid != change.base.cid:
            if not may_merge:
                raise _moved(branch, change.base, head)
            root, blocks = _merge_into(stores, head, change, branch, resolve)
        step = new_step(stores, root, blocks, [head], draft)
        if is_prepared:
            return step
        stores.blocks.expect(step.blocks)
        values = change.prepare()
        is_prepared = True  # what the first attempt stored, the next ones find there
        return step._replace(blocks=[*values, *step.blocks])

    return move_on(stores, branch, step_from, before_swap)


def move_on(
    stores: RepositoryContext,
    branch: str,
    step_from: Callable[[Commit], Step],
    before_swap: Callable[[Cid], None] | None = None,
) -> Commit:
    """Move a branch on from the commit that it names; where it moves meanwhile, look again.

    Args:
        stores: the repository.
        branch: the branch.
        step_from: says where to go from a commit; the same commit, to stay there.
        before_swap: told the new commit's CID just before the branch is moved to it.

    Raises:
        RefNotFoundError: there is no such branch.
    """
    with stores.blocks.keep(()):
        while True:
            with stores.refs.lock(HEADS, branch):
                head = head_of(stores, branch)
                step = step_from(head)
                new = from_text(step.commit.cid)
                if step.commit.cid == head.cid:
                    return head
                if step.blocks:
                    stores.blocks.put(step.blocks, new)
                if before_swap is not None:
                    before_swap(new)
                with suppress(BranchMovedError):
                    there = _swap(stores, branch, from_text(head.cid), new, step.why)
                    return step.commit if there == new else stores.commit(to_text(there))


def _swap(stores: RepositoryContext, branch: str, old: Cid, new: Cid, why: str) -> Cid:
    """Move a branch from a commit to another, and know for certain whether it moved.

    Gives the commit that the branch names now: a server that has merges of its own may have made
    one of what it was given and of what came in between.

    Raises:
        BranchMovedError: the branch is elsewhere.
        CollectedError: the place removed what the commit needs; the branch went back.
    """
    try:
        return stores.refs.swap(HEADS, branch, old, new, why).commit or new
    except (CollectedError, OutcomeUnknownError):
        raise
    except Exception as error:
        if not has_moved(stores, HEADS, branch, (old, new), error):
            raise
        return new


def has_moved(
    stores: RepositoryContext, kind: str, name: str, move: tuple[Cid | None, Cid], error: Exception
) -> bool:
    """Whether a ref went to a commit although its move raised an error.

    Args:
        stores: the repository.
        kind: of which kind the ref is.
        name: the ref.
        move: where it was expected to stand, and where it was to go.
        error: what was raised.

    Raises:
        OutcomeUnknownError: that cannot be found out.
    """
    old, new = move
    try:
        entry = stores.refs.read(kind, name)
        if isinstance(error, BranchMovedError) or (entry is not None and entry.commit == new):
            return entry is not None and entry.commit == new
        # Others may have gone on from it already.
        since = takewhile(lambda entry: entry.commit != old, stores.refs.history(kind, name))
        return went_to(since, new)
    except StorageError as failure:
        text, url = to_text(new), stores.storage.url
        raise OutcomeUnknownError(
            f"whether {name!r} of {url!r} has moved to {text} is not known: the answer was lost "
            f"({error}), and it cannot be looked at ({failure}). Once {url!r} answers again, look "
            f"with 'vz log {name}', or commit again: what was made is not made twice",
            where=url,
            ref=name,
            commit=text,
        ) from error


def new_step(
    stores: RepositoryContext,
    root: Link,
    blocks: Iterable[Block],
    parents: list[Commit],
    draft: CommitMessage,
) -> Step:
    """The step to a new commit of a tree, after its parents; `blocks` are the tree's new ones."""
    commit, own = commits.encode(
        tree=root,
        parents=[stores.link_to(from_text(parent.cid)) for parent in parents],
        author=draft.author if draft.author is not None else commits.default_author(),
        time=datetime.now(UTC),
        message=draft.message,
        metadata=draft.metadata,
        hash_function=stores.hash,
    )
    return Step(commit, [*blocks, *own], f"{draft.why}: {commit.summary}")


def _merge_into(
    stores: RepositoryContext, head: Commit, change: StagedTree, branch: str, resolve: Resolve
) -> tuple[Link, list[Block]]:
    """The tree of a branch with a change merged into it, and the blocks of both."""
    merged = merge_trees(
        change.blocks.trees,
        base=from_text(change.base.tree),
        ours=from_text(head.tree),
        theirs=change.root.cid,
        read=change.read,
        resolve=resolve,
        unaware=lambda key: not change.was_read(key),
    )
    if merged.conflicts:
        raise conflict_error(merged.conflicts, f"branch {branch!r}", "this session")
    root, nodes = apply_changes(stores, from_text(head.tree), merged.changes, change.blocks)
    # Nodes of the unmerged tree are not needed, but its new values may be.
    return root, nodes


def apply_changes(
    stores: RepositoryContext,
    ours: Cid,
    changes: Iterable[tuple[str, Taken]],
    source: NewBlocks | None = None,
) -> tuple[Link, list[Block]]:
    """A tree with some keys set or taken away, and the new blocks that it needs.

    Args:
        stores: the repository.
        ours: the tree to start from.
        changes: each key with a link to its value, its bytes, what makes these, or None to take
            it away. What is made is stored some MiB at a time.
        source: new blocks that the links may lead to.
    """
    trees = stores.trees if source is None else source.trees
    work: TreeBuilder[StoredValue] = TreeBuilder(trees, ours)
    blocks: list[Block] = []
    pending_bytes = 0
    changes = list(changes)
    for key, value in changes:
        if value is None:
            work.delete(key)
    for key, value in changes:
        if isinstance(value, bytes) or callable(value):
            data = value if isinstance(value, bytes) else value()
            file = unixfs.build_file(data, stores.hash)
            blocks += file.blocks
            work.set(key, StoredValue(file.cid, file.tsize))
            pending_bytes += len(data)
            if pending_bytes > _PENDING_BYTES:
                stores.blocks.put(blocks, file.cid)
                blocks, pending_bytes = [], 0
        elif value is not None:
            work.set(key, StoredValue(value.cid, value.tsize))
    root = work.flush(lambda cid, data: blocks.append((cid, data)))
    return root, blocks


def conflict_error(conflicts: Iterable[Conflict], ours: str, theirs: str) -> ConflictError:
    """The error that names each conflict, on a line of its own."""
    listed = list(conflicts)
    lines = [f"  {conflict}" for conflict in listed[:20]]
    if len(listed) > len(lines):
        lines.append(f"  and {len(listed) - len(lines)} more")
    plural = "s" if len(listed) != 1 else ""
    return ConflictError(
        f"{len(listed)} conflict{plural} between {ours} and {theirs}; nothing was committed "
        "and nothing is lost:\n" + "\n".join(lines),
        conflicts=listed,
    )


def _moved(branch: str, expected: Commit, found: Commit) -> BranchMovedError:
    return BranchMovedError(
        f"branch {branch!r} moved from {expected.cid} to {found.cid} since the session was "
        "opened; on_moved='merge' would try to merge the two",
        branch=branch,
        expected=expected.cid,
        found=found.cid,
    )
