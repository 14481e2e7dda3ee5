"""The commit: updates a branch by compare-and-swap, in steps.

Everything a commit needs is durable before the branch names it. Of several concurrent commits, one
wins, and the others read the branch again. The outcome of a compare-and-swap is confirmed by
reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from typing import Any, NamedTuple

from versioned_zarr.blocks.protocol import Block, StagedBlocksCollectedError
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.merge.chunk_merge import Taken
from versioned_zarr.engine.hierarchy.merge.three_way import (
    Conflict,
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
from versioned_zarr.history.refs import HEADS, TAGS, pause_if_condemned, went_to
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder

_PENDING_BYTES = 64 << 20
_ATTEMPTS = 16
"""So often are blocks stored while a gc takes them."""
_WITHOUT_PAUSE = 4


class StoredValue(NamedTuple):
    """The stored value that a tree builder needs: its CID and the cumulative size of its blocks."""

    cid: Cid
    tsize: int


class NewBlocks:
    """Blocks that are not stored yet, on top of a block store; reads as a block source.

    Args:
        stores: the repository.
        sizes: the lengths of new values, whose blocks are only in drafts.
    """

    def __init__(self, stores: RepositoryContext, sizes: Mapping[Cid, int]) -> None:
        self._stores = stores
        self.trees = Trees(self, stores.hash, sizes=sizes)
        self._new: dict[Cid, Bytes] = {}

    def put(self, cid: Cid, data: Bytes) -> None:
        """Add a block."""
        self._new[cid] = data

    def get(self, cid: Cid) -> memoryview:
        """A new block, or one from the store."""
        found = self._new.get(cid)
        return self._stores.blocks.get(cid) if found is None else memoryview(found)

    def items(self) -> Iterable[Block]:
        """The new blocks, in the order in which they were added."""
        return self._new.items()


@dataclass(frozen=True)
class CommitMessage:
    """The message and metadata of a commit.

    Attributes:
        message: the message.
        author: the author; None for `default_author`.
        metadata: JSON metadata.
        why: the reason in the branch's log; the first line of the message is appended.
    """

    message: str
    author: str | None = None
    metadata: Mapping[str, Any] | None = None
    why: str = "commit"


class Step(NamedTuple):
    """The next commit of a branch.

    Attributes:
        commit: the CID of the commit.
        blocks: its blocks that may not be stored yet.
        why: the reason in the branch's log.
    """

    commit: Commit
    blocks: list[Block]
    why: str


def head_of(stores: RepositoryContext, branch: str) -> Commit:
    """The commit that a branch names.

    Raises:
        InvalidRefError: the name of the branch is not valid.
        RefNotFoundError: there is no such branch.
    """
    entry = stores.refs.read(HEADS, check_ref_name(branch))
    if entry is None or entry.commit is None:
        tag = stores.refs.read(TAGS, branch)
        if tag is not None and tag.commit is not None:
            raise RefNotFoundError(
                f"{branch!r} is a tag, which does not move; create a branch there and name that",
                ref=branch,
            )
        names = ", ".join(repr(name) for name in stores.refs.names(HEADS)[:8])
        raise RefNotFoundError(
            f"branch {branch!r} not found in {stores.storage.url!r}; branches: {names or 'none'}",
            ref=branch,
        )
    return stores.commit(to_text(entry.commit))


class BranchUpdate:
    """One update of a branch, in the steps that docs/design/concurrency.md describes.

    `stage` returns the commit that the branch should name, given the one that it names; `publish`
    makes everything that this commit needs durable; the swap moves the branch, if it has not moved
    since; `record` records the result. If the branch moved meanwhile, all steps are repeated.

    Args:
        stores: the repository.
        branch: the branch.
    """

    def __init__(self, stores: RepositoryContext, branch: str) -> None:
        self.stores, self.branch = stores, branch

    def stage(self, head: Commit) -> Step:
        """The commit to move to from a given commit; that commit itself if nothing is to change."""
        raise NotImplementedError

    def publish(self, step: Step) -> None:
        """Store everything that the commit needs, durably."""
        if step.blocks:
            self.stores.blocks.put(step.blocks, from_text(step.commit.cid))

    def unpublished(self) -> None:
        """Called if a gc took blocks that `publish` stored."""

    def record(self, commit: Commit) -> None:
        """Called with the commit to which the branch moved."""

    def run(self) -> Commit:
        """Update the branch; returns the commit that it names then.

        Raises:
            RefNotFoundError: there is no such branch.
        """
        with self.stores.blocks.keep(()):
            commit, has_moved_on = self._moved_on()
        if has_moved_on:
            self.record(commit)
        return commit

    def _moved_on(self) -> tuple[Commit, bool]:
        collections = 0
        while True:
            with self.stores.refs.lock(HEADS, self.branch):
                head = head_of(self.stores, self.branch)
                step = self.stage(head)
                if step.commit.cid != head.cid:
                    self.publish(step)
                    try:
                        return self._swap(head, step), True
                    except BranchMovedError:
                        continue
                    except StagedBlocksCollectedError as error:
                        collections += 1
                        if collections == _ATTEMPTS:
                            raise
                        self.unpublished()
                        pause_if_condemned(error, collections - _WITHOUT_PAUSE)
                        continue
            # Nothing is to change, if the branch is really there: no swap has confirmed it.
            if head_of(self.stores, self.branch).cid == head.cid:
                return head, False

    def _swap(self, head: Commit, step: Step) -> Commit:
        """Move the branch, and determine whether it moved even if a response is lost.

        Returns the commit that the branch names now: a server that merges by itself may have merged
        the given commit with concurrent ones.

        Raises:
            BranchMovedError: the branch is at another commit.
            CollectedError: the server removed blocks of the commit; the branch is as it was.
        """
        old, new = from_text(head.cid), from_text(step.commit.cid)
        refs = self.stores.refs
        try:
            there = refs.swap(HEADS, self.branch, old, new, step.why).commit or new
        except (CollectedError, OutcomeUnknownError):
            raise
        except Exception as error:
            if not has_moved(self.stores, HEADS, self.branch, (old, new), error):
                raise
            there = new
        return step.commit if there == new else self.stores.commit(to_text(there))


def has_moved(
    stores: RepositoryContext, kind: str, name: str, move: tuple[Cid | None, Cid], error: Exception
) -> bool:
    """Whether a ref moved to a commit although the move raised an error.

    Args:
        stores: the repository.
        kind: the kind of the ref.
        name: the ref.
        move: the expected and the new commit.
        error: the error that was raised.

    Raises:
        OutcomeUnknownError: the outcome cannot be determined.
    """
    old, new = move
    try:
        entry = stores.refs.read(kind, name)
        if isinstance(error, BranchMovedError) or (entry is not None and entry.commit == new):
            return entry is not None and entry.commit == new
        # Others may have moved it further already.
        since = takewhile(lambda entry: entry.commit != old, stores.refs.history(kind, name))
        return went_to(since, new)
    except StorageError as failure:
        text, url = to_text(new), stores.storage.url
        raise OutcomeUnknownError(
            f"{name!r} of {url!r} may or may not have moved to {text}: the answer was lost "
            f"({error}), and the ref cannot be read ({failure}); once {url!r} answers again, check "
            f"with 'vz log {name}', or commit again: no commit is made twice",
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


def apply_changes(
    stores: RepositoryContext,
    ours: Cid,
    changes: Iterable[tuple[str, Taken]],
    source: NewBlocks | None = None,
) -> tuple[Link, list[Block]]:
    """A tree with some keys set or deleted, and the new blocks that it needs.

    Args:
        stores: the repository.
        ours: the tree to start from.
        changes: for each key a link to its value, its bytes, a function that returns these, or None
            to delete it. Computed values are stored some MiB at a time.
        source: the new blocks of linked values.
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


def conflict_error(
    conflicts: Iterable[Conflict], ours: str, theirs: str, advice: str = ""
) -> ConflictError:
    """The error that lists the conflicts, one per line, and what to do about all of them."""
    listed = list(conflicts)
    lines = [f"  {conflict}" for conflict in listed[:20]]
    if len(listed) > len(lines):
        lines.append(f"  and {len(listed) - len(lines)} more")
    if advice:
        lines.append(advice)
    plural = "s" if len(listed) != 1 else ""
    return ConflictError(
        f"{len(listed)} conflict{plural} between {ours} and {theirs}; nothing was committed "
        "and nothing is lost:\n" + "\n".join(lines),
        conflicts=listed,
    )
