"""A repository: snapshots, sessions, branches and tags over blocks and refs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar, Literal

from versioned_zarr import _hooks
from versioned_zarr._hooks import shows_progress
from versioned_zarr.blocks.file_reader import read_stored
from versioned_zarr.engine import rewrite
from versioned_zarr.engine.commit import head_of
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.blame import Blame
from versioned_zarr.engine.hierarchy.diff import Diff
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve
from versioned_zarr.engine.log_queries import array_blame, bisected, log_of
from versioned_zarr.engine.maintenance import gc, repack
from versioned_zarr.engine.maintenance.collected import Collected
from versioned_zarr.engine.maintenance.fsck import fsck
from versioned_zarr.engine.maintenance.report import Report
from versioned_zarr.engine.maintenance.stats import Stats, measure
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.ref_mappings import Branches, Tags
from versioned_zarr.engine.ref_text import Ref, ref_text
from versioned_zarr.engine.revisions import ResolvedVersion, compared, resolve
from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.engine.sessions.local_session_store import LocalSessionStore
from versioned_zarr.engine.sessions.open_sessions import OpenSessions, Sessions, check_id
from versioned_zarr.errors import InvalidInputError, VersionedZarrError
from versioned_zarr.history.commit_object import Commit, default_author
from versioned_zarr.history.log import Log, standing_at
from versioned_zarr.history.ref_names import check_ref_name
from versioned_zarr.history.refs import HEADS, RefEntry
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.repository.guessed_names import HintsAtClassNames
from versioned_zarr.repository.publish_methods import PublishMethods
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.session_end import check_on_nothing
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.repository.transfer_methods import TransferMethods
from versioned_zarr.tree.diff_tree import changes

_LOG = logging.getLogger("versioned_zarr")


class Repository(
    TransferMethods,
    PublishMethods,
    _hooks.HintsAtNames,
    _hooks.ShownAtPrompt,
    metaclass=HintsAtClassNames,
):
    """A repository of versioned Zarr data. Thread-safe; pickled by URL.

    Open one with `versioned_zarr.open`, or create one with `versioned_zarr.create`.

    Attributes:
        url: its location.

    Example:
        >>> import versioned_zarr as vz
        >>> repo = vz.create("memory://shown")
        >>> with repo.session("main", message="First run") as session:
        ...     session.write("a", b"1")
        >>> branched = repo.branches.create("warmer")
        >>> with repo.session("warmer", message="Two degrees more") as session:
        ...     session.write("b", b"2")
        >>> print(repo.diff("main", "warmer"))
        added key b
        >>> repo.merge("warmer", into="main").message
        'Two degrees more'
        >>> [commit.message for commit in repo.log("main", path="b")]
        ['Two degrees more']
    """

    def __init__(
        self, stores: RepositoryContext, reopen: Callable[..., Any] | None = None, *arguments: Any
    ) -> None:
        if reopen is None:
            raise TypeError(
                "a repository is opened with vz.open('PATH'), or created with vz.create('PATH')"
            )
        self.url = stores.storage.url
        # Other modules of the package use these two: the context and the open sessions.
        self._stores = stores
        self._open_sessions = OpenSessions(stores.session_store or LocalSessionStore(stores))
        self._reopen = (reopen, arguments)

    def _name(self) -> str:
        return f"<Repository {self.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen

    @property
    def hash(self) -> str:
        """The name of the hash function: "sha2-256" or "blake3"."""
        return self._stores.hash.name

    # Reading

    def checkout(self, ref: Ref = "main") -> Snapshot:
        """Return the immutable snapshot that a ref currently names.

        Args:
            ref: a branch, a tag, a commit CID or its first 8 or more characters, a tree CID, or
                one of `REF~N`, `REF^N`, `BRANCH@{N}` (from the reflog), `REF@{TIME}` (as of). Or a
                commit or snapshot, here and wherever a ref is accepted.

        Raises:
            InvalidRefError: the ref cannot be parsed.
            RefNotFoundError: the ref does not exist.
        """
        version: ResolvedVersion = resolve(self._stores, ref_text(ref))
        return Snapshot(self, version.tree, version.commit)

    def __getitem__(self, ref: Ref) -> Snapshot:
        return self.checkout(ref)

    __iter__: ClassVar[None] = None
    """Not iterable, although it has items; `branches` and `tags` are."""

    def log(self, ref: Ref = "main", *, path: str | None = None) -> Log:
        """Iterate over the commits that a ref reaches, newest first. Lazy.

        The iterator displays as a graph, with `print` and in notebooks.

        Args:
            ref: see `checkout`; not a bare tree. `A..B` means commits that B reaches and A does
                not.
            path: only commits that changed this path, detected by its CID. Where it was moved to
                this path, the log continues with the earlier path.

        Raises:
            RefNotFoundError: the ref does not exist.
            InvalidKeyError: the path is not valid.
        """
        return log_of(
            self._stores, ref_text(ref), path, lambda: standing_at(self.branches, self.tags)
        )

    def diff(self, base: Ref, other: Ref | None = None) -> Diff:
        """Compare two refs, related or not. Lazy; skips equal subtrees.

        Args:
            base: the old side. Without `other`: a commit to compare with its first parent, or two
                refs in git's notation: `main..dev` compares the two, and `main...dev` shows what
                changed on `dev` since it diverged from `main`.
            other: the new side.
        """
        (old_name, old), (new_name, new) = compared(
            self._stores, ref_text(base), None if other is None else ref_text(other)
        )
        trees, read_link = self._stores.trees, self._stores.read_link

        def reader(root: Cid) -> Callable[[str], bytes | None]:
            return lambda key: read_link(link) if (link := trees.find(root, key)) else None

        return Diff(
            changes(trees, old, new),
            read_old=reader(old),
            read_new=reader(new),
            old_name=old_name,
            new_name=new_name,
            size=trees.size,
            read_range=lambda link, *ends: read_stored(self._stores.blocks, link.cid, *ends),
            sides=lambda: (Snapshot(self, old), Snapshot(self, new)),
        )

    def blame(self, path: str, ref: Ref = "main") -> Blame:
        """For each stored chunk of an array, the commit that last changed it.

        One walk over the history, which compares commits by the CID of the array; O(changed
        chunks). A chunk that a merge took from a parent is looked up in that parent's history, and
        an array that was moved is followed to its earlier path.

        Args:
            path: the path of the array.
            ref: where to begin; see `checkout`; not a bare tree.

        Raises:
            RefNotFoundError: the ref does not exist.
            KeyNotFoundError: there is no array with a regular chunk grid at the path.
        """
        return array_blame(self._stores, path, ref_text(ref))

    def bisect(self, good: Ref, bad: Ref, test: Callable[[Snapshot], bool]) -> Commit:
        """Find the first bad commit, as `git bisect` does; tests about log2(n) of n commits.

        Args:
            good: a commit that is good; not tested.
            bad: a commit that is bad; not tested.
            test: returns whether a snapshot is good.

        Returns:
            A bad commit of which each parent is good, among those that `bad` reaches and `good`
            does not.

        Raises:
            RefNotFoundError: a ref does not exist.
            InvalidRefError: the good commit contains the bad one.

        Example:
            >>> import versioned_zarr as vz
            >>> repo = vz.create("memory://bisected")
            >>> for number in range(8):
            ...     with repo.session(message=f"{number}") as session:
            ...         session.write("a", b"%d" % number)
            >>> found = repo.bisect("main~7", "main", lambda view: bytes(view.read("a")) < b"5")
            >>> found.message
            '5'
        """
        return bisected(
            self._stores,
            ref_text(good),
            ref_text(bad),
            lambda commit: test(Snapshot(self, from_text(commit.tree), commit)),
        )

    # Branches and tags

    @property
    def branches(self) -> Branches:
        """The branches: a Mapping from names to commits; `create`, `move`, `rename`, `delete`."""
        return Branches(self._stores)

    @property
    def tags(self) -> Tags:
        """The tags: a Mapping from names to commits, with `create`, `rename` and `delete`."""
        return Tags(self._stores)

    def reflog(self, branch: str = "main") -> Iterator[RefEntry]:
        """The earlier positions of a branch, newest first, including deleted branches."""
        return self._stores.refs.history(HEADS, check_ref_name(branch))

    # Writing

    def session(
        self,
        branch: str = "main",
        *,
        message: str | None = None,
        purpose: str = "",
        on_nothing: Literal["raise", "skip"] = "raise",
    ) -> Session:
        """Open a writable view of a branch, isolated until it commits.

        Args:
            branch: the branch to commit to.
            message: the message with which a clean end of its `with` block commits.
            purpose: a note that `sessions` shows.
            on_nothing: if nothing changed at this end: "raise" NothingToCommitError, or "skip".

        Raises:
            RefNotFoundError: there is no such branch.
        """
        check_on_nothing(on_nothing)
        base = head_of(self._stores, branch)
        head = SessionHead.new(branch, base.cid, default_author(), purpose)
        working = self._open_sessions.begin(head, from_text(base.tree))
        return Session(self, working, message, on_nothing=on_nothing)

    @property
    def sessions(self) -> Sessions:
        """The uncommitted sessions: a Mapping from ids to `SessionInfo`, with `delete`."""
        return Sessions(self._open_sessions)

    def resume(self, id: str, *, message: str | None = None, mend: bool = True) -> Session:
        """Resume a session by its id, with everything that it wrote.

        Data that other processes wrote is read and hashed, O(its bytes). Writes that did not
        survive a crash of the machine are dropped, so that the rest can be committed.
        `Session.dropped` lists them, and the logger `versioned_zarr` warns about them.

        Args:
            id: see `sessions`.
            message: the message with which a clean end of its `with` block commits.
            mend: drop damaged writes. With False, inspect a session without changing it.

        Raises:
            SessionNotFoundError: there is no such session.
            CorruptJournalError: `session.json` is damaged, or a journal that a process still
                writes.
            InvalidInputError: the id is not valid.
        """
        cut = self._open_sessions.store.mend(check_id(id)) if mend else None
        working = self._open_sessions.state_of(check_id(id))
        dropped = [] if cut is None else [cut]
        for key in working.drop_damaged() if mend else ():
            dropped.append(f"the write to {key!r} was lost in a crash and was dropped")
        for each in dropped:
            _LOG.warning("session %s of %s: %s", id, self.url, each)
        return Session(self, working, message, dropped=dropped)

    # Merging

    def merge(
        self,
        source: Ref,
        into: str = "main",
        *,
        message: str | None = None,
        resolve: Resolve = None,
        author: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Commit:
        """Merge a ref into a branch; returns the commit that the branch names afterwards.

        This is a three-way merge on the merge base. If the branch has no commits of its own, it
        only moves (fast-forward). If it already contains everything, nothing happens. Chunks merge
        individually, shards per inner chunk, and metadata per field. If chunks of a node mean
        different things on the two sides, or if one side removed the node, the whole node is one
        conflict and is taken from one side. Consolidated metadata is updated to match the nodes.

        Args:
            source: what to merge; see `checkout`.
            into: the branch to commit to.
            message: the commit message; `Merge SOURCE into BRANCH` by default.
            resolve: "ours" (the branch's side), "theirs", a mapping from path patterns to those,
                or a function of a `Conflict` that returns a side, bytes, a `FieldValue` or None.
            author: see `Session.commit`.
            metadata: see `Session.commit`.

        Raises:
            ConflictError: both sides changed the same data; lists path, kind, base, ours and
                theirs.
            InvalidInputError: `resolve` is none of these.
        """
        theirs = ref_text(source)
        commit = rewrite.merge(
            self._stores, theirs, into, message, resolve, author=author, metadata=metadata
        )
        # The merge is complete, even if merging small packs fails.
        with suppress(VersionedZarrError, OSError):
            self._tidy()
        return commit

    def revert(self, commit: Ref, into: str = "main", *, resolve: Resolve = None) -> Commit:
        """Undo an earlier commit with a new commit on a branch.

        Args:
            commit: the commit to undo; see `checkout`.
            into: the branch to commit to.
            resolve: resolves conflicts; see `merge`.

        Raises:
            ConflictError: later commits changed the same data.
            NothingToCommitError: the branch does not contain the change, or no longer does.
        """
        return rewrite.revert(self._stores, ref_text(commit), into, resolve)

    def cherry_pick(self, commit: Ref, into: str = "main", *, resolve: Resolve = None) -> Commit:
        """Apply the changes of a commit to a branch, as a new commit.

        Args:
            commit: the commit to apply; see `checkout`.
            into: the branch to commit to.
            resolve: resolves conflicts; see `merge`.

        Raises:
            ConflictError: the branch changed the same data.
            NothingToCommitError: the branch already contains the changes.
        """
        return rewrite.cherry_pick(self._stores, ref_text(commit), into, resolve)

    def squash(self, since: Ref, into: str = "main", *, message: str | None = None) -> Commit:
        """Combine the commits of a branch after `since` into one commit with the same tree.

        The replaced commits stay in the branch's log.

        Args:
            since: the last commit to keep; see `checkout`.
            into: the branch to commit to.
            message: the commit message; by default, the messages of all replaced commits.

        Raises:
            InvalidRefError: `since` is not an ancestor of the branch.
            NothingToCommitError: there are no commits in between.
        """
        return rewrite.squash(self._stores, ref_text(since), into, message)

    # Maintenance

    @shows_progress("collecting")
    def gc(
        self,
        *,
        keep_reflog: timedelta = timedelta(days=30),
        dry_run: bool = False,
        progress: OnProgress | None = None,
    ) -> Collected:
        """Garbage-collect data that no branch, tag, reflog or session reaches. O(repository).

        Safe with concurrent writers.

        Args:
            keep_reflog: keep commits that the reflogs mention within this time; `timedelta.max`
                keeps all of them.
            dry_run: only report what would be removed.
            progress: called with the bytes of packs done and in total, first with 0 and then after
                each pack.

        Raises:
            InvalidInputError: `keep_reflog` is not a timedelta, or is negative.
        """
        self._check_kept_here("gc")
        return gc.collect(self._stores, keep_reflog, dry_run=dry_run, progress=progress)

    @shows_progress("repacking")
    def repack(self, *, progress: OnProgress | None = None) -> Collected:
        """Combine small packs into a few large ones, and make values contiguous. O(their packs).

        The values of the commits that branches and tags name become contiguous, if leaves of them
        were stored with other values; values of older commits that share these leaves do not.
        While it copies, it needs free space for the new packs.

        Args:
            progress: as for `gc`, for the packs that are combined; not called if there are none.
        """
        self._check_kept_here("repack")
        return repack.repack(self._stores, progress)

    def _tidy(self) -> None:
        """Merge the packs of small commits if there are many; called after commits."""
        if not self._stores.upkeep:
            repack.tidy(self._stores)

    def _check_kept_here(self, what: str) -> None:
        if self._stores.upkeep:
            raise InvalidInputError(f"no {what} on {self.url!r}: {self._stores.upkeep}")

    @shows_progress("checking")
    def fsck(self, *, read_all: bool = True, progress: OnProgress | None = None) -> Report:
        """Verify the repository.

        The report names missing and damaged data, and the affected keys and commits.

        Args:
            read_all: read and hash every block; otherwise only check that it exists.
            progress: as for `gc`.
        """
        self._check_kept_here("fsck")
        return fsck(self._stores, read_all=read_all, progress=progress)

    def stats(self) -> Stats:
        """The size of the repository, and how much of it the refs share."""
        return measure(self._stores)
