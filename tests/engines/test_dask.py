"""Dask and xarray write into one session with every scheduler, and one commit takes all of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

da = pytest.importorskip("dask.array")
xr = pytest.importorskip("xarray")

SHAPE, CHUNKS = (12, 10), (4, 5)


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return np.arange(1.0, np.prod(shape) + 1).reshape(shape)


def at(url: str, path: str) -> str:
    return url.replace("@/", f"@/{path}")


def tree_by_hand(repository: vz.Repository, path: str) -> str:
    """The tree of a commit of the same array, written by this process alone."""
    repository.branches.create("by-hand")
    session = repository.session("by-hand")
    array = zarr.create_array(
        session.store, name=path, shape=SHAPE, chunks=CHUNKS, dtype="f8", fill_value=0
    )
    array[:] = numbers(*SHAPE)
    return session.commit("By hand").tree


def test_an_array_is_written_by_one_commit_with_the_tree_of_one_writer(
    repository: vz.Repository, scheduler: str
) -> None:
    expected = tree_by_hand(repository, "air")
    session = repository.session()
    target = zarr.create_array(
        session.store, name="air", shape=SHAPE, chunks=CHUNKS, dtype="f8", fill_value=0
    )
    da.from_array(numbers(*SHAPE), chunks=CHUNKS).to_zarr(target)
    assert session.commit("By Dask").tree == expected
    assert sum(1 for _ in repository.log()) == 2


def test_an_array_is_written_through_the_url_of_the_session(
    repository: vz.Repository, scheduler: str
) -> None:
    session = repository.session()
    url = at(session.url, "air")
    da.from_array(numbers(*SHAPE), chunks=CHUNKS).to_zarr(url)
    assert not session.missing("air")
    commit = session.commit("By URL")
    np.testing.assert_array_equal(repository.checkout(commit.cid).open("air")[:], numbers(*SHAPE))
    session.discard()


def test_a_dataset_is_written_whole_later_by_region_and_appended_to(
    repository: vz.Repository, scheduler: str
) -> None:
    whole = xr.Dataset(
        {"t": (("time", "y", "x"), numbers(8, 4, 6))},
        coords={"time": np.arange(8), "x": np.arange(6)},
    )
    session = repository.session()
    store = session.store
    first = whole.isel(time=slice(0, 6)).chunk(time=1, x=3)
    first.to_zarr(store, group="eager", consolidated=False)
    first.to_zarr(store, group="late", compute=False, consolidated=False).compute()
    first.to_zarr(store, group="regions", compute=False, consolidated=False)
    for start in (0, 3):
        region = {"time": slice(start, start + 3)}
        part = first.isel(region).drop_vars("x")
        part.to_zarr(store, group="regions", region=region, consolidated=False)
    last = whole.isel(time=slice(6, 8)).chunk(time=1, x=3)
    for group in ("eager", "late", "regions"):
        last.to_zarr(store, group=group, append_dim="time", consolidated=False)
    assert not session.missing()
    snapshot = repository.checkout(session.commit("All of it").cid)
    for group in ("eager", "late", "regions"):
        xr.testing.assert_identical(snapshot.to_xarray(group).load(), whole)


def test_a_task_that_runs_twice_does_no_harm(repository: vz.Repository, scheduler: str) -> None:
    expected = tree_by_hand(repository, "air")
    session = repository.session()
    target = zarr.create_array(
        session.store, name="air", shape=SHAPE, chunks=CHUNKS, dtype="f8", fill_value=0
    )
    blocks = da.from_array(numbers(*SHAPE), chunks=CHUNKS)
    # Two arrays, so that Dask does not recognize the equal tasks.
    da.store([blocks, blocks], [target, target], lock=False)
    da.store(blocks, target, lock=False)
    assert session.commit("Twice").tree == expected
