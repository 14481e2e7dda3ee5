"""The contract of a `RefStore`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from versioned_zarr.errors import AlreadyExistsError, BranchMovedError, RefNotFoundError
from versioned_zarr.history.refs import HEADS, REMOTES, TAGS, RefEntry, RefStore, went_to
from versioned_zarr.ipld.cid import Cid, hash_function

_HASH = hash_function("sha2-256")
COMMITS = 8


def entry_of(refs: RefStore, name: str, kind: str = HEADS) -> RefEntry:
    """The entry of an existing ref."""
    entry = refs.read(kind, name)
    assert entry is not None
    return entry


def moves(refs: RefStore, name: str) -> list[RefEntry]:
    """The updates of a branch, without those from before the store first saw it."""
    return [entry for entry in refs.history(HEADS, name) if entry.number >= 0]


class RefStoreContract:
    """Subclass it with a fixture `refs` that returns a ref store without refs.

    Attributes:
        reads_log: whether `read` returns the update and its reason; otherwise those of the commit.
    """

    reads_log = True

    @pytest.fixture
    def commits(self) -> Sequence[Cid]:
        """Values that refs can have; override it if these must be existing commits."""
        return [_HASH.dag_pb(f"commit {number}".encode()) for number in range(COMMITS)]

    def test_a_ref_is_made_moved_and_deleted(self, refs: RefStore, commits: Sequence[Cid]) -> None:
        first, second, third, *_ = commits
        assert refs.read(HEADS, "x") is None
        refs.swap(HEADS, "x", None, first, "made")
        refs.swap(HEADS, "x", first, second, "moved")
        entry = entry_of(refs, "x")
        assert entry.commit == second
        if self.reads_log:
            assert (entry.number, entry.why) == (1, "moved")
        refs.swap(HEADS, "x", second, None, "deleted")
        assert refs.read(HEADS, "x") is None
        refs.swap(HEADS, "x", None, third, "made again")
        log = moves(refs, "x")
        assert [entry.commit for entry in log] == [third, None, second, first]
        assert [entry.why for entry in log] == ["made again", "deleted", "moved", "made"]
        assert [entry.number for entry in log] == [3, 2, 1, 0]
        assert went_to(refs.history(HEADS, "x"), first)

    @pytest.mark.parametrize("is_made", [True, False])
    def test_a_swap_from_elsewhere_is_refused(
        self, refs: RefStore, commits: Sequence[Cid], is_made: bool
    ) -> None:
        first, second, third, *_ = commits
        if is_made:
            refs.swap(HEADS, "x", None, first, "made")
        for expect in (None, second) if is_made else (first, second):
            for new in (third, None):
                with pytest.raises(BranchMovedError):
                    refs.swap(HEADS, "x", expect, new, "moved")
        entry = refs.read(HEADS, "x")
        assert (None if entry is None else entry.commit) == (first if is_made else None)

    @pytest.mark.parametrize("kind", [HEADS, TAGS, REMOTES])
    def test_names_are_listed_by_kind(
        self, refs: RefStore, commits: Sequence[Cid], kind: str
    ) -> None:
        first, inside = commits[0], "there/" if kind == REMOTES else ""
        names = [f"{inside}{name}" for name in ("a", "a/b", "z%2F", "über/☃")]
        gone = f"{inside}gone"
        before = {each: refs.names(each) for each in (HEADS, TAGS, REMOTES)}
        for name in [*names, gone]:
            refs.swap(kind, name, None, first, "made")
        refs.swap(kind, gone, first, None, "deleted")
        for each, own in before.items():
            assert refs.names(each) == sorted([*own, *(names if each == kind else [])])
        assert {gone, *names} <= set(refs.names(kind, deleted=True))
        assert {entry_of(refs, name, kind).commit for name in names} == {first}
        assert refs.read(kind, gone) is None
        assert refs.broken(kind) == {}

    def test_a_long_log_is_read_from_its_end(self, refs: RefStore, commits: Sequence[Cid]) -> None:
        last: Cid | None = None
        for number in range(60):
            new = commits[number % 3]
            refs.swap(HEADS, "x", last, new, f"commit: {'long ' * 200}{number}")
            last = new
        entry = entry_of(refs, "x")
        assert entry.commit == last
        if self.reads_log:
            assert entry.number == 59
        log = moves(refs, "x")
        assert len(log) == 60
        assert log[0].why.endswith(" 59")

    def test_forget_keeps_what_still_holds(self, refs: RefStore, commits: Sequence[Cid]) -> None:
        first, second, third, *_ = commits
        for old, new in ((None, first), (first, second), (second, third)):
            refs.swap(HEADS, "x", old, new, "moved")
        refs.forget(HEADS, "x", datetime.now(UTC) - timedelta(days=1))
        assert len(moves(refs, "x")) == 3
        refs.forget(HEADS, "x", datetime.now(UTC) + timedelta(days=1))
        assert [entry.commit for entry in moves(refs, "x")] == [third]
        refs.swap(HEADS, "x", third, first, "goes on")
        assert [entry.number for entry in moves(refs, "x")] == [3, 2]

    @pytest.mark.parametrize("kind", [HEADS, TAGS])
    def test_a_ref_is_called_otherwise(
        self, refs: RefStore, commits: Sequence[Cid], kind: str
    ) -> None:
        first, second, *_ = commits
        refs.swap(kind, "old", None, first, "made")
        refs.swap(kind, "other", None, second, "made")
        refs.rename(kind, "old", "new", "renamed")
        assert refs.read(kind, "old") is None
        assert entry_of(refs, "new", kind).commit == first
        with pytest.raises(RefNotFoundError):
            refs.rename(kind, "old", "newer", "renamed")
        with pytest.raises(AlreadyExistsError):
            refs.rename(kind, "new", "other", "renamed")
        assert entry_of(refs, "new", kind).commit == first
        assert entry_of(refs, "other", kind).commit == second
        assert refs.read(kind, "newer") is None

    @pytest.mark.parametrize("kind", [HEADS, TAGS, REMOTES])
    def test_a_ref_is_removed_wherever_it_stands(
        self, refs: RefStore, commits: Sequence[Cid], kind: str
    ) -> None:
        for name in ("x", "y"):
            refs.swap(kind, name, None, commits[0], "made")
        refs.remove(kind, "x", "removed")
        assert refs.read(kind, "x") is None
        assert "x" not in refs.names(kind)
        assert entry_of(refs, "y", kind).commit == commits[0]

    def test_a_ref_is_moved_while_it_is_locked(
        self, refs: RefStore, commits: Sequence[Cid]
    ) -> None:
        with refs.lock(HEADS, "x"):
            refs.swap(HEADS, "x", None, commits[0], "made")
            refs.settle(HEADS, "x")
        assert entry_of(refs, "x").commit == commits[0]

    def test_of_many_at_once_one_wins(self, refs: RefStore, commits: Sequence[Cid]) -> None:
        wins = []

        def race(new: Cid) -> None:
            try:
                refs.swap(HEADS, "x", None, new, "race")
            except BranchMovedError:
                return
            wins.append(new)

        threads = [threading.Thread(target=race, args=(new,)) for new in commits]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wins == [entry_of(refs, "x").commit]
