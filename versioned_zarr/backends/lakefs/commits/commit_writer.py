"""The commit writer: stages a commit on a hidden branch of lakeFS, then merges it.

lakeFS has no compare-and-swap for branches. Among writers of this package, one at a time holds the
claim on the head of a branch, a hidden branch that only one can create. If another tool changes the
branch in between, the parent of the merge shows it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple
from weakref import WeakKeyDictionary

from versioned_zarr.backends.lakefs.api.api_errors import AnswerLostError, RefusedError
from versioned_zarr.backends.lakefs.api.client import LakefsCommit
from versioned_zarr.backends.lakefs.commits import commit_metadata
from versioned_zarr.backends.lakefs.commits.commit_metadata import (
    ParentMetadata,
    value_metadata,
    value_of,
)
from versioned_zarr.backends.lakefs.commits.hidden_branches import HiddenBranches, moved_on
from versioned_zarr.backends.lakefs.lakefs_context import LakefsContext
from versioned_zarr.backends.lakefs.sessions.session_branch import SessionBranch
from versioned_zarr.backends.lakefs.trees.metadata_cache import ObjectLocation
from versioned_zarr.blocks.file_reader import read_value
from versioned_zarr.engine.sessions.protocol import StagingChangedError
from versioned_zarr.errors import (
    ConflictError,
    RefNotFoundError,
)
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.diff_tree import KeyChange, changes

_LOOKED_AT = 50


class StagedSession(NamedTuple):
    """The staged writes of a session that is about to commit.

    Attributes:
        base: the lakeFS commit on which it is based.
        root: the tree with all writes.
        changed: the keys that it wrote or deleted (None), with their values.
    """

    base: str
    root: Cid
    changed: Mapping[str, Cid | None]


class CommitWriter:
    """See the module. Thread-safe."""

    def __init__(self, parts: LakefsContext) -> None:
        self._lakefs_folder = parts.lakefs_folder
        self._client, self._prefix = parts.lakefs_folder.client, parts.lakefs_folder.prefix
        self._blocks, self._trees, self._commits = parts.blocks, parts.trees, parts.commits
        self._tree_reader, self._workers = parts.tree_reader, parts.lakefs_folder.workers
        self._hidden = HiddenBranches(self._client, self._workers)
        # The staged writes of sessions that are about to commit.
        self._offers: WeakKeyDictionary[SessionBranch, StagedSession] = WeakKeyDictionary()
        self._guard = ForkSafeLock()

    def offer(self, branch: SessionBranch, offer: StagedSession) -> None:
        """Called for a session that has staged all its writes and is about to commit."""
        with self._guard:
            self._offers[branch] = offer

    def _staged(self, base: str, root: Cid) -> tuple[str, StagedSession] | None:
        """The branch of a session with this tree and base, and its staged writes; returned once."""
        with self._guard:
            for branch, offer in self._offers.items():
                if (offer.base, offer.root) == (base, root) and branch.name is not None:
                    self._offers[branch] = StagedSession(
                        "", root, {}
                    )  # its values can still be linked
                    return branch.name, offer
        return None

    def _location(self, cid: Cid) -> ObjectLocation | None:
        """The location of a value, in a commit or on the branch of a session that is committing."""
        with self._guard:
            branches = list(self._offers)
        found = (branch.location(cid) for branch in branches)
        return next(
            (location for location in found if location), None
        ) or self._blocks.metadata_cache.location(cid)

    # Commits

    def merge_onto(self, branch: str, head: str, cid: Cid) -> str:
        """Merge a commit of ours into a branch with its first parent as head; returns the new head.

        Raises:
            BranchMovedError: the branch is no longer at `head`.
        """
        commit = commits.read(cid, self._blocks)
        tree = self._tree_link(commit)
        parents = self._parents(cid)
        metadata = commit_metadata.encode(commit, tree, parents, on=head, prefix=self._prefix)
        message = commit_metadata.shown_message(commit.message)

        def merge(source: str, *, squash: bool) -> str:
            with self._hidden.claim(branch, head):
                if self._client.head(branch) != head:
                    raise moved_on(branch, head)
                return self._client.merge(
                    source, branch, message, metadata, squash=squash, allow_empty=True
                )

        if len(parents) == 2 and self._merges_alike(head, parents[1].id, tree.cid):
            return merge(parents[1].id, squash=False)
        ready = self._staged(head, tree.cid)
        with self._hidden.own(head) if ready is None else contextlib.nullcontext(ready[0]) as work:
            sent = [] if ready is not None else self._stage(work, head, tree.cid)
            made = self._commit(work, cid, message, {**metadata, commit_metadata.WORK: "1"})
            # Others may write to a session's branch; the merged commit does not change.
            if ready is not None and not self._holds(head, made.id, ready[1].changed):
                raise StagingChangedError
            new = merge(made.id, squash=True)
        self._remember(new, sent)
        return new

    def _holds(self, on: str, commit: str, changed: Mapping[str, Cid | None]) -> bool:
        """Whether a lakeFS commit differs from another one in exactly these keys and values.

        Costs one request per 1000 keys that differ.
        """
        old, prefix = self._tree_reader.tree_of(on).cid, self._prefix
        wanted = {prefix + key: value for key, value in changed.items()}
        differing = self._client.diff(on, commit, prefix=prefix, with_stats=True)
        found = {each.path: each for each in differing}
        for path in found.keys() - wanted.keys():  # such as one that was rewritten without a change
            before = self._trees.subtree(old, path[len(prefix) :])
            wanted[path] = None if before is None else before.cid
        untold = []
        for path, value in wanted.items():
            there = found.get(path)
            said = None if there is None or there.told is None else value_of(there.told)
            if there is None or there.kind == "removed" or said is None:
                untold.append(path)
            elif said != value:
                return False
        for path, stat in self._lakefs_folder.stats(commit, untold):
            found_cid = None if stat is None else self._tree_reader.value(commit, stat).cid
            if found_cid != wanted[path]:
                return False
        return True

    def _merges_alike(self, head: str, theirs: str, root: Cid) -> bool:
        """Whether a lakeFS merge of two commits, which merges by path, has a given tree; tried out.

        Each path that a lakeFS merge changes has the object of the other side, so it is enough to
        compare paths. Costs four requests and one per 1000 keys.
        """
        if not theirs:
            return False
        old, other = self._tree_reader.tree_of(head).cid, self._tree_reader.tree_of(theirs).cid
        wanted: dict[str, bool] = {}
        for change in changes(self._trees, old, root):
            found = self._trees.find(other, change.key)
            if (found and found.cid) != (change.new and change.new.cid):
                return False
            wanted[self._prefix + change.key] = change.new is None
        with self._hidden.own(head) as work:
            try:
                self._client.merge(
                    theirs, work, "Try", {commit_metadata.WORK: "1"}, squash=True, allow_empty=True
                )
            except (ConflictError, RefusedError, RefNotFoundError, AnswerLostError):
                return False
            differing = self._client.diff(head, work)
            return {each.path: each.kind == "removed" for each in differing} == wanted

    def _remember(self, commit: str, sent: Iterable[tuple[Cid, ObjectLocation]]) -> None:
        """Record that the values staged on a branch of ours are in a commit now."""
        locations = ((cid, location._replace(ref=commit)) for cid, location in sent)
        self._blocks.metadata_cache.add_locations(locations)

    def make(self, cid: Cid) -> str:
        """Create a lakeFS commit for a commit of ours, and for its ancestors, on no branch."""
        waiting = [cid]
        while waiting:
            commit = commits.read(waiting[-1], self._blocks)
            absent = [
                from_text(parent)
                for parent in commit.parents
                if self._commits.id_of(from_text(parent)) is None
            ]
            if absent:
                waiting += absent[::-1]
                continue
            self._make(waiting.pop(), commit)
        found = self._commits.id_of(cid)
        assert found is not None
        return found

    def _make(self, cid: Cid, commit: Commit) -> None:
        if self._commits.id_of(cid) is not None:
            return
        first = from_text(commit.parents[0]) if commit.parents else None
        on = self._first_commit() if first is None else self._commits.id_of(first)
        assert on is not None
        tree = self._tree_link(commit)
        with self._hidden.own(on) as work:
            sent = self._stage(work, on, tree.cid)
            metadata = commit_metadata.encode(
                commit, tree, self._parents(cid), on=on, prefix=self._prefix
            )
            message = commit_metadata.shown_message(commit.message)
            made = self._commit(work, cid, message, metadata)
        self._commits.take(made)
        self._remember(made.id, sent)

    def _commit(
        self, work: str, cid: Cid, message: str, metadata: Mapping[str, str]
    ) -> LakefsCommit:
        """Commit the staged changes on a branch of ours."""
        name = to_text(cid)
        return self._client.commit_surely(
            work, message, metadata, lambda found: commit_metadata.named_in(found.metadata) == name
        )

    def landed(self, branch: str, cid: Cid) -> str | None:
        """The lakeFS commit, among the last of a branch, that was made for a commit of ours.

        Others may have committed after it, so it need not be the head. None if there is none.
        """
        last = zip(range(_LOOKED_AT), self._client.log(branch, amount=_LOOKED_AT), strict=False)
        made = (
            found.id
            for _, found in last
            if commit_metadata.named_in(found.metadata) == to_text(cid)
        )
        return next(made, None)

    def _first_commit(self) -> str:
        """The first commit of the lakeFS repository. O(history) requests of 1000 commits."""
        _, head = next(self._client.branches())
        *_, first = self._client.log(head, first_parent=True)
        return first.id

    def parents_of(self, cid: Cid) -> list[Cid]:
        """The parents of a commit of ours."""
        return [from_text(parent.cid) for parent in self._parents(cid)]

    def _tree_link(self, commit: Commit) -> Link:
        return commits.link_to(from_text(commit.tree), self._blocks)

    def _parents(self, cid: Cid) -> list[ParentMetadata]:
        links = {link.name: link for link in unixfs.decode(self._blocks.get(cid)).links}
        if "parents" not in links:
            return []
        node = unixfs.decode(self._blocks.get(links["parents"].cid))
        numbered = sorted(node.links, key=lambda link: int(link.name))
        return [self._commits.parent_at(link.cid, link.tsize) for link in numbered]

    # Staging

    def _stage(self, work: str, on: str, root: Cid) -> list[tuple[Cid, ObjectLocation]]:
        """Stage a tree on a branch; costs one request per key that differs.

        Returns the locations of the values there.
        """
        old = self._tree_reader.tree_of(on).cid
        differing = list(changes(self._trees, old, root))
        gone = [self._prefix + change.key for change in differing if change.new is None]
        self._client.delete_many(work, gone)
        changed = [change for change in differing if change.new is not None]
        return list(self._workers.stream(lambda change: self._send(work, change), changed))

    def _send(self, work: str, change: KeyChange) -> tuple[Cid, ObjectLocation]:
        link = change.new
        assert link is not None
        path = self._prefix + change.key
        location = self._location(link.cid)
        if location is not None and self._linked(work, path, location, link):
            return link.cid, ObjectLocation(work, path, location.size)
        data = read_value(self._blocks.get, link.cid)
        size, text = len(data), to_text(link.cid)
        self._client.upload(
            work,
            path,
            data,
            {},
            seal=lambda checksum: value_metadata(text, size, link.tsize, checksum),
        )
        return link.cid, ObjectLocation(work, path, len(data))

    def _linked(self, work: str, path: str, location: ObjectLocation, link: Link) -> bool:
        """Link a value that lakeFS already has; returns whether it still existed."""
        stat = self._client.stat(location.ref, location.path)
        if stat is None:
            return False
        metadata = value_metadata(to_text(link.cid), stat.size, link.tsize, stat.checksum)
        self._client.link(work, path, stat, metadata)
        return True

    # Branches

    def move(self, branch: str, head: str, to: str) -> None:
        """Move a branch to the commit that a lakeFS commit represents, anywhere in the history.

        lakeFS moves a branch without comparing its head, so a concurrent commit would be lost.
        Therefore, this merges: the branch gets a commit with the tree, which represents the other
        commit if it was made on `head`. Concurrent commits are never lost.

        Raises:
            BranchMovedError: the branch is no longer at `head`.
        """
        if to == head:
            return
        metadata = commit_metadata.as_before(to, on=head, prefix=self._prefix)
        message = self._commits.find(to).message or "Move"
        with self._source_of(branch, head, to) as source, self._hidden.claim(branch, head):
            if self._client.head(branch) != head:
                raise moved_on(branch, head)
            is_whole = source == to
            try:
                new = self._client.merge(
                    source, branch, message, metadata, squash=not is_whole, allow_empty=True
                )
            except AnswerLostError:
                new = self._client.head(branch)
                if new == head:
                    raise
        made = self._commits.find(new)
        if made.parents[:1] != (head,) or commit_metadata.same_as(made, self._prefix) != to:
            raise moved_on(branch, head)

    @contextlib.contextmanager
    def _source_of(self, branch: str, head: str, to: str) -> Iterator[str]:
        """What to merge into a branch at `head` so that it has the tree of a commit."""
        if self._client.merge_base(to, branch) == head:
            yield to
            return
        if self._client.is_protected(branch):
            raise RefusedError(
                f"{branch!r} is a protected branch of lakeFS: only merges can update it"
            )
        with self._hidden.own(head) as work:
            self._stage(work, head, self._tree_reader.tree_of(to).cid)
            own = {commit_metadata.WORK: "1"}
            yield self._client.commit_surely(work, "Move", own, lambda made: made.id != head).id
