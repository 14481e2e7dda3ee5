"""Nodes that cannot be merged key by key are taken whole, and consolidated metadata follows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository

Change = Callable[[Store], object]


def forked(base: Change, ours: Change, theirs: Change) -> Repository:
    """A repository whose branches `main` and `dev` changed what both began with."""
    repository = vz.create(f"memory://{uuid.uuid4()}")
    with repository.session(message="base") as session:
        base(session.store.with_consolidated_metadata())
    repository.branches.create("dev")
    for branch, change in (("main", ours), ("dev", theirs)):
        with repository.session(branch, message=branch) as session:
            change(session.store.with_consolidated_metadata())
    return repository


def array(store: Store, size: int, dtype: str, value: int, version: int = 3) -> None:
    made = zarr.create_array(
        store, name="x", shape=(size,), chunks=(2,), dtype=dtype, fill_value=0, zarr_format=version
    )
    made[:4] = value


def group(store: Store) -> None:
    zarr.create_group(store)


def nothing(store: Store) -> None:
    zarr.create_group(store, path="other")


def check_taken_whole(repository: Repository, side: str) -> None:
    """Check that the node `x` is one conflict, and that of one side if that settles it."""
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert [conflict.path for conflict in caught.value.conflicts] == ["x"]
    wanted = repository.checkout("main" if side == "ours" else "dev").path("x").cid
    repository.merge("dev", resolve=side)
    assert repository.checkout().path("x").cid == wanted


def values(repository: Repository, ref: str = "main", path: str = "x") -> Any:
    return zarr.open_array(repository.checkout(ref).store, path=path, mode="r")[:]


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("how", [str, lambda side: {"x": side}, lambda side: lambda _: side])
def test_arrays_that_were_added_differently_are_taken_whole(
    side: str, how: Callable[[str], Any]
) -> None:
    repository = forked(
        group, lambda store: array(store, 10, "f8", 1), lambda store: array(store, 40, "i4", 7)
    )
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    assert (conflict.path, conflict.base) == ("x", None)
    assert conflict.kind == "added differently on both sides"
    expected = values(repository, "main" if side == "ours" else "dev")
    repository.merge("dev", resolve=how(side))
    found = values(repository)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    ref = "main~1" if side == "ours" else "dev"
    assert repository.checkout("main").path("x").cid == repository.checkout(ref).path("x").cid


def test_a_session_whose_branch_moved_takes_an_array_whole_too() -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    late, quick = repository.session(), repository.session()
    array(quick.store, 10, "f8", 1)
    quick.commit("quick")
    array(late.store, 40, "i4", 7)
    with pytest.raises(vz.ConflictError, match="added differently"):
        late.commit("late")
    late.commit("late", resolve="theirs")
    assert values(repository).tolist() == [7] * 4 + [0] * 36
    assert values(repository).dtype == "i4"


def test_arrays_that_were_added_alike_merge_chunk_by_chunk() -> None:
    def half(start: int) -> Change:
        def write(store: Store) -> None:
            array(store, 8, "i4", 0)
            zarr.open_array(store, path="x")[start : start + 4] = start + 1

        return write

    repository = forked(group, half(0), half(4))
    repository.merge("dev")
    assert values(repository).tolist() == [1] * 4 + [5] * 4


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_arrays_of_two_formats_at_one_path_conflict(side: str) -> None:
    repository = forked(
        nothing,
        lambda store: array(store, 10, "f8", 1, version=3),
        lambda store: array(store, 10, "f8", 2, version=2),
    )
    with pytest.raises(vz.ConflictError, match="added differently"):
        repository.merge("dev")
    expected = values(repository, "main" if side == "ours" else "dev")
    repository.merge("dev", resolve=side)
    assert values(repository).tolist() == expected.tolist()
    names = set(repository.checkout().list_dir("x"))
    assert len(names & {"zarr.json", ".zarray"}) == 1


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("is_explicit", [True, False])
def test_an_array_and_nodes_below_its_path_conflict(
    side: str, is_ours: bool, is_explicit: bool
) -> None:
    def tree(store: Store) -> None:
        if is_explicit:
            zarr.create_group(store, path="x")
        made = zarr.create_array(store, name="x/child", shape=(3,), chunks=(3,), dtype="i4")
        made[:] = 5

    def without_group(store: Store) -> None:
        tree(store)
        if not is_explicit:
            store._view.mapping.pop("x/zarr.json", None)

    def leaf(store: Store) -> None:
        array(store, 4, "f8", 1)

    changes = (leaf, without_group) if is_ours else (without_group, leaf)
    repository = forked(group, *changes)
    with pytest.raises(vz.ConflictError, match=r"added differently|nodes below it"):
        repository.merge("dev")
    repository.merge("dev", resolve=side)
    if is_ours == (side == "ours"):
        assert values(repository).tolist() == [1] * 4
        assert "child" not in repository.checkout().list_dir("x")
    else:
        assert values(repository, path="x/child").tolist() == [5] * 3
        assert "c" not in repository.checkout().list_dir("x")


def fields(**changed: Any) -> Change:
    """Fields of the array's document, as they are to be."""

    def change(store: Store) -> None:
        mapping = store._view.mapping
        document = {**json.loads(mapping["x/zarr.json"]), **changed}
        mapping["x/zarr.json"] = json.dumps(document).encode()

    return change


def empty(store: Store) -> None:
    zarr.create_array(store, name="x", shape=(8,), chunks=(2,), dtype="f8", fill_value=0)


def two_dimensions(store: Store) -> None:
    zarr.create_array(
        store, name="x", shape=(2, 4), chunks=(1, 2), dtype="f8", fill_value=0, overwrite=True
    )


def resize(store: Store) -> None:
    zarr.open_array(store, path="x").resize((12,))


def to_group(store: Store) -> None:
    zarr.create_group(store, path="x", overwrite=True)


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (fields(data_type="int64", fill_value=0), fields(fill_value="NaN")),
        (fields(data_type="int64"), fields(fill_value="NaN")),
        (two_dimensions, resize),
        (to_group, resize),
    ],
    ids=["data types", "data type and fill value", "dimensions", "group"],
)
@pytest.mark.parametrize("is_turned", [False, True])
def test_an_array_of_no_chunks_is_that_of_one_side_or_the_other(
    ours: Change, theirs: Change, side: str, is_turned: bool
) -> None:
    changes = (theirs, ours) if is_turned else (ours, theirs)
    repository = forked(empty, *changes)
    check_taken_whole(repository, side)


def test_a_shape_and_another_field_merge() -> None:
    repository = forked(empty, resize, fields(fill_value=3.0))
    repository.merge("dev")
    assert values(repository).tolist() == [3.0] * 12


def test_groups_that_both_became_arrays_differently_conflict() -> None:
    def to_array(dtype: str) -> Change:
        def change(store: Store) -> None:
            options = {"shape": (4,), "chunks": (2,), "dtype": dtype}
            zarr.create_array(store, name="x", overwrite=True, **options)

        return change

    repository = forked(
        lambda store: zarr.create_group(store, path="x"), to_array("i4"), to_array("f8")
    )
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert [conflict.path for conflict in caught.value.conflicts] == ["x"]
    repository.merge("dev", resolve="theirs")
    assert values(repository).dtype == "f8"


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("is_explicit", [True, False])
@pytest.mark.parametrize("version", [2, 3])
def test_an_array_in_place_of_a_group_conflicts_with_chunks_written_in_it(
    side: str, is_explicit: bool, version: int
) -> None:
    def base(store: Store) -> None:
        zarr.create_group(store, path="x", zarr_format=version)
        made = zarr.create_array(
            store, name="x/a/child", shape=(4,), chunks=(2,), dtype="i4", zarr_format=version
        )
        made[:] = 1
        if not is_explicit:
            for name in ("zarr.json", ".zgroup", ".zattrs", "a/zarr.json", "a/.zgroup"):
                store._view.mapping.pop(f"x/{name}", None)

    def replace(store: Store) -> None:
        for key in [key for key in store._view.mapping if key.startswith("x/")]:
            del store._view.mapping[key]
        array(store, 4, "f8", 2, version=version)

    def write(store: Store) -> None:
        zarr.open_array(store, path="x/a/child", zarr_format=version)[:2] = 9

    repository = forked(base, replace, write)
    check_taken_whole(repository, side)


def test_a_value_may_stand_where_the_other_side_has_a_folder_of_the_node() -> None:
    def write(dtype: str, key: str) -> Change:
        def change(store: Store) -> None:
            zarr.create_array(store, name="x", shape=(4,), chunks=(2,), dtype=dtype)
            store._view.mapping[key] = b"12"

        return change

    for changes in (
        (write("i1", "x/c/0"), write("i2", "x/c")),
        (write("i2", "x/c"), write("i1", "x/c/0")),
    ):
        repository = forked(group, *changes)
        wanted = repository.checkout("dev").path("x").cid
        repository.merge("dev", resolve="theirs")
        assert repository.checkout().path("x").cid == wanted


def test_true_is_not_1() -> None:
    def set_attributes(**attributes: Any) -> Change:
        return lambda store: zarr.open_group(store).update_attributes(attributes)

    def base(store: Store) -> None:
        zarr.create_group(store, attributes={"a": 0, "b": 1})

    repository = forked(base, set_attributes(c=1), set_attributes(b=True))
    repository.merge("dev")
    found = zarr.open_group(repository.checkout().store, mode="r").attrs.asdict()
    assert json.dumps(found, sort_keys=True) == '{"a": 0, "b": true, "c": 1}'
    repository = forked(base, set_attributes(a=True), set_attributes(a=1))
    repository.merge("dev", resolve="ours")
    assert zarr.open_group(repository.checkout().store, mode="r").attrs["a"] is True


# Consolidated metadata


def dataset(store: Store, version: int, dtype: str = "f8", start: int = 0, **more: Any) -> None:
    xarray = pytest.importorskip("xarray")
    variables = {"x": ("t", np.arange(start, start + 8, dtype=dtype)), "y": ("t", np.arange(8))}
    options = {"zarr_format": version, "consolidated": True, "mode": "w", **more}
    xarray.Dataset(variables).to_zarr(store, encoding={"x": {"chunks": (2,)}}, **options)


def replace_x(store: Store, version: int) -> None:
    xarray = pytest.importorskip("xarray")
    root = zarr.open_group(store, use_consolidated=False)
    del root["x"]
    found = xarray.Dataset({"x": ("t", np.arange(100, 108, dtype="i8"))})
    options = {"zarr_format": version, "consolidated": True, "mode": "a"}
    found.to_zarr(store, encoding={"x": {"chunks": (2,)}}, **options)


def remove_x(store: Store, version: int) -> None:
    root = zarr.open_group(store, use_consolidated=False)
    del root["x"]
    zarr.consolidate_metadata(store, zarr_format=version)


def write_chunk(store: Store) -> None:
    zarr.open_group(store, use_consolidated=False)["x"][0:2] = -1


def agree(repository: Repository, ref: str = "main") -> bool:
    """Whether xarray reads the same with consolidated metadata and without."""
    xarray = pytest.importorskip("xarray")
    store = repository.checkout(ref).store.with_consolidated_metadata()
    one, other = (
        xarray.open_zarr(store, consolidated=is_consolidated) for is_consolidated in (True, False)
    )
    return bool(one.identical(other))


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("change", [replace_x, remove_x])
@pytest.mark.parametrize("is_ours", [True, False])
@pytest.mark.parametrize("resolve", ["ours", "theirs", {"x": "ours"}, {"x": "theirs"}])
def test_consolidated_metadata_follows_a_node_that_was_settled(
    version: int, change: Callable[[Store, int], None], is_ours: bool, resolve: Any
) -> None:
    changes: tuple[Change, Change] = (lambda store: change(store, version), write_chunk)
    repository = forked(
        lambda store: dataset(store, version), *(changes if is_ours else changes[::-1])
    )
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert [conflict.path for conflict in caught.value.conflicts] == ["x"]
    repository.merge("dev", resolve=resolve)
    assert agree(repository)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_field_that_conflicts_conflicts_once(version: int, side: str) -> None:
    def set_units(units: str) -> Change:
        def change(store: Store) -> None:
            root = zarr.open_group(store, use_consolidated=False)
            root["x"].attrs["units"] = units
            root["y"].attrs[units] = 1
            zarr.consolidate_metadata(store, zarr_format=version)

        return change

    repository = forked(lambda store: dataset(store, version), set_units("K"), set_units("C"))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    assert conflict.path == ("x/zarr.json" if version == 3 else "x/.zattrs")
    repository.merge("dev", resolve=side)
    assert agree(repository)
    found = zarr.open_group(repository.checkout().store, mode="r")
    assert found["x"].attrs["units"] == ("K" if side == "ours" else "C")
    assert {"K", "C"} <= set(found["y"].attrs)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("version", [2, 3])
def test_consolidated_metadata_of_groups_at_several_levels_follows(version: int) -> None:
    def base(store: Store) -> None:
        zarr.create_group(store, zarr_format=version)
        dataset(store, version, group="a/b")
        for path in ("a/b", "a", ""):
            zarr.consolidate_metadata(store, path=path or None, zarr_format=version)

    def ours(store: Store) -> None:
        root = zarr.open_group(store, use_consolidated=False)
        del root["a/b/x"]
        root.create_array("a/b/x", shape=(8,), chunks=(2,), dtype="i8")[:] = 9
        for path in ("a/b", "a", ""):
            zarr.consolidate_metadata(store, path=path or None, zarr_format=version)

    def theirs(store: Store) -> None:
        zarr.open_group(store, path="a/b", use_consolidated=False)["x"][0:2] = -1

    repository = forked(base, ours, theirs)
    repository.merge("dev", resolve="theirs")
    store = repository.checkout().store.with_consolidated_metadata()
    for path, name in (("", "a/b/x"), ("a", "b/x"), ("a/b", "x")):
        one, other = (
            zarr.open_group(store, path=path, mode="r", use_consolidated=is_used)[name]
            for is_used in (True, False)
        )
        # As text, since a fill value may be NaN.
        assert str(one.metadata.to_dict()) == str(other.metadata.to_dict())
        assert one.dtype == "f8"


# Odd documents


@pytest.mark.parametrize("depth", [300, 600, 900, 5_000, 100_000])
def test_a_document_that_is_nested_too_deeply_conflicts_as_a_whole(depth: int) -> None:
    def write(depth: int) -> Change:
        text = b'{"a":' * depth + b"1" + b"}" * depth
        return lambda store: store._view.mapping.__setitem__("x/zarr.json", text)

    repository = forked(write(1), write(depth), write(depth + 1))
    with pytest.raises(vz.ConflictError, match=r"x/zarr\.json"):
        repository.merge("dev")
    diff = repository.diff("main", "dev")
    assert json.dumps(diff.to_dict())
    assert [change.key for change in diff.other_keys] == ["x/zarr.json"]
    assert "changed key x/zarr.json" in str(diff)
    repository.merge("dev", resolve="theirs")
    assert not repository.diff("main", "dev")


def test_a_document_may_be_nested_and_long() -> None:
    def write(name: str) -> Change:
        value = [[{"a": [index]}] for index in range(1_000)]
        for _ in range(150):
            value = [value]
        return lambda store: zarr.open_group(store).update_attributes({name: value})

    repository = forked(group, write("one"), write("two"))
    repository.merge("dev")
    assert set(zarr.open_group(repository.checkout().store, mode="r").attrs) == {"one", "two"}


def test_what_json_does_not_have_is_told_in_text() -> None:
    def set_attribute(value: float) -> Change:
        return lambda store: zarr.open_group(store).update_attributes({"a": [value], "n": None})

    repository = forked(group, set_attribute(float("nan")), set_attribute(float("-inf")))
    diff = repository.diff("main").to_dict()
    assert json.loads(json.dumps(diff, allow_nan=False)) == diff
    assert diff["nodes"][0]["fields"] == {
        "attributes.a": {"old": None, "new": ["NaN"], "how": "added"},
        "attributes.n": {"old": None, "new": None, "how": "added"},
    }
    assert "attributes.n: nothing -> null" in str(repository.diff("main"))
    assert "attributes.n: null -> nothing" in str(repository.diff("main", "main~1"))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    assert conflict.to_dict()["theirs"] == ["-Infinity"]
