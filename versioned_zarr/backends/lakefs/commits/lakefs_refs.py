"""Refs on lakeFS: branches and tags of the server as a ref store.

lakeFS has no reflog. This machine keeps one of its own actions and observations, as git does;
beyond its start, the history of the branch is used.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime

from versioned_zarr.backends.lakefs.api.api_errors import AnswerLateError, AnswerLostError
from versioned_zarr.backends.lakefs.api.client import ATTEMPTS, LakefsClient, pauses
from versioned_zarr.backends.lakefs.commits.commit_mapping import CommitMapping
from versioned_zarr.backends.lakefs.commits.commit_writer import CommitWriter
from versioned_zarr.backends.lakefs.lakefs_names import from_branch, from_tag, to_branch, to_tag
from versioned_zarr.errors import (
    AlreadyExistsError,
    BranchMovedError,
    CorruptRefError,
    OutcomeUnknownError,
    RefNotFoundError,
    StorageError,
)
from versioned_zarr.history.log_refs import LogRefs
from versioned_zarr.history.refs import HEADS, REMOTES, RefEntry, rename_by_moves
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.storage.protocol import Storage

_PAUSE_S = 0.02


class LakefsRefs:
    """A `RefStore` on a lakeFS repository. Thread-safe.

    Args:
        client: the lakeFS repository.
        commits: reads commits.
        commit_writer: writes commits.
        storage: stores the logs of this machine.
    """

    def __init__(
        self,
        client: LakefsClient,
        commits: CommitMapping,
        commit_writer: CommitWriter,
        storage: Storage,
    ) -> None:
        self._client, self._commits, self._commit_writer = client, commits, commit_writer
        self._logs = LogRefs(storage)

    def _id(self, kind: str, name: str) -> str | None:
        try:
            if kind == HEADS:
                return self._client.head(to_branch(name))
            return self._client.tag(to_tag(name))
        except RefNotFoundError:
            return None

    def read(self, kind: str, name: str) -> RefEntry | None:
        """See `RefStore.read`; one request, and another for a commit that is new here."""
        if kind == REMOTES:
            return self._logs.read(kind, name)
        commit = self._id(kind, name)
        if commit is None:
            return None
        found = self._commits.find(commit)
        made = datetime.fromtimestamp(found.creation_date, UTC)
        return RefEntry(0, self._commits.cid_of(found), made, found.message)

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """See `RefStore.names`."""
        if kind == REMOTES:
            return self._logs.names(kind, deleted=deleted)
        if kind == HEADS:
            found = {from_branch(name) for name, _ in self._client.branches()}
        else:
            found = {from_tag(name) for name, _ in self._client.tags()}
        if kind == HEADS and not found:  # lakeFS lists no branches of a deleted repository
            self._client.check_exists()
        if deleted:
            found.update(self._logs.names(kind, deleted=True))
        return sorted(found)

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """See `RefStore.swap`."""
        if kind == REMOTES:
            return self._logs.swap(kind, name, expect, new, why)
        return self._surely(kind, name, new, lambda: self._swap(kind, name, expect, new), why)

    def _surely(
        self, kind: str, name: str, new: Cid | None, move: Callable[[], Cid | None], why: str
    ) -> RefEntry:
        """Move a ref; if a response is lost, check the ref and try again."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._observe(kind, name, move(), why)
            except AnswerLostError as error:
                for pause_s in pauses(error):
                    time.sleep(pause_s)
                    if self._cid_of(self._id(kind, name)) == new:
                        return self._observe(kind, name, new, why)
                if isinstance(error, AnswerLateError):  # it must not be requested again
                    raise self._unknown(name, new, error) from error
                if attempt == ATTEMPTS:
                    raise StorageError(str(error)) from error
                time.sleep(_PAUSE_S * 2**attempt)
        raise AssertionError("the last attempt raises")

    def _unknown(self, name: str, new: Cid | None, error: Exception) -> OutcomeUnknownError:
        text = None if new is None else to_text(new)
        return OutcomeUnknownError(
            f"{name!r} may or may not have moved to {text}: {error}; check with "
            f"'vz log {name}' in a few minutes, or commit again: no commit is made twice",
            where=self._client.endpoint,
            ref=name,
            commit=text,
        )

    def _cid_of(self, commit: str | None) -> Cid | None:
        return None if commit is None else self._commits.cid_of(self._commits.find(commit))

    def _swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None) -> Cid | None:
        """Move a ref; returns its new commit.

        Raises:
            BranchMovedError: it is not at the expected commit.
        """
        if kind == HEADS and expect is not None and new is not None:
            now = self._go_on(name, expect, new)
            if now is not None:
                return now
        commit = self._id(kind, name)
        found = self._cid_of(commit)
        if found != expect:
            raise BranchMovedError(
                f"{name!r} is at {_shown(found)}, not at {_shown(expect)} as expected",
                branch=name,
                expected=None if expect is None else to_text(expect),
                found=None if found is None else to_text(found),
            )
        self._observe(kind, name, found, "seen")
        return self._move(kind, name, commit, new)

    def _move(self, kind: str, name: str, head: str | None, new: Cid | None) -> Cid | None:
        """Execute the move; returns the new commit of the ref."""
        target = to_branch(name) if kind == HEADS else to_tag(name)
        if new is None:
            delete = self._client.delete_branch if kind == HEADS else self._client.delete_tag
            with suppress(RefNotFoundError):  # it existed, and its deletion was repeated
                delete(target)
            return None
        known = self._commits.id_of(new)
        if kind != HEADS or head is None:
            make = self._client.create_branch if kind == HEADS else self._client.create_tag
            try:
                make(target, known or self._commit_writer.make(new))
            except AlreadyExistsError as error:
                raise BranchMovedError(str(error), branch=name, expected=None) from error
            return new
        if known is None and self._is_next(new, head):
            return self._land(target, head, new)
        self._commit_writer.move(target, head, known or self._commit_writer.make(new))
        return new

    def _go_on(self, name: str, expect: Cid, new: Cid) -> Cid | None:
        """The usual case, with the fewest requests: a new commit whose parent is the expected one.

        Returns the new commit of the branch; None in other cases, or if the branch has moved.
        """
        head = self._commits.id_of(expect)
        if head is None or self._commits.id_of(new) is not None or not self._is_next(new, head):
            return None
        try:
            return self._land(to_branch(name), head, new)
        except BranchMovedError:
            return None

    def _is_next(self, new: Cid, head: str) -> bool:
        """Whether the parent of a commit is the head of a branch."""
        parents = self._commit_writer.parents_of(new)
        return bool(parents) and parents[0] == self._commits.cid_of(self._commits.find(head))

    def _land(self, branch: str, head: str, new: Cid) -> Cid:
        """Merge a commit of ours; returns the new commit of the branch."""
        try:
            there = self._commit_writer.merge_onto(branch, head, new)
        except BranchMovedError:
            raise
        except Exception:
            # The response may have been lost after the merge.
            found = self._commit_writer.landed(branch, new)
            if found is None:
                raise
            there = found
        return self._commits.cid_of(self._commits.find(there))

    def _observe(self, kind: str, name: str, commit: Cid | None, why: str) -> RefEntry:
        """Record the commit of a ref in the log, unless the last entry has it."""
        last = next(self._logs.history(kind, name), None)
        if last is not None and last.commit == commit:
            return last
        if last is None and commit is None:
            return RefEntry(0, None, datetime.now(UTC), why)
        with suppress(BranchMovedError):  # another process recorded it
            return self._logs.swap(kind, name, None if last is None else last.commit, commit, why)
        return RefEntry(0, commit, datetime.now(UTC), why)

    def broken(self, kind: str) -> dict[str, CorruptRefError]:
        """See `RefStore.broken`: refs on the server are never damaged."""
        return self._logs.broken(kind) if kind == REMOTES else {}

    def rename(self, kind: str, old: str, new: str, why: str) -> None:
        """See `RefStore.rename`: two requests; if the server stops in between, both names exist."""
        if kind == REMOTES:
            self._logs.rename(kind, old, new, why)
        else:
            rename_by_moves(self, kind, old, new, why)

    def remove(self, kind: str, name: str, why: str) -> None:
        """See `RefStore.remove`."""
        if kind == REMOTES:
            self._logs.remove(kind, name, why)
        else:
            head = self._id(kind, name)
            self._surely(kind, name, None, lambda: self._move(kind, name, head, None), why)

    def settle(self, kind: str, name: str) -> None:
        """See `RefStore.settle`: the server keeps what it has acknowledged."""

    def history(self, kind: str, name: str, *, readable: bool = False) -> Iterator[RefEntry]:
        """See `RefStore.history`."""
        if kind != REMOTES:
            now = self.read(kind, name)
            self._observe(kind, name, None if now is None else now.commit, "seen")
        first = None
        for entry in self._logs.history(kind, name, readable=readable):
            first = entry
            yield entry
        if kind == HEADS and first is not None and first.commit is not None:
            yield from self._before(first.commit)

    def _before(self, commit: Cid) -> Iterator[RefEntry]:
        """The first-parent history before the oldest commit that this machine saw on a branch."""
        start = self._commits.id_of(commit)
        if start is None:
            return
        for number, found in enumerate(self._client.log(start, first_parent=True)):
            if number:
                made = datetime.fromtimestamp(found.creation_date, UTC)
                yield RefEntry(-number, self._commits.cid_of(found), made, found.message)

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """See `RefStore.forget`."""
        self._logs.forget(kind, name, before)

    def lock(self, kind: str, name: str) -> AbstractContextManager[bool]:
        """See `RefStore.lock`: only affects processes of this machine."""
        return self._logs.lock(kind, name)


def _shown(commit: Cid | None) -> str:
    return "nothing" if commit is None else to_text(commit)
