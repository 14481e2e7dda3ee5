"""A shape that only grew goes together with chunks that the other side wrote in both shapes."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.abc.store import Store

import versioned_zarr as vz
from tests.repository.test_merge_nodes import forked, values
from versioned_zarr.engine.hierarchy.merge.shapes import has_grown
from versioned_zarr.repository.repository import Repository

Change = Callable[[Store], object]
LAYOUTS = [{"zarr_format": 2}, {"zarr_format": 3}, {"zarr_format": 3, "shards": (4, 2)}]


@pytest.fixture(params=LAYOUTS, ids=["v2", "v3", "shards"])
def base(request: pytest.FixtureRequest) -> Change:
    """The array `g/x` of 7 x 2 ones, in chunks of 2 x 2 of which the last is cut off."""

    def make(store: Store) -> None:
        zarr.create_group(store, path="g", zarr_format=request.param["zarr_format"])
        options = {"shape": (7, 2), "chunks": (2, 2), "dtype": "i4", "fill_value": 0}
        zarr.create_array(store, name="g/x", **options, **request.param)[:] = 1

    return make


def opened(store: Store) -> Any:
    return zarr.open_array(store, path="g/x")


def append(count: int, value: int = 5) -> Change:
    return lambda store: opened(store).append(np.full((count, 2), value, "i4"))


def write(start: int, end: int, value: int = 9) -> Change:
    def change(store: Store) -> None:
        opened(store)[start:end] = value

    return change


def resize(*shape: int) -> Change:
    return lambda store: opened(store).resize(shape)


def found(repository: Repository) -> list[int]:
    """The array's first column, of which its second is a copy."""
    array = values(repository, path="g/x")
    assert (array == array[:, :1]).all()
    return [int(value) for value in array[:, 0]]


def turned(is_turned: bool, *changes: Change) -> tuple[Change, Change]:
    one, other = changes[::-1] if is_turned else changes
    return one, other


@pytest.mark.parametrize("is_turned", [False, True])
def test_an_append_and_a_correction_merge(base: Change, is_turned: bool) -> None:
    repository = forked(base, *turned(is_turned, append(3), write(0, 2)))
    repository.merge("dev")
    assert found(repository) == [9, 9, 1, 1, 1, 1, 1, 5, 5, 5]
    assert repository.fsck().is_clean


@pytest.mark.parametrize("is_turned", [False, True])
def test_sessions_that_append_and_correct_merge(base: Change, is_turned: bool) -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    with repository.session(message="base") as session:
        base(session.store)
    one, other = repository.session(), repository.session()
    for session, change in zip(
        (one, other), turned(is_turned, append(3), write(0, 2)), strict=True
    ):
        change(session.store)
    one.commit("one")
    other.commit("other")
    assert found(repository) == [9, 9, 1, 1, 1, 1, 1, 5, 5, 5]


def test_a_correction_is_picked_onto_and_reverted_on_an_array_that_grew(base: Change) -> None:
    repository = forked(base, append(3), write(0, 2))
    repository.cherry_pick("dev")
    assert found(repository)[:3] == [9, 9, 1]
    repository.revert("main")
    assert found(repository) == [1] * 7 + [5] * 3


def test_a_chunk_at_the_old_edge_that_both_wrote_is_a_conflict_of_that_chunk(base: Change) -> None:
    repository = forked(base, append(3), write(4, 7))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    assert (conflict.path, conflict.kind) == ("g/x", vz.ConflictKind.CHANGED)
    assert len(conflict.chunks) == 1
    repository.merge("dev", resolve="theirs")
    # The chunk of rows 4 and 5 is the correction's alone; of that at the edge it is one side's.
    assert found(repository) == [1, 1, 1, 1, 9, 9, 9, 0, 5, 5]


def test_a_chunk_at_the_old_edge_that_one_side_wrote_merges(base: Change) -> None:
    repository = forked(base, resize(9, 2), write(6, 7))
    repository.merge("dev")
    assert found(repository) == [1, 1, 1, 1, 1, 1, 9, 0, 0]


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_shape_that_shrank_conflicts(base: Change, is_turned: bool) -> None:
    for change in (resize(4, 2), resize(9, 1)):
        repository = forked(base, *turned(is_turned, change, write(0, 2)))
        with pytest.raises(vz.ConflictError) as caught:
            repository.merge("dev")
        assert [each.path for each in caught.value.conflicts] == ["g/x"]
        assert caught.value.conflicts[0].fields == ("shape",)
        assert "shape changed on one side" in str(caught.value)


def test_two_shapes_that_grew_alike_merge_with_the_chunks_of_both(base: Change) -> None:
    def grow(start: int) -> Change:
        def change(store: Store) -> None:
            resize(12, 2)(store)
            write(start, start + 2)(store)

        return change

    repository = forked(base, grow(0), grow(8))
    repository.merge("dev")
    assert found(repository) == [9, 9, 1, 1, 1, 1, 1, 0, 9, 9, 0, 0]


def test_two_shapes_that_grew_differently_conflict(base: Change) -> None:
    repository = forked(base, append(3), append(5))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert [each.path for each in caught.value.conflicts] == ["g/x"]


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_chunk_written_in_another_shape_that_grew_conflicts(
    base: Change, is_turned: bool
) -> None:
    def grow(store: Store) -> None:
        resize(12, 2)(store)
        write(0, 2)(store)

    repository = forked(base, *turned(is_turned, resize(9, 2), grow))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert [each.path for each in caught.value.conflicts] == ["g/x"]


@pytest.mark.parametrize(
    ("before", "after", "is_grown"),
    [
        ([2, 3], [2, 4], True),
        ([2, 3], [2, 3], True),
        ([], [], True),
        ([2, 3], [3, 2], False),
        ([2], [2, 3], False),
        ([2, 3], [2], False),
        (None, [2], False),
        ([2], "3", False),
        ([2], [3.0], False),
        ([2], [True], False),
        ([-1], [2], False),
    ],
)
def test_a_shape_has_grown_if_no_dimension_is_shorter(
    before: Any, after: Any, is_grown: bool
) -> None:
    assert has_grown(before, after) == is_grown


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_chunk_behind_the_shape_does_not_come_to_light(base: Change, is_turned: bool) -> None:
    def hide(store: Store) -> None:
        mapping = store._view.mapping
        is_v2 = "g/x/.zarray" in mapping
        first, behind = ("0.0", "9.0") if is_v2 else ("c/0/0", "c/9/0")
        mapping[f"g/x/{behind}"] = mapping[f"g/x/{first}"]

    repository = forked(base, *turned(is_turned, resize(40, 2), hide))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert [each.kind for each in caught.value.conflicts] == [vz.ConflictKind.STRUCTURE_AND_CHUNKS]


@pytest.mark.parametrize("is_turned", [False, True])
def test_growth_with_another_structure_conflicts(base: Change, is_turned: bool) -> None:
    def other_fill(store: Store) -> None:
        mapping = store._view.mapping
        [key] = [key for key in mapping if key in ("g/x/.zarray", "g/x/zarr.json")]
        mapping[key] = bytes(mapping[key]).replace(b'"fill_value": 0', b'"fill_value": 3')
        resize(9, 2)(store)

    repository = forked(base, *turned(is_turned, other_fill, write(0, 2)))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert caught.value.conflicts[0].fields == ("fill_value", "shape")


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_consolidated_metadata_has_the_shape_that_grew(zarr_format: Any) -> None:
    xarray = pytest.importorskip("xarray")

    def dataset(count: int, start: int) -> Any:
        variables = {"t": (("time",), np.arange(start, start + count, dtype="f8"))}
        coordinates = {"time": np.arange(start, start + count)}
        return xarray.Dataset(variables, coords=coordinates).chunk(time=2)

    def make(store: Store) -> None:
        dataset(4, 0).to_zarr(store, zarr_format=zarr_format, consolidated=True)

    def grow(store: Store) -> None:
        dataset(2, 4).to_zarr(store, append_dim="time", consolidated=True)

    def correct(store: Store) -> None:
        changed = dataset(2, 0).isel(time=slice(0, 2)) - 5
        changed.to_zarr(store, region={"time": slice(0, 2)}, consolidated=True)

    repository = forked(make, grow, correct)
    repository.merge("dev")
    for is_consolidated in (True, False):
        store = repository.checkout().store.with_consolidated_metadata()
        read = xarray.open_zarr(store, consolidated=is_consolidated, decode_times=False)
        assert read["t"].values.tolist() == [-5, -4, 2, 3, 4, 5]
        assert read["time"].values.tolist() == [0, 1, 2, 3, 4, 5]
