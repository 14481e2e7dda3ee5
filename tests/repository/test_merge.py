"""Merging real arrays: what goes together, what is a conflict, and how one is settled."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import zarr

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session

Change = Callable[[Any], object]
"""Something done to the group `g`, which holds the array `x` of 8 numbers in chunks of 2."""


@pytest.fixture
def repository() -> Repository:
    return vz.create(f"memory://{uuid.uuid4()}")


@pytest.fixture(params=[2, 3], ids=["v2", "v3"])
def made(repository: Repository, request: pytest.FixtureRequest) -> Repository:
    """A repository with `g`, `g/x` and a branch `other` beside `main`."""
    session = repository.session()
    group = zarr.create_group(
        session.store, path="g", zarr_format=request.param, attributes={"title": "t", "n": 1}
    )
    array = group.create_array(
        "x", shape=(8,), chunks=(2,), dtype="i4", attributes={"units": "K", "n": 1}
    )
    array[:] = 1
    session.commit("made")
    repository.branches.create("other")
    return repository


def group_of(session: Session) -> Any:
    return zarr.open_group(session.store, path="g")


def commit(repository: Repository, branch: str, change: Change) -> vz.Commit:
    session = repository.session(branch)
    change(group_of(session))
    return session.commit(f"on {branch}")


def both(repository: Repository, ours: Change, theirs: Change) -> None:
    """Change both branches."""
    commit(repository, "main", ours)
    commit(repository, "other", theirs)


def conflicts_of(repository: Repository, **options: Any) -> list[vz.Conflict]:
    """The conflicts of merging `other` into `main`, which stays as it was."""
    before = repository.branches["main"]
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("other", **options)
    assert repository.branches["main"] == before
    assert pickle.loads(pickle.dumps(caught.value)).conflicts == caught.value.conflicts
    for conflict in caught.value.conflicts:
        assert "\n" not in str(conflict)
        json.dumps(conflict.to_dict())
        assert conflict.path in str(caught.value) or len(caught.value.conflicts) > 20
    return list(caught.value.conflicts)


def merged_group(repository: Repository) -> Any:
    return zarr.open_group(repository.checkout().store, path="g", mode="r")


def attribute(node: str | None, name: str, value: Any) -> Change:
    def change(group: Any) -> None:
        (group if node is None else group[node]).attrs[name] = value

    return change


def chunk(number: int, value: int) -> Change:
    def change(group: Any) -> None:
        group["x"][2 * number : 2 * number + 2] = value

    return change


def rewrite(**arguments: Any) -> Change:
    def change(group: Any) -> None:
        defaults = {"shape": (8,), "chunks": (2,), "dtype": "i4"}
        array = group.create_array("x", **{**defaults, **arguments}, overwrite=True)
        array[:] = 5

    return change


def remove(group: Any) -> None:
    del group["x"]


def resize(group: Any) -> None:
    group["x"].resize((12,))


# What goes together


@pytest.mark.parametrize("node", [None, "x"], ids=["group", "array"])
def test_different_attributes_merge(made: Repository, node: str | None) -> None:
    both(made, attribute(node, "ours", 1), attribute(node, "theirs", 2))
    made.merge("other")
    found = merged_group(made)
    attrs = dict((found if node is None else found[node]).attrs)
    assert attrs["ours"] == 1
    assert attrs["theirs"] == 2
    assert attrs["n"] == 1


def test_an_attribute_taken_away_and_another_set_merge(made: Repository) -> None:
    def take(group: Any) -> None:
        attributes = dict(group["x"].attrs)
        del attributes["units"]
        group["x"].attrs.put(attributes)

    both(made, take, attribute("x", "n", 2))
    made.merge("other")
    assert dict(merged_group(made)["x"].attrs) == {"n": 2}


def test_different_chunks_merge(made: Repository) -> None:
    both(made, chunk(0, 7), chunk(3, 9))
    result = made.merge("other", message="joined", author="me", metadata={"a": 1})
    assert merged_group(made)["x"][:].tolist() == [7, 7, 1, 1, 1, 1, 9, 9]
    assert (result.message, result.author, result.metadata) == ("joined", "me", {"a": 1})
    assert result.parents == (made.checkout("main~1").commit.cid, made.branches["other"].cid)


def test_a_chunk_and_an_attribute_merge(made: Repository) -> None:
    both(made, chunk(0, 7), attribute("x", "units", "degC"))
    made.merge("other")
    array = merged_group(made)["x"]
    assert array[0] == 7
    assert array.attrs["units"] == "degC"


def test_the_same_change_on_two_branches_agrees(made: Repository) -> None:
    both(made, chunk(0, 7), chunk(0, 7))
    commit(made, "other", chunk(1, 8))
    made.merge("other")
    assert merged_group(made)["x"][:4].tolist() == [7, 7, 8, 8]


def test_the_same_resize_on_both_sides_lets_chunks_merge(made: Repository) -> None:
    def grow(at: int) -> Change:
        def change(group: Any) -> None:
            group["x"].resize((12,))
            group["x"][at : at + 2] = at

        return change

    both(made, grow(8), grow(10))
    made.merge("other")
    assert merged_group(made)["x"][:].tolist() == [1] * 8 + [8, 8, 10, 10]


def test_new_nodes_on_both_sides_merge(made: Repository) -> None:
    both(
        made,
        lambda group: group.create_array("a", shape=(2,), dtype="i4"),
        lambda group: group.create_group("b").create_array("c", shape=(2,), dtype="i4"),
    )
    made.merge("other")
    found = merged_group(made)
    assert {"a", "b", "x"} == {name for name, _ in found.members()}
    assert "c" in found["b"]


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_consolidated_metadata_merges(made: Repository) -> None:
    def consolidated(change: Change) -> Change:
        def both_steps(group: Any) -> None:
            change(group)
            zarr.consolidate_metadata(group.store.with_consolidated_metadata(), path="g")

        return both_steps

    commit(made, "main", consolidated(lambda group: None))
    made.branches.move("other", "main")
    both(
        made,
        consolidated(attribute("x", "ours", 1)),
        consolidated(lambda group: group.create_array("new", shape=(2,), dtype="i4")),
    )
    made.merge("other")
    store = made.checkout().store.with_consolidated_metadata()
    found = zarr.open_consolidated(store, path="g", mode="r")
    assert found["x"].attrs["ours"] == 1
    assert found["new"].shape == (2,)


# Conflicts


@pytest.mark.parametrize("node", [None, "x"], ids=["group", "array"])
def test_one_attribute_changed_twice_is_a_conflict_of_that_field(
    made: Repository, node: str | None
) -> None:
    both(made, attribute(node, "n", 2), attribute(node, "n", 3))
    (conflict,) = conflicts_of(made)
    assert (conflict.base, conflict.ours, conflict.theirs) == (1, 2, 3)
    assert conflict.field is not None
    assert conflict.field.split(".")[-1] == "n"
    assert conflict.path.startswith("g/x/" if node else "g/")
    assert conflict.field in str(conflict)


def test_one_chunk_written_twice_is_a_conflict(made: Repository) -> None:
    both(made, chunk(1, 7), chunk(1, 9))
    (conflict,) = conflicts_of(made)
    (chunk_conflict,) = conflict.chunks
    assert conflict.path == "g/x"
    assert chunk_conflict.key in ("g/x/1", "g/x/c/1")
    assert chunk_conflict.coordinates == (1,)
    assert conflict.kind is vz.ConflictKind.CHANGED
    assert conflict.kind == "changed on both sides"
    assert str(conflict).startswith(chunk_conflict.key)
    assert conflict.ours != conflict.theirs
    assert str(conflict.base).startswith("bafkrei")


def shrink(group: Any) -> None:
    group["x"].resize((4,))


STRUCTURAL: dict[str, Change] = {
    "shrink": shrink,
    "dtype": rewrite(dtype="f8"),
    "chunk grid": rewrite(chunks=(4,)),
    "fill value": rewrite(fill_value=3),
    "codecs": rewrite(compressors=None),
    "removal": remove,
}


@pytest.mark.parametrize("case", STRUCTURAL)
@pytest.mark.parametrize("turned", [False, True], ids=["ours", "theirs"])
def test_a_chunk_written_against_another_structure_is_a_conflict(
    made: Repository, case: str, turned: bool
) -> None:
    sides = (STRUCTURAL[case], chunk(0, 7))
    both(made, *(reversed(sides) if turned else sides))
    found = conflicts_of(made)
    assert "g/x" in [conflict.path for conflict in found]
    text = " ".join(conflict.kind for conflict in found)
    assert ("removed" if case == "removal" else "changed on one side") in text


@pytest.mark.parametrize("case", [*STRUCTURAL, "resize"])
def test_another_structure_and_an_attribute_of_the_group_merge(made: Repository, case: str) -> None:
    both(made, {**STRUCTURAL, "resize": resize}[case], attribute(None, "title", "new"))
    made.merge("other")
    assert merged_group(made).attrs["title"] == "new"


def test_a_removal_of_the_group_against_a_chunk_is_a_conflict(made: Repository) -> None:
    session = made.session()
    session.clear("g")
    session.write("else", b"1")
    session.commit("removed")
    commit(made, "other", chunk(0, 7))
    assert {conflict.path for conflict in conflicts_of(made)} == {"g"}
    made.merge("other", resolve="theirs")
    assert merged_group(made)["x"][0] == 7
    assert made.checkout().mapping["else"] == b"1"


# Settling them


def test_ours_and_theirs_take_one_side(made: Repository) -> None:
    def several(value: int) -> Change:
        def change(group: Any) -> None:
            for step in (chunk(0, value), attribute("x", "n", value), attribute(None, "n", value)):
                step(group)

        return change

    both(made, several(7), several(9))
    assert len(conflicts_of(made)) == 3
    made.branches.create("second")
    made.merge("other", resolve="ours")
    for value, settled in ((7, "main"), (9, "second")):
        if settled == "second":
            made.merge("other", into="second", resolve="theirs")
        group = zarr.open_group(made.checkout(settled).store, path="g", mode="r")
        assert group["x"][0] == group["x"].attrs["n"] == group.attrs["n"] == value


@pytest.mark.parametrize(("side", "shape", "first"), [("ours", 4, 1), ("theirs", 8, 7)])
def test_a_node_is_taken_whole(made: Repository, side: str, shape: int, first: int) -> None:
    both(made, shrink, chunk(0, 7))
    made.merge("other", resolve={"g/x": side})
    array = merged_group(made)["x"]
    assert array.shape == (shape,)
    assert array[0] == first


def test_patterns_settle_what_they_match(made: Repository) -> None:
    def several(value: int) -> Change:
        def change(group: Any) -> None:
            chunk(0, value)(group)
            group.attrs["n"] = value

        return change

    both(made, several(7), several(9))
    (left,) = conflicts_of(made, resolve={"g/x/*": "ours"})
    assert left.field is not None
    made.merge("other", resolve={"g/x/*": "ours", "*": "theirs"})
    group = merged_group(made)
    assert group["x"][0] == 7
    assert group.attrs["n"] == 9


def test_a_function_settles_and_may_give_bytes(made: Repository) -> None:
    both(made, chunk(0, 7), chunk(0, 9))
    commit(made, "main", attribute("x", "n", 2))
    commit(made, "other", attribute("x", "n", 3))
    asked: list[vz.Conflict] = []
    donor = commit(made, "main", chunk(3, 42))
    (change,) = made.diff(donor.cid).keys
    value = bytes(made.checkout().mapping[change.key])

    def decide(conflict: vz.Conflict) -> Any:
        asked.append(conflict)
        return "base" if conflict.field else value

    made.merge("other", resolve=decide)
    array = merged_group(made)["x"]
    assert array[:2].tolist() == [42, 42]
    assert array.attrs["n"] == 1
    assert len(asked) == 2


def test_a_function_may_leave_a_conflict(made: Repository) -> None:
    both(made, chunk(0, 7), chunk(0, 9))
    commit(made, "main", chunk(1, 7))
    commit(made, "other", chunk(1, 9))
    (left,) = conflicts_of(made, resolve=lambda conflict: {"*0": "ours"})
    (chunk_left,) = left.chunks
    assert chunk_left.key.endswith("1")
    assert len(conflicts_of(made, resolve=lambda conflict: None)) == 1


def test_a_criss_cross_with_a_conflict_is_settled_by_hand(made: Repository) -> None:
    both(made, chunk(0, 7), chunk(0, 9))
    ours, theirs = made.branches["main"].cid, made.branches["other"].cid
    made.merge(theirs, resolve="ours")
    made.merge(ours, into="other", resolve="ours")
    assert len(conflicts_of(made)) == 1
    commit(made, "other", chunk(2, 5))
    made.merge("other", resolve="theirs")
    assert merged_group(made)["x"][:6].tolist() == [9, 9, 1, 1, 5, 5]


def test_a_criss_cross_where_the_sides_agree_merges(made: Repository) -> None:
    both(made, chunk(0, 7), chunk(0, 9))
    ours, theirs = made.branches["main"].cid, made.branches["other"].cid
    made.merge(theirs, resolve="ours")
    made.merge(ours, into="other", resolve="theirs")
    commit(made, "other", chunk(2, 5))
    made.merge("other")
    assert merged_group(made)["x"][:6].tolist() == [7, 7, 1, 1, 5, 5]


# The same at a session's commit


def test_a_commit_on_a_moved_branch_merges_alike(made: Repository) -> None:
    session = made.session()
    group = group_of(session)
    commit(made, "main", chunk(3, 9))
    commit(made, "main", attribute("x", "theirs", 2))
    chunk(0, 7)(group)
    attribute("x", "ours", 1)(group)
    attribute(None, "title", "new")(group)
    done = session.commit("late")
    assert len(done.parents) == 1
    array = merged_group(made)["x"]
    assert array[:].tolist() == [7, 7, 1, 1, 1, 1, 9, 9]
    assert {"ours": 1, "theirs": 2}.items() <= dict(array.attrs).items()
    assert group_of(session)["x"][6] == 9


@pytest.mark.parametrize("case", STRUCTURAL)
def test_a_commit_on_another_structure_is_a_conflict_and_loses_nothing(
    made: Repository, case: str
) -> None:
    session = made.session()
    chunk(0, 7)(group_of(session))
    moved = commit(made, "main", STRUCTURAL[case])
    with pytest.raises(vz.ConflictError) as caught:
        session.commit("late")
    assert "g/x" in [conflict.path for conflict in caught.value.conflicts]
    assert made.branches["main"] == moved
    assert group_of(session)["x"][0] == 7
    session.commit("late, and right", resolve="theirs")
    assert merged_group(made)["x"][:].tolist() == [7, 7, 1, 1, 1, 1, 1, 1]


def test_an_equal_change_by_two_sessions_is_a_conflict(made: Repository) -> None:
    one, two = made.session(), made.session()
    for session in (one, two):
        array = group_of(session)["x"]
        array[:2] = array[:2] + 6
    one.commit("one")
    with pytest.raises(vz.ConflictError) as caught:
        two.commit("two")
    (conflict,) = caught.value.conflicts
    assert conflict.ours == conflict.theirs != conflict.base
    assert "same bytes" in conflict.kind


def test_an_equal_new_node_by_two_sessions_is_none(made: Repository) -> None:
    one, two = made.session(), made.session()
    for number, session in enumerate((one, two)):
        array = group_of(session).create_array("new", shape=(4,), chunks=(2,), dtype="i4")
        array[2 * number : 2 * number + 2] = number + 1
    one.commit("one")
    two.commit("two")
    assert merged_group(made)["new"][:].tolist() == [1, 1, 2, 2]


def test_on_moved_fail_refuses_what_would_merge(made: Repository) -> None:
    session = made.session()
    chunk(0, 7)(group_of(session))
    moved = commit(made, "main", chunk(3, 9))
    with pytest.raises(vz.BranchMovedError) as caught:
        session.commit("late", on_moved="fail")
    assert caught.value.found == moved.cid
    session.commit("late")
    assert merged_group(made)["x"][[0, 6]].tolist() == [7, 9]


# Revert and cherry-pick


def test_revert_undoes_one_change_and_keeps_the_later(made: Repository) -> None:
    wrong = commit(made, "main", chunk(0, 7))
    commit(made, "main", chunk(1, 8))
    commit(made, "main", attribute("x", "n", 2))
    undone = made.revert(wrong.cid)
    assert wrong.cid in undone.message
    array = merged_group(made)["x"]
    assert array[:4].tolist() == [1, 1, 8, 8]
    assert array.attrs["n"] == 2


def test_revert_of_what_changed_again_is_a_conflict(made: Repository) -> None:
    wrong = commit(made, "main", chunk(0, 7))
    later = commit(made, "main", chunk(0, 8))
    with pytest.raises(vz.ConflictError) as caught:
        made.revert(wrong.cid)
    assert len(caught.value.conflicts) == 1
    assert made.branches["main"] == later
    with pytest.raises(vz.NothingToCommitError):
        made.revert(wrong.cid, resolve="ours")
    made.revert(wrong.cid, resolve="theirs")
    assert merged_group(made)["x"][0] == 1


def test_cherry_pick_takes_one_change(made: Repository) -> None:
    commit(made, "other", chunk(0, 9))
    wanted = commit(made, "other", chunk(1, 9))
    picked = made.cherry_pick(wanted.cid)
    assert picked.message == wanted.message
    assert picked.metadata["cherry_picked_from"] == wanted.cid
    assert merged_group(made)["x"][:4].tolist() == [1, 1, 9, 9]
    with pytest.raises(vz.NothingToCommitError):
        made.cherry_pick(wanted.cid)


def test_cherry_pick_onto_another_structure_is_a_conflict(made: Repository) -> None:
    wanted = commit(made, "other", chunk(1, 9))
    head = commit(made, "main", shrink)
    with pytest.raises(vz.ConflictError) as caught:
        made.cherry_pick(wanted.cid)
    assert [conflict.path for conflict in caught.value.conflicts] == ["g/x"]
    assert made.branches["main"] == head


def test_the_root_commit_has_no_change(made: Repository) -> None:
    for call in (made.revert, made.cherry_pick):
        with pytest.raises(vz.InvalidInputError, match="root commit"):
            call("main~1")


def test_a_merge_leaves_a_sound_repository(made: Repository) -> None:
    both(made, chunk(0, 7), chunk(1, 9))
    made.merge("other")
    made.revert("main~1")
    report = made.fsck()
    assert report.is_clean, str(report)
    assert not report.unreferenced


def test_bytes_settle_what_is_a_folder_on_one_side(repository: Repository) -> None:
    repository.branches.create("dev")
    for branch, key in (("main", "g/x"), ("dev", "g")):
        with repository.session(branch, message=key) as session:
            session.write(key, b"1")
    repository.merge("dev", resolve=lambda conflict: b"settled")
    assert repository.checkout().read("g") == b"settled"
