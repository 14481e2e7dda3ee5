"""Snapshots are opened by zarr and xarray with the options that people know from there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz


@pytest.fixture(scope="module")
def snapshot() -> vz.Snapshot:
    repository = vz.create("memory://opening")
    with repository.session(message="air") as session:
        group = zarr.create_group(session.store, path="air")
        array = group.create_array("t", shape=4, chunks=2, dtype="i4", dimension_names=["x"])
        array[:] = range(4)
    return repository.checkout()


@pytest.mark.parametrize("options", [{}, {"mode": "r"}, {"mode": None}, {"zarr_format": 3}])
def test_a_snapshot_opens_for_reading(snapshot: vz.Snapshot, options: dict[str, Any]) -> None:
    array = snapshot.open("air/t", **options)
    assert isinstance(array, zarr.Array)
    assert np.array_equal(array[:], range(4))
    assert array.read_only
    assert isinstance(snapshot.open(path="air", **options), zarr.Group)


@pytest.mark.parametrize("mode", ["r+", "w", "w-", "a", "x", 7])
def test_a_mode_that_writes_is_refused(snapshot: vz.Snapshot, mode: Any) -> None:
    with pytest.raises(vz.ReadOnlyError, match=r"session\('main'\)"):
        snapshot.open("air", mode=mode)
    pytest.importorskip("xarray")
    with pytest.raises(vz.ReadOnlyError, match=r"session\('main'\)"):
        snapshot.to_xarray("air", mode=mode)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"group": "air"},
        {"mode": "r"},
        {"engine": "zarr"},
        {"chunks": None},
        {"consolidated": False},
        {"backend_kwargs": {"consolidated": False}},
        {"storage_options": None},
        {"zarr_format": 3},
        {"decode_times": False},
    ],
)
def test_xarray_opens_a_snapshot_with_its_usual_options(
    snapshot: vz.Snapshot, options: dict[str, Any]
) -> None:
    pytest.importorskip("xarray")
    found = snapshot.to_xarray(**{"group": "air", **options})
    assert np.array_equal(found.t.values, range(4))


@pytest.mark.parametrize(("path", "parent"), [("air/t", "'air'"), ("/air/t/", "'air'")])
def test_an_array_in_place_of_a_group_is_named_with_its_group(
    snapshot: vz.Snapshot, path: str, parent: str
) -> None:
    pytest.importorskip("xarray")
    with pytest.raises(
        vz.InvalidInputError, match="is an array, and xarray opens groups"
    ) as caught:
        snapshot.to_xarray(path)
    assert f"snapshot.to_xarray({parent})['t']" in str(caught.value)


def test_options_that_name_something_else_are_refused(snapshot: vz.Snapshot) -> None:
    pytest.importorskip("xarray")
    for options in ({"store": "x"}, {"engine": "netcdf4"}, {"path": "air"}, {"chunk_store": {}}):
        with pytest.raises(vz.InvalidInputError):
            snapshot.to_xarray(**options)
    for options in ({"store": "x"}, {"storage_options": {"a": 1}}):
        with pytest.raises(vz.InvalidInputError):
            snapshot.open(**options)
