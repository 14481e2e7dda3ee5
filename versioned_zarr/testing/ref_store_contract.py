"""The contract of a `RefStore`."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from versioned_zarr.errors import BranchMovedError
from versioned_zarr.history.refs import HEADS, TAGS, RefStore
from versioned_zarr.ipld.cid import Cid, hash_function

_HASH = hash_function("sha2-256")
A, B, C = (_HASH.dag_pb(letter) for letter in (b"a", b"b", b"c"))


class RefStoreContract:
    """Subclass it with a fixture `refs` that returns an empty ref store."""

    def test_a_ref_is_made_moved_and_deleted(self, refs: RefStore) -> None:
        assert refs.read(HEADS, "x") is None
        refs.swap(HEADS, "x", None, A, "made")
        refs.swap(HEADS, "x", A, B, "moved")
        entry = refs.read(HEADS, "x")
        assert entry is not None
        assert (entry.commit, entry.number, entry.why) == (B, 1, "moved")
        refs.swap(HEADS, "x", B, None, "deleted")
        assert refs.read(HEADS, "x") is None
        refs.swap(HEADS, "x", None, C, "made again")
        assert [entry.commit for entry in refs.history(HEADS, "x")] == [C, None, B, A]

    @pytest.mark.parametrize("expect", [None, B])
    def test_a_swap_from_elsewhere_is_refused(self, refs: RefStore, expect: Cid | None) -> None:
        refs.swap(HEADS, "x", None, A, "made")
        with pytest.raises(BranchMovedError):
            refs.swap(HEADS, "x", expect, C, "moved")
        entry = refs.read(HEADS, "x")
        assert entry is not None
        assert entry.commit == A

    def test_names_are_listed_by_kind(self, refs: RefStore) -> None:
        for name in ("a", "a/b", "über/☃", "z%2F"):
            refs.swap(HEADS, name, None, A, "made")
        refs.swap(TAGS, "t", None, A, "made")
        refs.swap(HEADS, "gone", None, A, "made")
        refs.swap(HEADS, "gone", A, None, "deleted")
        assert refs.names(HEADS) == ["a", "a/b", "z%2F", "über/☃"]
        assert "gone" in refs.names(HEADS, deleted=True)
        assert refs.names(TAGS) == ["t"]

    def test_a_long_log_is_read_from_its_end(self, refs: RefStore) -> None:
        last: Cid | None = None
        for number in range(60):
            new = _HASH.dag_pb(str(number).encode())
            refs.swap(HEADS, "x", last, new, f"commit: {'long ' * 200}{number}")
            last = new
        entry = refs.read(HEADS, "x")
        assert entry is not None
        assert (entry.commit, entry.number) == (last, 59)
        assert len(list(refs.history(HEADS, "x"))) == 60

    def test_forget_keeps_what_still_holds(self, refs: RefStore) -> None:
        for old, new in ((None, A), (A, B), (B, C)):
            refs.swap(HEADS, "x", old, new, "moved")
        refs.forget(HEADS, "x", datetime.now(UTC) - timedelta(days=1))
        assert len(list(refs.history(HEADS, "x"))) == 3
        refs.forget(HEADS, "x", datetime.now(UTC) + timedelta(days=1))
        assert [entry.commit for entry in refs.history(HEADS, "x")] == [C]
        refs.swap(HEADS, "x", C, A, "goes on")
        assert [entry.number for entry in refs.history(HEADS, "x")] == [3, 2]

    def test_of_many_at_once_one_wins(self, refs: RefStore) -> None:
        wins = []

        def race(number: int) -> None:
            new = _HASH.dag_pb(str(number).encode())
            try:
                refs.swap(HEADS, "x", None, new, "race")
            except BranchMovedError:
                return
            wins.append(new)

        threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        entry = refs.read(HEADS, "x")
        assert entry is not None
        assert wins == [entry.commit]
