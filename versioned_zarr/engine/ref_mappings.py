"""Ref mappings: branches and tags as mappings from names to commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar, overload

from versioned_zarr import _hooks
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.live_mapping import LiveMapping
from versioned_zarr.engine.ref_text import Ref, ref_text
from versioned_zarr.engine.revisions import resolve_commit
from versioned_zarr.errors import (
    AlreadyExistsError,
    BranchMovedError,
    CorruptRefError,
    InvalidInputError,
    InvalidRefError,
    RefNotFoundError,
)
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.ref_names import check_new_ref_name, check_ref_name
from versioned_zarr.history.refs import HEADS, TAGS, again_if_collected, create_or_explain
from versioned_zarr.ipld.cid import Cid, from_text, to_text

MAIN = "main"
T = TypeVar("T")


class _Names(_hooks.HintsAtNames, LiveMapping[Commit]):
    """Refs of one kind."""

    _kind: str
    _word: str

    def __init__(self, stores: RepositoryContext) -> None:
        super().__init__()
        self._stores = stores

    def __getitem__(self, name: str) -> Commit:
        return self._stores.commit(to_text(self._at(name)))

    def _names(self) -> list[str]:
        return self._stores.refs.names(self._kind)

    @overload
    def get(self, name: str, default: None = None, /) -> Commit | None: ...

    @overload
    def get(self, name: str, default: Commit | T, /) -> Commit | T: ...

    def get(self, name: str, default: Commit | T | None = None, /) -> Commit | T | None:
        """The commit of a name; the default if the name does not exist or is not valid."""
        try:
            return self[name]
        except (InvalidRefError, RefNotFoundError):
            return default

    def __contains__(self, name: object) -> bool:
        try:
            return self._stores.refs.read(self._kind, check_ref_name(name)) is not None
        except InvalidRefError:
            return False

    def __repr__(self) -> str:
        broken = self.broken
        also = f", broken: {list(broken)!r}" if broken else ""
        return f"<{type(self).__name__} {list(self)!r}{also}>"

    @property
    def broken(self) -> dict[str, CorruptRefError]:
        """The damaged refs, which are not among the others, each with its error.

        `delete` removes one; `create` can then restore it at its earlier commit.
        """
        return self._stores.refs.broken(self._kind)

    def _at(self, name: str) -> Cid:
        check_ref_name(name)
        entry = self._stores.refs.read(self._kind, name)
        if entry is None or entry.commit is None:
            raise RefNotFoundError(
                f"{self._word} {name!r} not found in {self._stores.storage.url!r}", ref=name
            )
        return entry.commit

    def create(self, name: str, at: Ref = MAIN) -> Commit:
        """Create a ref.

        Args:
            name: a name that `git check-ref-format` allows.
            at: the commit it names; see `Repository.checkout`.

        Raises:
            InvalidRefError: the name is not valid.
            AlreadyExistsError: the ref already exists.
            RefNotFoundError: `at` does not exist.
        """
        check_new_ref_name(name)
        at = ref_text(at)
        commit = resolve_commit(self._stores, at)
        why = f"{self._word}: created at {at}"

        def create() -> None:
            with self._kept(commit, at) as cid:
                create_or_explain(self._stores.refs, self._kind, name, cid, why)

        again_if_collected(create, stores=False)
        return commit

    @contextmanager
    def _kept(self, commit: Commit, at: str) -> Iterator[Cid]:
        """Prevent `gc` from removing a commit between finding it and naming it."""
        cid = from_text(commit.cid)
        with self._stores.blocks.keep([cid]) as is_kept:
            # What is condemned may yet be spared: the swap finds out.
            is_there = self._stores.collector is not None and cid in self._stores.blocks
            if not is_kept and not is_there:
                raise RefNotFoundError(f"the commit at {at!r} was just garbage-collected", ref=at)
            yield cid

    def delete(self, name: str) -> None:
        """Delete a ref; its commits are kept until `gc` finds that nothing reaches them.

        Also deletes a damaged ref (`broken`); the readable part of its log is kept.

        Raises:
            RefNotFoundError: there is no ref of this name.
        """
        why = f"{self._word}: deleted"
        try:
            commit = self._at(name)
        except CorruptRefError:
            self._stores.refs.remove(self._kind, name, why)
            return
        self._stores.refs.swap(self._kind, name, commit, None, why)

    def rename(self, old: str, new: str) -> None:
        """Rename a ref; if refs are logs in a folder, its log is renamed too.

        A concurrent commit goes to the new name, or fails because the old name no longer exists.

        Raises:
            RefNotFoundError: there is no ref of the old name.
            AlreadyExistsError: there is a ref of the new name.
        """
        check_new_ref_name(new)
        self._at(old)
        why = f"{self._word}: renamed {old} to {new}"
        try:
            self._stores.refs.rename(self._kind, old, new, why)
        except AlreadyExistsError as error:
            raise AlreadyExistsError(f"{self._word} {new!r} already exists", name=new) from error


class Branches(_Names):
    """The branches of a repository, a live Mapping from names to commits."""

    _kind = HEADS
    _word = "branch"

    def delete(self, name: str) -> None:
        """Delete a branch; `NAME@{1}` still finds its last commit.

        Raises:
            RefNotFoundError: there is no such branch.
            InvalidInputError: it is the last branch.
        """
        if list(self) == [name]:
            raise InvalidInputError(f"{name!r} is the last branch; create another one first")
        super().delete(name)

    def move(self, name: str, to: Ref, expect: Ref | None = None) -> Commit:
        """Move a branch to another commit, related or not.

        Args:
            name: the branch.
            to: the commit; see `Repository.checkout`.
            expect: the CID of the commit, or a ref, at which the branch must be.

        Raises:
            RefNotFoundError: there is no such branch or commit.
            BranchMovedError: the branch is not at the expected commit.
        """
        to = ref_text(to)
        commit = resolve_commit(self._stores, to)
        found = self._at(name)
        if expect is not None:
            wanted = resolve_commit(self._stores, ref_text(expect))
            if from_text(wanted.cid) != found:
                raise BranchMovedError(
                    f"branch {name!r} is at {to_text(found)}, not at {wanted.cid} as expected",
                    branch=name,
                    expected=wanted.cid,
                    found=to_text(found),
                )

        def move_() -> None:
            with self._kept(commit, to) as new:
                self._stores.refs.swap(HEADS, name, found, new, f"branch: moved to {to}")

        again_if_collected(move_, stores=False)
        return commit


class Tags(_Names):
    """The tags of a repository, a live Mapping from names to commits. Tags do not move."""

    _kind = TAGS
    _word = "tag"
