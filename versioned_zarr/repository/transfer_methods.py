"""Transfer methods of a repository: by remote name, by URL and by CAR file."""

from __future__ import annotations

import os
from collections.abc import Sequence

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve
from versioned_zarr.engine.maintenance import repack
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.remotes import Remotes
from versioned_zarr.engine.transfer import car_files, push_fetch
from versioned_zarr.engine.transfer.push_fetch import Transfer


class TransferMethods:
    """The methods of `Repository` that move versions from one repository to another."""

    _stores: RepositoryContext

    @property
    def remotes(self) -> Remotes:
        """Other repositories: a Mapping of names to URLs, with `add` and `delete`."""
        return Remotes(self._stores)

    def push(
        self,
        to: str | os.PathLike[str],
        refs: str | Sequence[str] | None = None,
        *,
        force_with_lease: bool | str | None = None,
        progress: OnProgress | None = None,
    ) -> Transfer:
        """Bring another repository what refs of this one reach, and move its refs.

        Only what its refs do not reach is looked at, and only blocks that it lacks are sent, each
        verified. Interrupted, it leaves that repository sound; called again, it sends the rest.

        Args:
            to: the name of a remote, a path or a URL.
            refs: one or more of `REF` or `REF:NAME`, the name it shall have there; `tags/NAME`
                for a tag. All branches and tags by default. Nothing is sent unless all can move.
            force_with_lease: move refs also where that takes commits away from a branch, provided
                that they stand where they were when this repository saw them last (True), or at
                this commit, which is one of this repository (text).
            progress: called after each batch that was stored.

        Raises:
            BranchMovedError: a branch there has commits that this one lacks, or the lease is over.
            AlreadyExistsError: a tag there is at another commit.
            RepositoryNotFoundError: there is neither such a remote nor a repository.
            InvalidInputError: the other one names blocks with another hash function.
            CorruptBlockError: a block here is damaged; no ref was moved.
        """
        self.remotes.check_name(to)
        return push_fetch.push(
            self._stores, to, refs, force_with_lease=force_with_lease, progress=progress
        )

    def fetch(
        self,
        source: str | os.PathLike[str],
        refs: str | Sequence[str] | None = None,
        *,
        progress: OnProgress | None = None,
    ) -> Transfer:
        """Bring what branches and tags of another repository reach, and note where they stand.

        Its branch `main` is `REMOTE/main` here, which `checkout`, `merge` and all that reads take;
        `fetched/main` if the URL has no name among `remotes`. No branch of this one moves. A tag
        that is here already stays.

        Args:
            source: the name of a remote, a path or a URL.
            refs: its branches and tags; all by default.
            progress: called after each batch that was stored.

        Raises:
            RepositoryNotFoundError: there is neither such a remote nor a repository.
            RefNotFoundError: it has no such ref.
            AlreadyExistsError: a tag that was asked for is another one here.
            InvalidInputError: it names blocks with another hash function.
        """
        self.remotes.check_name(source)
        return push_fetch.fetch(self._stores, source, refs, progress=progress)

    def pull(
        self,
        source: str | os.PathLike[str],
        refs: str | Sequence[str] | None = None,
        *,
        resolve: Resolve = None,
        progress: OnProgress | None = None,
    ) -> Transfer:
        """Fetch branches of another repository, and merge each into the branch of its name.

        Args:
            source: the name of a remote, a path or a URL.
            refs: one or more of `BRANCH` or `BRANCH:INTO`; "main" by default. A branch that is
                not here is made.
            resolve: settles conflicts; see `merge`.
            progress: called after each batch that was stored.

        Raises:
            ConflictError: both sides changed the same; what was fetched stays fetched.
            RepositoryNotFoundError: there is neither such a remote nor a repository.
            RefNotFoundError: it has no such branch.
        """
        self.remotes.check_name(source)
        return push_fetch.pull(self._stores, source, refs, resolve=resolve, progress=progress)

    def export_car(
        self,
        ref: str,
        path: str | os.PathLike[str],
        *,
        history: bool = False,
        since: str | None = None,
        version: int = 1,
        progress: OnProgress | None = None,
    ) -> str:
        """Write a snapshot as a CAR file, which every IPFS tool reads; gives the CID of its root.

        Every block is verified, and is in the file once, those above before those below. The file
        appears when it is whole. Memory does not grow with the bytes, but by about 150 bytes a
        block.

        Args:
            ref: see `checkout`.
            path: the file, which is replaced if it is there.
            history: the commit, with all commits before it, rather than its tree alone.
            since: a ref; leave out what it reaches, which the reader must have.
            version: 1 for CARv1, 2 for CARv2 with an index.
            progress: called now and then.

        Raises:
            RefNotFoundError: nothing answers to `ref` or `since`.
            CorruptBlockError: a block is damaged; no file was written.
            StorageError: the file cannot be written.
        """
        return car_files.export_car(
            self._stores,
            ref,
            path,
            history=history,
            since=since,
            version=version,
            progress=progress,
        )

    def import_car(
        self,
        path: str | os.PathLike[str],
        *,
        as_branch: str | None = None,
        progress: OnProgress | None = None,
    ) -> list[str]:
        """Store the blocks of a CARv1 or CARv2 file, each verified; gives the CIDs of its roots.

        A root can be checked out by its CID at once. `gc` removes it unless a ref names it.

        Args:
            path: the file.
            as_branch: let this branch name the root, a commit: a new one, or one that the commit
                comes after. Nothing is named unless all that it reaches is here.
            progress: called after each batch that was stored.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptError: the file is cut off or no CAR; the message names the byte. Blocks before
                it may have been stored, and nothing names them.
            CorruptBlockError: a block is not what its CID says; likewise.
            InvalidCidError: a block is named in a way that no repository keeps, as by a CIDv0.
            InvalidInputError: blocks are named with another hash function than the repository's.
            BlockNotFoundError: `as_branch` was given, and something is missing.
        """
        roots = car_files.import_car(self._stores, path, as_branch=as_branch, progress=progress)
        repack.tidy(self._stores)
        return roots
