"""The contract of a repository: sessions, snapshots and history."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from versioned_zarr.errors import (
    BranchMovedError,
    ConflictError,
    InvalidKeyError,
    KeyNotFoundError,
    NothingToCommitError,
    RefNotFoundError,
    SessionClosedError,
    SessionNotFoundError,
)
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.testing.history_contract import HistoryContract, commit_values, contents

BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b",
    "é" * 150, "x" * 300, "\ud800",
]  # fmt: skip


def fail_after_writing(session: Session) -> None:
    """Simulates an error in a `with` block."""
    session.write("a", b"2")
    raise ZeroDivisionError


class RepositoryContract(HistoryContract):
    """Subclass it with fixtures `repository` (a new one) and `reopen` (opens it again)."""

    def test_a_new_repository_has_main_at_an_empty_tree(self, repository: Repository) -> None:
        assert list(repository.branches) == ["main"]
        assert list(repository.tags) == []
        snapshot = repository.checkout("main")
        assert dict(snapshot.mapping) == {}
        assert snapshot.commit is not None
        assert snapshot.commit.parents == ()

    # Sessions

    def test_a_session_reads_its_own_writes_and_nobody_else_does(
        self, repository: Repository
    ) -> None:
        session = repository.session()
        session.write("a/b", b"1")
        assert bytes(session.read("a/b")) == b"1"
        assert session.list_dir("a") == ["b"]
        assert repository.session().get("a/b") is None
        assert contents(repository) == {}

    def test_a_commit_is_what_the_session_held(
        self, repository: Repository, reopen: Callable[[], Repository]
    ) -> None:
        commit = commit_values(
            repository, {"a/b": b"1", "c": b"", "d/e/f": b"x" * 3_000_000}, "why"
        )
        again = reopen()
        assert again.branches["main"] == commit
        assert contents(again) == {"a/b": b"1", "c": b"", "d/e/f": b"x" * 3_000_000}
        assert commit.message == "why"
        assert commit.time.tzinfo is not None
        assert again.checkout("main").cid == commit.tree

    def test_a_session_goes_on_after_its_commit(self, repository: Repository) -> None:
        session = repository.session()
        session.write("a", b"1")
        first = session.commit("one")
        assert session.base == first
        session.write("b", b"2")
        second = session.commit("two")
        assert second.parents == (first.cid,)
        assert contents(repository) == {"a": b"1", "b": b"2"}

    def test_nothing_to_commit_is_said(self, repository: Repository) -> None:
        session = repository.session()
        with pytest.raises(NothingToCommitError, match="allow_empty"):
            session.commit("nothing")
        session.write("a", b"1")
        session.delete("a")
        with pytest.raises(NothingToCommitError):
            session.commit("nothing")
        assert session.commit("empty", allow_empty=True).message == "empty"

    def test_a_with_block_commits_at_a_clean_end_only(self, repository: Repository) -> None:
        with repository.session(message="clean") as session:
            session.write("a", b"1")
        assert contents(repository) == {"a": b"1"}
        session = repository.session(message="never")
        with pytest.raises(ZeroDivisionError), session:
            fail_after_writing(session)
        assert contents(repository) == {"a": b"1"}
        resumed = repository.resume(session.id)
        assert bytes(resumed.read("a")) == b"2"
        resumed.commit("resumed")
        assert contents(repository) == {"a": b"2"}

    def test_a_discarded_session_is_gone(self, repository: Repository) -> None:
        session = repository.session()
        session.write("a", b"1")
        session.discard()
        assert not repository.sessions
        with pytest.raises(SessionClosedError, match="discarded"):
            session.write("a", b"2")
        with pytest.raises(SessionNotFoundError):
            repository.resume(session.id)

    def test_sessions_are_listed_resumed_and_deleted(
        self, repository: Repository, reopen: Callable[[], Repository]
    ) -> None:
        commit_values(repository, {"a": b"1"})
        session = repository.session()
        session.delete("a")
        session.write("b", b"2")
        (info,) = reopen().sessions.values()
        assert (info.id, info.branch, info.keys, info.is_alive) == (session.id, "main", 2, True)
        assert info.base == repository.branches["main"].cid
        copy = reopen().resume(session.id)
        assert bytes(copy.read("b")) == b"2"
        repository.sessions.delete(session.id)
        assert not repository.sessions
        with pytest.raises(SessionNotFoundError):
            repository.sessions.delete(session.id)

    def test_sessions_are_a_mapping_of_ids(self, repository: Repository) -> None:
        opened = [repository.session(purpose=f"number {number}") for number in range(3)]
        for session in opened[:2]:
            session.write(session.id, b"1")
        ids = [session.id for session in opened]
        found = repository.sessions
        assert sorted(found) == sorted(ids[:2])
        assert list(found) == [info.id for info in found.values()] == list(dict(found.items()))
        assert len(found) == 2
        assert found[ids[1]] == dict(found.items())[ids[1]]
        assert (found[ids[0]].id, found[ids[0]].purpose) == (ids[0], "number 0")
        assert ids[0] in found
        for unknown in (ids[2], "no-such-session", "", "a/b"):
            assert unknown not in found
            assert found.get(unknown) is None
            with pytest.raises(SessionNotFoundError):
                found[unknown]
            with pytest.raises(SessionNotFoundError):
                found.delete(unknown)
        assert len(repository.sessions) == 2

    @pytest.mark.parametrize("how", ["delete", "clear", "write again"])
    def test_a_session_that_stored_nothing_new_is_alive(
        self, repository: Repository, reopen: Callable[[], Repository], how: str
    ) -> None:
        commit_values(repository, {"a/b": b"1"})
        session = repository.session()
        if how == "delete":
            session.delete("a/b")
        elif how == "clear":
            session.clear("a")
        else:
            session.write("c", b"1")
        (info,) = reopen().sessions.values()
        assert (info.id, info.is_alive) == (session.id, True)
        session.commit("done")
        assert not repository.sessions

    def test_a_pickled_session_writes_into_the_same_one(self, repository: Repository) -> None:
        session = repository.session()
        session.write("a", b"1")
        copy = pickle.loads(pickle.dumps(session))
        assert copy == session
        copy.write("b", b"2")
        assert bytes(session.read("b")) == b"2"
        session.commit("both")
        assert contents(repository) == {"a": b"1", "b": b"2"}

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_a_key_that_cannot_be_is_refused(self, repository: Repository, key: str) -> None:
        session = repository.session()
        with pytest.raises(InvalidKeyError):
            session.write(key, b"1")
        assert session.get(key) is None
        assert repository.checkout().get(key) is None
        assert key not in session.mapping

    def test_a_key_under_a_value_is_refused(self, repository: Repository) -> None:
        session = repository.session()
        session.write("a/b", b"1")
        for key in ("a", "a/b/c"):
            with pytest.raises(InvalidKeyError, match=r"a/b|'a'"):
                session.write(key, b"2")
        session.commit("one")
        for key in ("a", "a/b/c"):
            with pytest.raises(InvalidKeyError):
                session.write(key, b"2")
        assert dict(session.mapping) == {"a/b": b"1"}

    def test_equal_values_are_stored_once(self, repository: Repository) -> None:
        value = bytes(range(256)) * 4096
        commit_values(repository, {f"a/{number}": value for number in range(20)})
        commit_values(repository, {"b": value})
        stats = repository.stats()
        assert stats.values == 1
        assert stats.stored_bytes < 2 * len(value)

    # Concurrent commits

    def test_disjoint_changes_merge(self, repository: Repository) -> None:
        one, two = repository.session(), repository.session()
        one.write("a", b"1")
        two.write("b", b"2")
        first = one.commit("one")
        second = two.commit("two")
        assert second.parents == (first.cid,)
        assert contents(repository) == {"a": b"1", "b": b"2"}
        assert dict(two.mapping) == {"a": b"1", "b": b"2"}

    def test_values_of_many_blocks_merge(self, repository: Repository) -> None:
        values = {"new/a": bytes(3 << 20), "old/b": b"\1" * (2 << 20), "old/c": b"3"}
        with repository.session(message="base") as base:
            base.write("old/b", b"small")
            base.write("old/c", b"3")
        late, quick = repository.session(), repository.session()
        for key in ("new/a", "old/b"):
            late.write(key, values[key])
        quick.write("new/d", b"\2" * (2 << 20))
        quick.commit("quick")
        late.commit("late")
        assert contents(repository) == {**values, "new/d": b"\2" * (2 << 20)}

    def test_on_moved_fail_refuses_disjoint_changes_too(self, repository: Repository) -> None:
        one, two = repository.session(), repository.session()
        one.write("a", b"1")
        two.write("b", b"2")
        one.commit("one")
        with pytest.raises(BranchMovedError):
            two.commit("two", on_moved="fail")
        assert bytes(two.read("b")) == b"2"
        assert contents(repository) == {"a": b"1"}

    def test_a_conflict_names_the_keys_and_loses_nothing(self, repository: Repository) -> None:
        one, two = repository.session(), repository.session()
        for session, value in ((one, b"1"), (two, b"2")):
            session.write("a/c/0", value)
            session.write(f"own/{value.decode()}", value)
        one.commit("one")
        with pytest.raises(ConflictError, match="a/c/0") as caught:
            two.commit("two")
        assert [conflict.path for conflict in caught.value.conflicts] == ["a/c/0"]
        assert bytes(two.read("a/c/0")) == b"2"
        assert contents(repository)["a/c/0"] == b"1"
        two.commit("two", resolve="theirs")
        assert contents(repository) == {"a/c/0": b"2", "own/1": b"1", "own/2": b"2"}

    def test_a_commit_to_a_deleted_branch_says_so(self, repository: Repository) -> None:
        repository.branches.create("dev")
        session = repository.session("dev")
        session.write("a", b"1")
        repository.branches.delete("dev")
        with pytest.raises(RefNotFoundError, match="dev"):
            session.commit("lost")
        assert bytes(session.read("a")) == b"1"

    # Snapshots

    def test_a_snapshot_never_changes(self, repository: Repository) -> None:
        commit_values(repository, {"a": b"1"})
        snapshot = repository.checkout("main")
        commit_values(repository, {"a": b"2"})
        assert dict(snapshot.mapping) == {"a": b"1"}
        copy = pickle.loads(pickle.dumps(snapshot))
        assert copy == snapshot
        assert dict(copy.mapping) == {"a": b"1"}

    def test_a_folder_has_a_cid_of_its_own(self, repository: Repository) -> None:
        commit_values(repository, {"x/a": b"1", "x/b/c": b"2", "y/a": b"1", "y/b/c": b"2"})
        snapshot = repository.checkout()
        x = snapshot.path("x")
        assert dict(x.mapping) == {"a": b"1", "b/c": b"2"}
        assert x.cid == snapshot.path("y").cid
        assert dict(repository.checkout(x.cid).mapping) == dict(x.mapping)
        with pytest.raises(KeyNotFoundError):
            snapshot.path("z")
        with pytest.raises(InvalidKeyError):
            snapshot.path("x/a")

    @pytest.mark.parametrize("length", [0, 10, 2_000_000])
    def test_ranges_are_those_of_slices(self, repository: Repository, length: int) -> None:
        value = (b"0123456789" * (length // 10))[:length]
        session = repository.session()
        session.write("before", b"other bytes")
        session.write("a", value)
        ranges = ((-3, None), (-3, -1), (0, -2), (5, 3), (-2 * length - 1, 4), (1, length + 5))
        for start, end in ranges:
            assert bytes(session.read("a", start, end)) == value[start:end], (start, end)
        session.commit("m")
        for view in (session, repository.checkout()):
            for start, end in ranges:
                assert bytes(view.read("a", start, end)) == value[start:end], (start, end)

    def test_ranges_are_clamped(self, repository: Repository) -> None:
        value = bytes(range(256)) * 10_000
        commit_values(repository, {"small": b"0123456789", "large": value})
        snapshot = repository.checkout()
        assert bytes(snapshot.read("small", 3, 99)) == b"3456789"
        assert bytes(snapshot.read("small", 20, 30)) == b""
        for start, end in ((0, 1), (1 << 20, (1 << 20) + 1), ((1 << 20) - 5, (2 << 20) + 5)):
            assert bytes(snapshot.read("large", start, end)) == value[start:end]
        assert snapshot.size("large") == len(value)
        assert snapshot.size("none") is None
