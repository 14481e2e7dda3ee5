"""What a repository must do, whatever keeps it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from versioned_zarr.errors import (
    AlreadyExistsError,
    BranchMovedError,
    ConflictError,
    InvalidInputError,
    InvalidKeyError,
    InvalidRefError,
    KeyNotFoundError,
    NothingToCommitError,
    RefNotFoundError,
    SessionClosedError,
    SessionNotFoundError,
)
from versioned_zarr.history.commit import Commit
from versioned_zarr.repository.protocol import Repository
from versioned_zarr.repository.session import Session

BAD_KEYS = [
    "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0b",
    "é" * 150, "x" * 300, "\ud800",
]  # fmt: skip
BAD_REFS = [
    "", "a b", "a..b", "a~", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a", "a/", "a//b", ".a",
    "a/.b", "a.lock", "a.", "@", "a@{b", "-a", "a\x7f", "a\nb", "x" * 300, "\ud800",
]  # fmt: skip


def commit_values(
    repository: Repository, values: dict[str, bytes | None], message: str = "m", to: str = "main"
) -> Commit:
    """Set keys, or delete those whose value is None, and commit."""
    session = repository.session(to)
    for key, value in values.items():
        if value is None:
            session.delete(key)
        else:
            session.write(key, value)
    return session.commit(message)


def contents(repository: Repository, ref: str = "main") -> dict[str, bytes]:
    """All keys and values of a ref."""
    return dict(repository.checkout(ref).mapping)


def fail_after_writing(session: Session) -> None:
    """What goes wrong in the middle of a `with` block."""
    session.write("a", b"2")
    raise ZeroDivisionError


class RepositoryContract:
    """Subclass it with fixtures `repository` (a new one) and `reopen` (opens it afresh)."""

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
        assert repository.sessions() == []
        with pytest.raises(SessionClosedError, match="discarded"):
            session.write("a", b"2")
        with pytest.raises(SessionNotFoundError):
            repository.resume(session.id)

    def test_sessions_are_listed_resumed_and_dropped(
        self, repository: Repository, reopen: Callable[[], Repository]
    ) -> None:
        session = repository.session()
        session.write("a", b"1")
        session.delete("a")
        session.write("b", b"2")
        (info,) = reopen().sessions()
        assert (info.id, info.branch, info.keys, info.is_alive) == (session.id, "main", 2, True)
        assert info.base == repository.branches["main"].cid
        copy = reopen().resume(session.id)
        assert bytes(copy.read("b")) == b"2"
        repository.drop(session.id)
        assert repository.sessions() == []
        with pytest.raises(SessionNotFoundError):
            repository.drop(session.id)

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

    # Committing beside others

    def test_disjoint_changes_merge(self, repository: Repository) -> None:
        one, two = repository.session(), repository.session()
        one.write("a", b"1")
        two.write("b", b"2")
        first = one.commit("one")
        second = two.commit("two")
        assert second.parents == (first.cid,)
        assert contents(repository) == {"a": b"1", "b": b"2"}
        assert dict(two.mapping) == {"a": b"1", "b": b"2"}

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

    # Refs

    def test_refs_resolve_as_git_resolves_them(self, repository: Repository) -> None:
        commits = [commit_values(repository, {"a": bytes([n])}, f"{n}") for n in range(4)]
        last = commits[-1]
        repository.tags.create("v1", at="main~1")
        for ref, want in {
            "main": last,
            "heads/main": last,
            "main~0": last,
            "main~": commits[-2],
            "main~2": commits[-3],
            "main^": commits[-2],
            "main^^~1": commits[0],
            "v1": commits[-2],
            "tags/v1": commits[-2],
            "main@{0}": last,
            "main@{2}": commits[1],
            "main@{1}~1": commits[1],
            last.cid: last,
            f"{last.cid}~3": commits[0],
            last.cid[:20]: last,
            f"main@{{{commits[2].time.isoformat()}}}": commits[2],
            f"main@{{{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}}}": last,
        }.items():
            assert repository.checkout(ref).commit == want, ref
        bare = repository.checkout(last.tree)
        assert bare.commit is None
        assert bare.cid == last.tree

    @pytest.mark.parametrize(
        "ref",
        ["nothing", "main~99", "main^2", "main@{99}", "main@{2001-01-01}", "bafybeigdyrzt5s"],
    )
    def test_a_ref_that_is_not_there_is_said(self, repository: Repository, ref: str) -> None:
        with pytest.raises(RefNotFoundError):
            repository.checkout(ref)

    @pytest.mark.parametrize("ref", ["", "main~x", "main@{not a time}", "main^{tree}", "~1"])
    def test_a_ref_that_cannot_be_read_is_said(self, repository: Repository, ref: str) -> None:
        with pytest.raises(InvalidRefError):
            repository.checkout(ref)

    def test_a_near_miss_is_guessed(self, repository: Repository) -> None:
        with pytest.raises(RefNotFoundError, match="did you mean 'main'"):
            repository.checkout("mian")

    @pytest.mark.parametrize("name", BAD_REFS)
    def test_a_name_that_git_refuses_is_refused(self, repository: Repository, name: str) -> None:
        for names in (repository.branches, repository.tags):
            with pytest.raises(InvalidRefError):
                names.create(name)
            assert name not in names

    def test_branches_are_made_moved_renamed_and_deleted(self, repository: Repository) -> None:
        first = commit_values(repository, {"a": b"1"}, "one")
        repository.branches.create("dev")
        second = commit_values(repository, {"b": b"2"}, "two", "dev")
        assert set(repository.branches) == {"main", "dev"}
        assert contents(repository) == {"a": b"1"}
        with pytest.raises(AlreadyExistsError):
            repository.branches.create("dev")
        repository.branches.rename("dev", "feature/x")
        assert repository.branches["feature/x"] == second
        assert "dev" not in repository.branches
        repository.branches.move("feature/x", "main", expect=second.cid)
        assert repository.branches["feature/x"] == first
        with pytest.raises(BranchMovedError):
            repository.branches.move("feature/x", "main", expect=second.cid)
        repository.branches.delete("feature/x")
        assert repository.checkout("feature/x@{1}").commit == first
        with pytest.raises(RefNotFoundError):
            repository.branches["feature/x"]
        with pytest.raises(InvalidInputError, match="last branch"):
            repository.branches.delete("main")

    def test_tags_stay_and_their_names_can_be_used_again(self, repository: Repository) -> None:
        first = commit_values(repository, {"a": b"1"}, "one")
        repository.tags.create("v1")
        commit_values(repository, {"a": b"2"}, "two")
        assert repository.tags["v1"] == first
        with pytest.raises(AlreadyExistsError):
            repository.tags.create("v1")
        assert not hasattr(repository.tags, "move")
        repository.tags.delete("v1")
        repository.tags.create("v1")
        assert repository.tags["v1"] == repository.branches["main"]

    # History

    def test_log_is_newest_first_and_lazy(self, repository: Repository) -> None:
        for number in range(5):
            commit_values(repository, {"a": bytes([number])}, str(number))
        log = repository.log("main")
        assert next(log).message == "4"
        assert [commit.message for commit in log][:4] == ["3", "2", "1", "0"]

    def test_log_of_a_path_lists_what_changed_it(self, repository: Repository) -> None:
        commit_values(repository, {"a/x": b"1"}, "a")
        commit_values(repository, {"b/x": b"1"}, "b")
        commit_values(repository, {"a/y": b"1"}, "a again")
        commit_values(repository, {"a/x": None, "a/y": None}, "a gone")
        messages = [commit.message for commit in repository.log(path="a")]
        assert messages == ["a gone", "a again", "a"]
        assert [commit.message for commit in repository.log(path="b")] == ["b"]

    def test_metadata_and_author_are_kept(self, repository: Repository) -> None:
        session = repository.session()
        session.write("a", b"1")
        metadata = {"doi": "10.1/x", "nested": {"list": [1, 2.5, None, True]}, "text": "Zürich ☃"}
        commit = session.commit("größer", author="Ada <ada@example.org>", metadata=metadata)
        found = next(repository.log())
        assert (found.author, found.metadata) == ("Ada <ada@example.org>", metadata)
        assert found == commit
        assert pickle.loads(pickle.dumps(found)) == found

    @pytest.mark.parametrize(
        "metadata", [{"x": float("nan")}, {"x": object()}, {"x": b"bytes"}, {"x": {1, 2}}]
    )
    def test_metadata_that_is_no_json_is_refused(
        self, repository: Repository, metadata: dict[str, object]
    ) -> None:
        session = repository.session()
        session.write("a", b"1")
        with pytest.raises(InvalidInputError, match="JSON"):
            session.commit("m", metadata=metadata)
        assert contents(repository) == {}

    # Merging

    def test_merge_fast_forwards_where_it_can(self, repository: Repository) -> None:
        repository.branches.create("dev")
        commit = commit_values(repository, {"a": b"1"}, "one", "dev")
        assert repository.merge("dev") == commit
        assert repository.merge("dev") == commit
        assert repository.branches["main"] == commit

    def test_merge_takes_both_sides(self, repository: Repository) -> None:
        commit_values(repository, {"both": b"0", "gone": b"0"}, "base")
        repository.branches.create("dev")
        ours = commit_values(repository, {"a": b"1"}, "ours")
        theirs = commit_values(repository, {"b": b"2", "gone": None}, "theirs", "dev")
        merged = repository.merge("dev", message="joined")
        assert merged.parents == (ours.cid, theirs.cid)
        assert contents(repository) == {"both": b"0", "a": b"1", "b": b"2"}

    @pytest.mark.parametrize(("resolve", "want"), [("ours", b"1"), ("theirs", b"2")])
    def test_merge_conflicts_are_resolved_as_told(
        self, repository: Repository, resolve: Literal["ours", "theirs"], want: bytes
    ) -> None:
        repository.branches.create("dev")
        commit_values(repository, {"x/a": b"1"}, "ours")
        commit_values(repository, {"x/a": b"2"}, "theirs", "dev")
        with pytest.raises(ConflictError, match="x/a"):
            repository.merge("dev")
        repository.merge("dev", resolve={"x/*": resolve})
        assert contents(repository) == {"x/a": want}

    def test_a_criss_cross_merges(self, repository: Repository) -> None:
        commit_values(repository, {"a": b"0", "b": b"0"}, "base")
        repository.branches.create("dev")
        commit_values(repository, {"a": b"1"}, "a")
        commit_values(repository, {"b": b"1"}, "b", "dev")
        main, dev = repository.branches["main"], repository.branches["dev"]
        repository.merge(dev.cid, into="main")
        repository.merge(main.cid, into="dev")
        commit_values(repository, {"a": b"2"}, "a again")
        commit_values(repository, {"b": b"2"}, "b again", "dev")
        repository.merge("dev")
        assert contents(repository) == {"a": b"2", "b": b"2"}

    def test_revert_undoes_and_cherry_pick_redoes(self, repository: Repository) -> None:
        commit_values(repository, {"a": b"1"}, "one")
        two = commit_values(repository, {"b": b"2"}, "two")
        commit_values(repository, {"c": b"3"}, "three")
        reverted = repository.revert(two.cid)
        assert two.cid in reverted.message
        assert contents(repository) == {"a": b"1", "c": b"3"}
        with pytest.raises(NothingToCommitError):
            repository.revert(two.cid)
        repository.cherry_pick(two.cid)
        assert contents(repository) == {"a": b"1", "b": b"2", "c": b"3"}

    def test_squash_keeps_the_tree(self, repository: Repository) -> None:
        start = commit_values(repository, {"a": b"1"}, "one")
        commit_values(repository, {"a": b"2"}, "step 1")
        last = commit_values(repository, {"a": b"3"}, "step 2")
        squashed = repository.squash(start.cid, "main", "all at once")
        assert squashed.parents == (start.cid,)
        assert squashed.tree == last.tree
        assert [commit.message for commit in repository.log()][:2] == ["all at once", "one"]
        assert repository.checkout("main@{1}").commit == last

    def test_equal_trees_have_one_cid_and_commits_two(self, repository: Repository) -> None:
        repository.branches.create("dev")
        one = commit_values(repository, {"x/y": b"1"}, "one")
        two = commit_values(repository, {"x/y": b"1"}, "two", "dev")
        assert one.tree == two.tree
        assert one.cid != two.cid
        assert repository.checkout("main") == repository.checkout("dev")

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

    # Keeping

    def test_gc_takes_only_what_nothing_reaches(self, repository: Repository) -> None:
        commit_values(repository, {"a": b"1" * 1000})
        repository.branches.create("dev")
        commit_values(repository, {"b": b"2" * 1000}, "lost", "dev")
        repository.branches.delete("dev")
        open_session = repository.session()
        open_session.write("c", b"3")
        assert repository.gc().removed_blocks == 0
        dry = repository.gc(keep_reflog=timedelta(0), dry_run=True)
        assert dry.removed_blocks > 0
        done = repository.gc(keep_reflog=timedelta(0))
        assert done.removed_blocks == dry.removed_blocks
        report = repository.fsck()
        assert report.is_clean
        assert report.unreferenced == []
        open_session.commit("kept")
        assert contents(repository) == {"a": b"1" * 1000, "c": b"3"}

    def test_keeping_says_how_far_it_is(self, repository: Repository) -> None:
        for number in range(3):
            commit_values(repository, {f"a/{number}": bytes([number]) * 100}, str(number))
        for keep in (
            lambda tell: repository.fsck(progress=tell),
            lambda tell: repository.gc(dry_run=True, progress=tell),
            lambda tell: repository.gc(progress=tell),
            lambda tell: repository.repack(progress=tell),
        ):
            told: list[tuple[int, int]] = []
            keep(lambda done, total, told=told: told.append((done, total)))
            assert told[0][0] == 0
            assert told[-1][0] == told[-1][1] > 0
            assert told == sorted(told)
            assert len({total for _, total in told}) == 1

    def test_repack_changes_nothing_that_is_read(self, repository: Repository) -> None:
        for number in range(10):
            commit_values(repository, {f"a/{number}": bytes([number]) * 100}, str(number))
        before = contents(repository)
        assert repository.repack().removed_packs > 0
        assert contents(repository) == before
        assert repository.fsck().is_clean
        assert repository.stats().packs <= 2
