"""Transfer methods of a repository: by remote name, by URL and by CAR file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Unpack

from versioned_zarr._hooks import shows_progress
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.hierarchy.merge.three_way import Resolve
from versioned_zarr.engine.maintenance import repack
from versioned_zarr.engine.open_options import Location, ServerOptions
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.ref_text import Ref, ref_text
from versioned_zarr.engine.remotes import Remotes
from versioned_zarr.engine.transfer import car_files, push_fetch
from versioned_zarr.engine.transfer.push_fetch import Transfer


class TransferMethods:
    """The methods of `Repository` that move versions from one repository to another."""

    _stores: RepositoryContext

    @property
    def remotes(self) -> Remotes:
        """The remotes: a Mapping from names to URLs, with `add` and `delete`."""
        return Remotes(self._stores)

    @shows_progress("pushing")
    def push(
        self,
        to: Location,
        refs: str | Sequence[str] | None = None,
        *,
        force_with_lease: bool | str | None = None,
        progress: OnProgress | None = None,
        **options: Unpack[ServerOptions],
    ) -> Transfer:
        """Send refs and their history to another repository.

        Looks only at data that the refs there do not reach, and sends only missing blocks,
        verified. If a push is interrupted, that repository stays consistent; the next push sends
        the rest.

        Args:
            to: the name of a remote, a path, a URL or a store of obstore.
            refs: one or more of `REF` or `REF:NAME`, where NAME is the name there; `tags/NAME` for
                a tag. All branches and tags by default. Nothing is sent unless all refs can move.
            force_with_lease: overwrite refs even if a branch loses commits, if they are still where
                this repository last saw them (True), or at this commit or ref (text).
            progress: called after each stored batch.
            options: the options of `vz.open` for the other repository, such as `storage_options`;
                they are not stored.

        Raises:
            BranchMovedError: a branch there has commits that this one lacks, or the lease failed.
            AlreadyExistsError: a tag there is at another commit.
            RepositoryNotFoundError: there is no such remote or repository.
            InvalidInputError: the other repository uses another hash function.
            CorruptBlockError: a block here is damaged; no ref was moved.
        """
        self.remotes.check_name(to)
        return push_fetch.push(
            self._stores,
            to,
            refs,
            force_with_lease=force_with_lease,
            progress=progress,
            options=options,
        )

    @shows_progress("fetching")
    def fetch(
        self,
        source: Location,
        refs: str | Sequence[str] | None = None,
        *,
        progress: OnProgress | None = None,
        **options: Unpack[ServerOptions],
    ) -> Transfer:
        """Fetch branches and tags of another repository, and their history.

        Its branch `main` becomes `REMOTE/main` here, which you can use wherever a ref is read, or
        `fetched/main` if the URL is not among `remotes`. Local branches do not move, and existing
        tags are kept.

        Args:
            source: the name of a remote, a path, a URL or a store of obstore.
            refs: its branches and tags; all by default.
            progress: called after each stored batch.
            options: see `push`.

        Raises:
            RepositoryNotFoundError: there is no such remote or repository.
            RefNotFoundError: it has no such ref.
            AlreadyExistsError: a requested tag names another commit here.
            InvalidInputError: it uses another hash function.
        """
        self.remotes.check_name(source)
        return push_fetch.fetch(self._stores, source, refs, progress=progress, options=options)

    @shows_progress("pulling")
    def pull(
        self,
        source: Location,
        refs: str | Sequence[str] | None = None,
        *,
        resolve: Resolve = None,
        progress: OnProgress | None = None,
        **options: Unpack[ServerOptions],
    ) -> Transfer:
        """Fetch branches of another repository and merge each into the branch of the same name.

        Args:
            source: the name of a remote, a path, a URL or a store of obstore.
            refs: one or more of `BRANCH` or `BRANCH:INTO`; "main" by default. A missing local
                branch is created.
            resolve: resolves conflicts; see `merge`.
            progress: called after each stored batch.
            options: see `push`.

        Raises:
            ConflictError: both sides changed the same data; the fetched data is kept.
            RepositoryNotFoundError: there is no such remote or repository.
            RefNotFoundError: it has no such branch.
        """
        self.remotes.check_name(source)
        return push_fetch.pull(
            self._stores, source, refs, resolve=resolve, progress=progress, options=options
        )

    @shows_progress("exporting")
    def export_car(
        self,
        ref: Ref,
        path: str | os.PathLike[str],
        *,
        history: bool = False,
        since: Ref | None = None,
        version: int = 1,
        progress: OnProgress | None = None,
    ) -> str:
        """Export a snapshot to a CAR file, a format of IPFS; returns the CID of its root.

        Every block is verified and written once, parents before children. The file appears only
        when it is complete. Memory grows by about 150 bytes per block, independent of the block
        size.

        Args:
            ref: see `checkout`.
            path: the file; an existing file is replaced.
            history: include the commit and its history, not only its tree.
            since: a ref; omit what it reaches, which the reader must have.
            version: 1 for CARv1, 2 for CARv2 with an index.
            progress: called from time to time.

        Raises:
            RefNotFoundError: `ref` or `since` does not exist.
            CorruptBlockError: a block is damaged; no file was written.
            StorageError: the file cannot be written.
        """
        return car_files.export_car(
            self._stores,
            ref_text(ref),
            path,
            history=history,
            since=None if since is None else ref_text(since),
            version=version,
            progress=progress,
        )

    @shows_progress("importing")
    def import_car(
        self,
        path: str | os.PathLike[str],
        *,
        as_branch: str | None = None,
        progress: OnProgress | None = None,
    ) -> list[str]:
        """Store the blocks of a CARv1 or CARv2 file, verified; returns the CIDs of its roots.

        A root can be checked out by its CID immediately. `gc` removes it unless a ref names it.

        Args:
            path: the file.
            as_branch: set this branch to the root, which must be a commit. The branch is new, or
                its commit is an ancestor of the root. It moves only if everything it reaches is
                present.
            progress: called after each stored batch.

        Raises:
            FileNotFoundError: there is no such file.
            CorruptError: the file is truncated or not a CAR file; the message names the byte.
                Earlier blocks may have been stored, but nothing refers to them.
            CorruptBlockError: a block does not match its CID; as above.
            InvalidCidError: a block has a CID that a repository cannot store, such as a CIDv0.
            InvalidInputError: the blocks use another hash function than the repository.
            BlockNotFoundError: `as_branch` was given, and a block is missing.
        """
        roots = car_files.import_car(self._stores, path, as_branch=as_branch, progress=progress)
        repack.tidy(self._stores)
        return roots
