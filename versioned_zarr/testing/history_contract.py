"""The contract of a repository's history: refs, logs, merges."""

from __future__ import annotations

import pickle
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
    NothingToCommitError,
    RefNotFoundError,
)
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.repository.repository import Repository

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


class HistoryContract:
    """The part of `RepositoryContract` that covers commits and refs."""

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
            "heads/main@{2}": commits[1],
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
            assert names.get(name) is None

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

    def test_log_of_a_range_lists_what_only_its_end_reaches(self, repository: Repository) -> None:
        commit_values(repository, {"a": b"1"})
        repository.branches.create("dev")
        commit_values(repository, {"b": b"1"})
        ours = [commit_values(repository, {key: b"2"}, to="dev") for key in ("a", "c")]
        found = [commit.cid for commit in repository.log("main..dev")]
        assert found == [commit.cid for commit in reversed(ours)]
        assert [commit.cid for commit in repository.log("main..dev", path="c")] == [ours[1].cid]
        assert list(repository.log("dev..dev")) == []
        for path in ("..", "a//b", "\0"):
            with pytest.raises(InvalidKeyError):
                repository.log(path=path)

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
        squashed = repository.squash(start.cid, into="main", message="all at once")
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
