"""A repository: snapshots, sessions, branches and tags over blocks and refs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from versioned_zarr import _hooks
from versioned_zarr.blocks.file_reader import read_stored
from versioned_zarr.engine import rewrite
from versioned_zarr.engine.commit import head_of
from versioned_zarr.engine.context import Publisher, RepositoryContext
from versioned_zarr.engine.hierarchy.diff import Diff
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve
from versioned_zarr.engine.log_queries import log_of
from versioned_zarr.engine.maintenance import gc, repack
from versioned_zarr.engine.maintenance.fsck import fsck
from versioned_zarr.engine.maintenance.repack import Collected
from versioned_zarr.engine.maintenance.report import Report
from versioned_zarr.engine.maintenance.stats import Stats, measure
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.ref_mappings import Branches, Tags
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
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.repository.transfer_methods import TransferMethods
from versioned_zarr.tree.diff_tree import changes
from versioned_zarr.urls import split_url

_LOG = logging.getLogger("versioned_zarr")


class Repository(TransferMethods, _hooks.Shown):
    """A repository whose blocks and refs this package keeps itself. Thread-safe; pickles by URL.

    Got from `versioned_zarr.open` and `versioned_zarr.create`.

    Attributes:
        url: where it lives.
    """

    def __init__(
        self, stores: RepositoryContext, reopen: Callable[..., Any], *arguments: Any
    ) -> None:
        self.url = stores.storage.url
        # The package's own modules read these two: what it is made of, and its open sessions.
        self._stores = stores
        self._open_sessions = OpenSessions(stores.keeper or LocalSessionStore(stores))
        self._reopen = (reopen, arguments)

    def __repr__(self) -> str:
        return f"<Repository {self.url}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen

    @property
    def hash(self) -> str:
        """The name of the hash function: "sha2-256" or "blake3"."""
        return self._stores.hash.name

    # Reading

    def checkout(self, ref: str = "main") -> Snapshot:
        """The immutable snapshot that a ref names now.

        Args:
            ref: a branch, tag, commit CID or a prefix of 8 or more characters, a tree CID, or
                one of `REF~N`, `REF^N`, `BRANCH@{N}` (the branch's log), `REF@{TIME}` (as of).

        Raises:
            InvalidRefError: the text cannot be read.
            RefNotFoundError: nothing answers to it.
        """
        version: ResolvedVersion = resolve(self._stores, ref)
        return Snapshot(self, version.tree, version.commit)

    def log(self, ref: str = "main", *, path: str | None = None) -> Log:
        """The commits that a ref reaches, the newest first; read as they are asked for.

        An iterator that also shows itself as a graph, by `print` and in notebooks.

        Args:
            ref: see `checkout`; not a bare tree. `A..B` stands for what B reaches and A does not.
            path: only commits that changed what lies at this path, told by its CID.

        Raises:
            RefNotFoundError: there is no such ref.
            InvalidKeyError: nothing can lie at the path.
        """
        return log_of(self._stores, ref, path, lambda: standing_at(self.branches, self.tags))

    def diff(self, base: str, other: str | None = None) -> Diff:
        """What differs between two refs, related or not; lazily, skipping what is equal.

        Args:
            base: the old side; alone, the commit that is compared with its first parent, or two
                refs as git writes them: `main..dev` for the two, `main...dev` for what `dev` did
                since it left `main`.
            other: the new side.
        """
        (old_name, old), (new_name, new) = compared(self._stores, base, other)
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
        )

    # Branches and tags

    @property
    def branches(self) -> Branches:
        """The branches: a Mapping of names to commits; `create`, `move`, `rename`, `delete`."""
        return Branches(self._stores)

    @property
    def tags(self) -> Tags:
        """The tags: a Mapping of names to commits, with `create`, `rename` and `delete`."""
        return Tags(self._stores)

    def reflog(self, branch: str = "main") -> Iterator[RefEntry]:
        """Where a branch stood, the newest first, also of a branch that was deleted."""
        return self._stores.refs.history(HEADS, check_ref_name(branch))

    # Names that others can find

    def publish(self, ref: str = "main", *, key: str | None = None) -> str:
        """Let an IPNS name stand for the snapshot that a ref names now.

        The node signs it, also where it has no network. To publish again with the same key moves
        the name.

        Args:
            ref: see `checkout`.
            key: the node's key that signs, made if there is none; by default one for this
                repository and ref.

        Returns:
            The name, as `ipns://k51…`.

        Raises:
            InvalidInputError: the repository is not on an IPFS node.
        """
        tree = resolve(self._stores, ref).tree
        # No ref has a colon in it but one with a time, so that no two of these are the same.
        own = f"versioned-zarr:{split_url(self.url).path.strip('/')}:{ref}"
        return self._publisher().publish(tree, own if key is None else key)

    def resolve(self, name: str) -> Snapshot:
        """The snapshot that an IPNS name stands for.

        Raises:
            RefNotFoundError: the name stands for nothing that the node knows.
            InvalidInputError: the repository is not on an IPFS node.
        """
        tree, path = self._publisher().resolve(name)
        return Snapshot(self, tree, None).path(path)

    def _publisher(self) -> Publisher:
        if self._stores.publisher is None:
            raise InvalidInputError(
                f"{self.url!r} is not on an IPFS node; only an IPFS node can publish: push it "
                "to one"
            )
        return self._stores.publisher

    # Writing

    def session(
        self, branch: str = "main", *, message: str | None = None, purpose: str = ""
    ) -> Session:
        """A writable view of a branch, isolated until it commits.

        Args:
            branch: where it will commit to.
            message: what a clean end of its `with` block commits with.
            purpose: what for; `sessions` tells it.

        Raises:
            RefNotFoundError: there is no such branch.
        """
        base = head_of(self._stores, branch)
        head = SessionHead.new(branch, base.cid, default_author(), purpose)
        return Session(self, self._open_sessions.begin(head, from_text(base.tree)), message)

    @property
    def sessions(self) -> Sessions:
        """The sessions that have written and not ended: a Mapping of ids, with `delete`."""
        return Sessions(self._open_sessions)

    def resume(self, id: str, *, message: str | None = None, mend: bool = True) -> Session:
        """The session of this id, with all that it wrote, to resume it.

        What other processes wrote is read and hashed, O(its bytes). What did not survive a crash
        of the machine is taken back, so that the rest can be committed: `Session.dropped` tells
        of it, and so does a warning in the log `versioned_zarr`.

        Args:
            id: see `sessions`.
            message: what a clean end of its `with` block commits with.
            mend: take back what is damaged. False to look into a session and change nothing.

        Raises:
            SessionNotFoundError: there is none.
            CorruptJournalError: its head is damaged, or its journal, which a process still writes.
            InvalidInputError: that is no id.
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
        source: str,
        into: str = "main",
        *,
        message: str | None = None,
        resolve: Resolve = None,
        author: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> Commit:
        """Bring a branch what another ref has; the commit that the branch names afterwards.

        Three-way on the merge base. If the branch has nothing of its own it is only moved
        (fast-forward); if it has all of it already, nothing happens. Chunks merge with chunks, in
        shards inner chunk by inner chunk, and metadata field by field; a node whose chunks mean
        one thing on one side and another on the other, or that one side removed, is one conflict
        and taken whole. Consolidated metadata follows the nodes.

        Args:
            source: what to merge; see `checkout`.
            into: the branch that the commit is made on.
            message: why; `Merge SOURCE into BRANCH` by default.
            resolve: "ours" (the branch's side), "theirs", a mapping of path patterns to those,
                or a function of a `Conflict` that gives a side, bytes, a `FieldValue` or None.
            author: see `Session.commit`.
            metadata: see `Session.commit`.

        Raises:
            ConflictError: both sides changed the same; lists path, kind, base, ours and theirs.
            InvalidInputError: `resolve` is none of these.
        """
        commit = rewrite.merge(
            self._stores, source, into, message, resolve, author=author, metadata=metadata
        )
        # The merge is made, whatever keeps packs from being joined.
        with suppress(VersionedZarrError, OSError):
            self._tidy()
        return commit

    def revert(self, commit: str, into: str = "main", *, resolve: Resolve = None) -> Commit:
        """A new commit on a branch that undoes an earlier one.

        Args:
            commit: what to undo; see `checkout`.
            into: the branch that the commit is made on.
            resolve: settles conflicts; see `merge`.

        Raises:
            ConflictError: later commits changed the same.
            NothingToCommitError: the branch does not have the change (any more).
        """
        return rewrite.revert(self._stores, commit, into, resolve)

    def cherry_pick(self, commit: str, into: str = "main", *, resolve: Resolve = None) -> Commit:
        """A new commit on a branch that makes the change of a commit from elsewhere.

        Args:
            commit: whose change to make; see `checkout`.
            into: the branch that the commit is made on.
            resolve: settles conflicts; see `merge`.

        Raises:
            ConflictError: the branch has changed the same.
            NothingToCommitError: the branch has the change already.
        """
        return rewrite.cherry_pick(self._stores, commit, into, resolve)

    def squash(self, since: str, into: str = "main", *, message: str | None = None) -> Commit:
        """Replace the commits of a branch after `since` by one with the same tree.

        The commits that it replaces stay in the branch's log.

        Args:
            since: the last commit to keep; see `checkout`.
            into: the branch that the commit is made on.
            message: why; by default the messages of all that it replaces.

        Raises:
            InvalidRefError: `since` is not in the branch's past.
            NothingToCommitError: nothing lies between the two.
        """
        return rewrite.squash(self._stores, since, into, message)

    # Keeping

    def gc(
        self,
        *,
        keep_reflog: timedelta = timedelta(days=30),
        dry_run: bool = False,
        progress: OnProgress | None = None,
    ) -> Collected:
        """Remove what no branch, tag, recent log entry or session reaches. O(repository).

        Safe beside running writers.

        Args:
            keep_reflog: how far back the branches' logs keep commits alive; `timedelta.max`
                for all of them.
            dry_run: only say what would go.
            progress: called with the bytes of packs that are done and of all packs, first with
                0 and after each pack.

        Raises:
            InvalidInputError: `keep_reflog` is no time span, or less than none.
        """
        self._check_kept_here("gc")
        return gc.collect(self._stores, keep_reflog, dry_run=dry_run, progress=progress)

    def repack(self, *, progress: OnProgress | None = None) -> Collected:
        """Join all packs that are small into few large ones. O(what they hold).

        Args:
            progress: as for `gc`, of the packs that are joined; not called if none are.
        """
        self._check_kept_here("repack")
        return repack.repack(self._stores, progress)

    def _tidy(self) -> None:
        """Join the packs of small commits where many have come together; called after commits."""
        if not self._stores.upkeep:
            repack.tidy(self._stores)

    def _check_kept_here(self, what: str) -> None:
        if self._stores.upkeep:
            raise InvalidInputError(f"no {what} on {self.url!r}: {self._stores.upkeep}")

    def fsck(self, *, read_all: bool = True, progress: OnProgress | None = None) -> Report:
        """Check everything; says what is missing or damaged, and which keys and commits suffer.

        Args:
            read_all: read and hash every block, rather than only look whether it is there.
            progress: as for `gc`.
        """
        self._check_kept_here("fsck")
        return fsck(self._stores, read_all=read_all, progress=progress)

    def stats(self) -> Stats:
        """How much there is, and how much of it the refs share."""
        return measure(self._stores)
