"""Consolidated metadata after a merge says what the nodes' documents say."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
import zarr

import versioned_zarr as vz
from tests.repository.test_diff import reopened_counting
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session

Change = Callable[["Made"], object]
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")


class Made:
    """What a session sees of one format of Zarr."""

    def __init__(self, session: Session, version: int) -> None:
        self.store, self.mapping, self.version = (
            session.store.with_consolidated_metadata(),
            session.mapping,
            version,
        )

    def group(self, path: str = "") -> Any:
        return zarr.open_group(self.store, path=path, use_consolidated=False)

    def consolidate(self, *paths: str) -> None:
        for path in paths or ("",):
            zarr.consolidate_metadata(self.store, path=path or None, zarr_format=self.version)


@pytest.fixture(params=[2, 3], ids=["v2", "v3"])
def version(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def forked(version: int, base: Change, ours: Change, theirs: Change) -> Repository:
    """A repository whose branches `main` and `dev` changed what both began with."""
    repository = vz.create(f"memory://{uuid.uuid4()}")
    for branch, change in (("main", base), ("main", ours), ("dev", theirs)):
        with repository.session(branch, message=branch) as session:
            change(Made(session, version))
        if change is base:
            repository.branches.create("dev")
    return repository


def plain(made: Made) -> None:
    """A group with an array `x` of 8 numbers and one `g/y`."""
    root = zarr.create_group(made.store, zarr_format=made.version, attributes={"title": "t"})
    for path in ("x", "g/y"):
        array = root.create_array(path, shape=(8,), chunks=(2,), dtype="f8")
        array.attrs["units"] = "m"
        array[:] = 1


def consolidated(made: Made) -> None:
    plain(made)
    made.consolidate()


def units(value: str, path: str = "x") -> Change:
    return lambda made: made.group()[path].attrs.update({"units": value})


def add(path: str) -> Change:
    return lambda made: made.group().create_array(path, shape=(2,), chunks=(2,), dtype="i4")


def both(*changes: Change) -> Change:
    def change(made: Made) -> None:
        for each in changes:
            each(made)

    return change


def consolidate(made: Made) -> None:
    made.consolidate()


def members(group: Any) -> dict[str, Any]:
    """What a group and all below it say of themselves."""
    found = {path: node.metadata.to_dict() for path, node in group.members(max_depth=None)}
    for document in [*found.values()]:
        document.pop("consolidated_metadata", None)
    return {"": dict(group.attrs), **found}


def seen(repository: Repository, ref: str = "main", path: str = "") -> dict[str, Any]:
    """What the consolidated metadata shows, which is what is there."""
    store = repository.checkout(ref).store.with_consolidated_metadata()
    one, other = (
        members(zarr.open_group(store, path=path, mode="r", use_consolidated=is_used))
        for is_used in (True, False)
    )
    assert one == other
    return one


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_field_that_was_settled_is_copied_where_one_side_consolidated(
    version: int, side: str, is_ours: bool
) -> None:
    changes = (both(units("K"), consolidate), units("C"))
    repository = forked(version, consolidated, *(changes if is_ours else changes[::-1]))
    repository.merge("dev", resolve=side)
    array = zarr.open_array(repository.checkout().store, path="x", mode="r")
    assert array.attrs["units"] == ("K" if is_ours == (side == "ours") else "C")
    seen(repository)


def test_the_attributes_of_a_group_conflict_once(version: int) -> None:
    def title(text: str) -> Change:
        def change(made: Made) -> None:
            made.group().attrs["title"] = text
            made.consolidate()

        return change

    repository = forked(version, consolidated, title("ours"), title("theirs"))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    repository.merge("dev", resolve={conflict.path: "theirs"})
    assert seen(repository)[""] == {"title": "theirs"}


def test_what_one_side_did_not_consolidate_is_copied(version: int) -> None:
    def resize(made: Made) -> None:
        made.group()["x"].resize((12,))

    repository = forked(version, consolidated, both(add("n"), consolidate), resize)
    repository.merge("dev")
    found = seen(repository)
    assert {"n", "x"} <= set(found)
    assert list(found["x"]["shape"]) == [12]


def test_what_was_seen_without_copies_is_seen_with_them(version: int) -> None:
    repository = forked(version, plain, consolidate, both(add("n"), add("g/m")))
    repository.merge("dev")
    assert {"x", "n", "g", "g/y", "g/m"} <= set(seen(repository))


def test_copies_that_one_side_dropped_are_no_conflict() -> None:
    def drop(made: Made) -> None:
        # zarr-python writes the document without the copies.
        made.group().attrs["more"] = 1
        assert "consolidated_metadata" not in json.loads(made.mapping["zarr.json"])
        units("C", "g/y")(made)

    for turn in (1, -1):
        changes = [both(add("n"), units("K"), consolidate), drop][::turn]
        repository = forked(3, consolidated, *changes)
        repository.merge("dev")
        found = seen(repository)
        assert found["x"]["attributes"] == {"units": "K"}
        assert found["g/y"]["attributes"] == {"units": "C"}
        assert found[""] == {"title": "t", "more": 1}


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("is_ours", [True, False])
def test_a_group_that_became_an_array_is_copied_as_what_was_taken(
    version: int, side: str, is_ours: bool
) -> None:
    def replace(made: Made) -> None:
        root = made.group()
        del root["g"]
        root.create_array("g", shape=(4,), chunks=(2,), dtype="i4")[:] = 2
        made.consolidate()

    def write(made: Made) -> None:
        made.group()["g/y"][:2] = 9

    changes = (replace, write)
    repository = forked(version, consolidated, *(changes if is_ours else changes[::-1]))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert [conflict.path for conflict in caught.value.conflicts] == ["g"]
    repository.merge("dev", resolve=side)
    found = seen(repository)
    is_array = is_ours == (side == "ours")
    assert ("g/y" in found) != is_array
    if version == 3:
        document = json.loads(repository.checkout().mapping["zarr.json"])
        copy = document["consolidated_metadata"]["metadata"]["g"]
        assert ("consolidated_metadata" in copy) != is_array


def test_every_level_is_copied(version: int) -> None:
    levels = ("a/b", "a", "")

    def base(made: Made) -> None:
        root = zarr.create_group(made.store, zarr_format=made.version)
        root.create_group("a").create_group("b")
        root.create_array("a/b/x", shape=(8,), chunks=(2,), dtype="f8", attributes={"units": "m"})
        made.consolidate(*levels)

    def ours(made: Made) -> None:
        units("K", "a/b/x")(made)
        made.group("a/b").attrs["title"] = "new"
        made.consolidate(*levels)

    repository = forked(version, base, ours, units("C", "a/b/x"))
    repository.merge("dev", resolve="theirs")
    for level in levels:
        found = seen(repository, path=level)
        assert found[f"{'a/b/x'[len(level) :].strip('/')}"]["attributes"] == {"units": "C"}


def test_a_session_whose_branch_moved_copies_too(version: int) -> None:
    repository = forked(version, consolidated, add("o"), units("K"))
    session = repository.session()
    both(add("n"), consolidate)(Made(session, version))
    repository.cherry_pick("dev")
    session.commit("late")
    assert {"n", "x"} <= set(seen(repository))
    assert seen(repository)["x"]["attributes"] == {"units": "K"}


def test_what_only_one_side_changed_is_taken_as_it_is(version: int) -> None:
    repository = forked(version, consolidated, units("K"), add("n"))
    before = repository.checkout().cid
    with repository.session(message="more") as session:
        units("C")(Made(session, version))
    repository.revert("main")
    assert repository.checkout().cid == before


def test_a_merge_reads_what_changed_and_not_the_rest(version: int) -> None:
    def base(made: Made) -> None:
        root = zarr.create_group(made.store, zarr_format=made.version)
        for number in range(60):
            root.create_array(f"g/{number}", shape=(8,), chunks=(2,), dtype="f8")[:] = number
        made.consolidate()

    repository = forked(version, base, both(units("K", "g/7"), consolidate), units("C", "g/7"))
    fresh, counting = reopened_counting(repository)
    before = counting.count
    fresh.merge("dev", resolve="theirs")
    # Each tree's way down and its documents; 60 arrays have 400 blocks.
    assert counting.count - before <= 70
    assert seen(repository)["g/7"]["attributes"] == {"units": "C"}


@pytest.mark.parametrize("is_ours", [True, False])
def test_copies_that_one_side_removed_and_the_other_made_again_stay(is_ours: bool) -> None:
    def drop(made: Made) -> None:
        del made.mapping[".zmetadata"]

    changes = (both(drop, units("K", "g/y")), both(add("new"), consolidate))
    repository = forked(2, consolidated, *(changes if is_ours else changes[::-1]))
    repository.merge("dev")
    assert {"x", "g", "g/y", "new"} < seen(repository).keys()


@pytest.mark.parametrize("is_ours", [True, False])
def test_copies_do_not_outlive_their_group(is_ours: bool) -> None:
    def copies_alone(made: Made) -> None:
        document = json.loads(made.mapping["g/.zmetadata"])
        made.mapping["g/.zmetadata"] = json.dumps({**document, "more": 1}).encode()

    def remove(made: Made) -> None:
        del made.group()["g"]

    changes = (remove, copies_alone)
    repository = forked(
        2,
        both(plain, lambda made: made.consolidate("g")),
        *(changes if is_ours else changes[::-1]),
    )
    with pytest.raises(vz.ConflictError) as clash:
        repository.merge("dev")
    assert [each.path for each in clash.value.conflicts] == ["g"]
