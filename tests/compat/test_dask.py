"""Dask writes into one session from threads and from processes; one commit takes all of it."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")
xr = pytest.importorskip("xarray")

SCHEDULERS = ["threads", "processes"]


@pytest.fixture(params=SCHEDULERS)
def scheduler(request: pytest.FixtureRequest) -> Any:
    """The name of the scheduler that is in use."""
    with dask.config.set(scheduler=request.param, num_workers=2):
        yield request.param


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    """An empty one in a folder: memory is not shared between processes."""
    return vz.create(tmp_path / "r.vz")


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype="f8").reshape(shape)


def commits(repository: vz.Repository) -> int:
    return sum(1 for _ in repository.log()) - 1


def test_an_array_is_stored_by_one_commit(repository: vz.Repository, scheduler: str) -> None:
    data = numbers(60, 40)
    session = repository.session()
    target = zarr.create_array(
        session.store, name="a", shape=data.shape, chunks=(10, 20), dtype="f8"
    )
    da.from_array(data, chunks=(20, 20)).to_zarr(target)
    assert commits(repository) == 0
    commit = session.commit("All of it")
    snapshot = repository.checkout(commit.cid)
    np.testing.assert_array_equal(snapshot.open("a")[:], data)
    assert commits(repository) == 1
    assert len(list(snapshot.keys("a"))) == 12 + 1


def test_the_hash_does_not_depend_on_who_wrote(repository: vz.Repository, scheduler: str) -> None:
    data = numbers(30, 40)
    trees = []
    for write in ("numpy", "dask"):
        repository.branches.create(write)
        session = repository.session(write)
        target = zarr.create_array(
            session.store, name="a", shape=data.shape, chunks=(10, 10), dtype="f8"
        )
        if write == "dask":
            da.from_array(data, chunks=(10, 10)).to_zarr(target)
        else:
            target[:] = data
        trees.append(session.commit(write).tree)
    assert trees[0] == trees[1]


def test_a_dataset_is_written_region_by_region_and_appended_to(
    repository: vz.Repository, scheduler: str
) -> None:
    data = numbers(8, 6, 10)
    whole = xr.Dataset(
        {"t": (("time", "y", "x"), data)}, coords={"time": np.arange(8), "x": np.arange(10)}
    )
    encoding = {"t": {"chunks": (1, 6, 5)}}
    session = repository.session()
    first = whole.isel(time=slice(0, 6)).chunk(time=1, x=5)
    first.to_zarr(session.store, compute=False, consolidated=False, encoding=encoding)
    for start in (0, 3):
        region = {"time": slice(start, start + 3)}
        part = first.isel(region).drop_vars("x")
        part.to_zarr(session.store, region=region, consolidated=False)
    last = whole.isel(time=slice(6, 8)).chunk(time=1, x=5)
    last.to_zarr(session.store, append_dim="time", consolidated=False)
    commit = session.commit("Region by region")
    xr.testing.assert_identical(repository.checkout(commit.cid).to_xarray().load(), whole)
    assert commits(repository) == 1


def test_a_delayed_write_and_the_session_go_on_after_a_commit(
    repository: vz.Repository, scheduler: str
) -> None:
    data = numbers(20, 20)
    session = repository.session()
    dataset = xr.Dataset({"t": (("y", "x"), data)}).chunk(y=5)
    delayed = dataset.to_zarr(session.store, compute=False, consolidated=False)
    delayed.compute()
    session.commit("One")
    target = zarr.open_array(session.store, path="t")
    (da.from_array(data, chunks=(5, 20)) + 1).to_zarr(target)
    session.commit("Two")
    np.testing.assert_array_equal(repository.checkout("main~1").open("t")[:], data)
    np.testing.assert_array_equal(repository.checkout("main").open("t")[:], data + 1)


def test_a_snapshot_is_read_by_dask(repository: vz.Repository, scheduler: str) -> None:
    data = numbers(40, 10)
    with repository.session(message="Data") as session:
        zarr.create_array(session.store, name="a", data=data, chunks=(10, 10))
    lazy = da.from_zarr(repository.checkout().open("a"))
    assert float(lazy.sum().compute()) == data.sum()


class Meeting(VersionedStore):
    """Holds back what is written under one key until two processes have got as far.

    Both have then read the chunk that they are about to change: the moment at which plain Zarr
    loses one of the two changes.
    """

    key = "a/c/0"
    folder: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return meeting, (self.view, self.folder)

    async def set(self, key: str, value: Any) -> None:
        self.wait(key)
        await super().set(key, value)

    def set_sync(self, key: str, value: Any) -> None:
        self.wait(key)
        super().set_sync(key, value)

    def wait(self, key: str) -> None:
        if key == self.key:
            (self.folder / str(os.getpid())).touch()
            until = time.monotonic() + 60
            while len(list(self.folder.iterdir())) < 2:
                assert time.monotonic() < until, "the other process does not come"
                time.sleep(0.01)


def meeting(session: vz.Session, folder: Path) -> Meeting:
    store = Meeting(session)
    store.folder = folder
    store._is_open = True
    return store


def test_misaligned_chunks_in_two_processes_are_a_conflict_that_names_the_key(
    repository: vz.Repository, tmp_path: Path
) -> None:
    session = repository.session()
    array = zarr.create_array(session.store, name="a", shape=(20,), chunks=(10,), dtype="f8")
    session.commit("Empty")
    met = tmp_path / "met"
    met.mkdir()
    target = zarr.open_array(meeting(session, met), path="a")
    # The blocks are 0:5 and 5:20, so both processes read, change and write the first chunk.
    blocks = da.ones(20, chunks=((5, 15),))
    # By default Dask hands a process six tasks at once.
    da.store(blocks, target, lock=False, scheduler="processes", num_workers=2, chunksize=1)
    with pytest.raises(vz.ConflictError, match="a/c/0") as caught:
        session.commit("Torn")
    (conflict,) = caught.value.conflicts
    assert conflict.path == "a/c/0"
    workers = {f"process {file.name} on {platform.node()}" for file in met.iterdir()}
    assert {write.writer for write in conflict.writes} == workers
    assert all(write.size > 0 for write in conflict.writes)
    told = str(caught.value)
    assert all(worker in told for worker in workers)
    assert "rechunk" in told
    assert repository.branches["main"].message == "Empty"
    # Nothing is lost: written once more by one who sees it all, it can be committed.
    assert 0 < array[:].sum() < 20
    array[:10] = 1
    session.commit("Whole")
    np.testing.assert_array_equal(repository.checkout().open("a")[:], np.ones(20))


def test_misaligned_chunks_in_threads_are_written_one_after_the_other(
    repository: vz.Repository,
) -> None:
    session = repository.session()
    target = zarr.create_array(session.store, name="a", shape=(20,), chunks=(10,), dtype="f8")
    with dask.config.set(scheduler="threads", num_workers=2):
        da.store(da.ones(20, chunks=((5, 15),)), target, lock=True)
    session.commit("Whole")
    np.testing.assert_array_equal(repository.checkout().open("a")[:], np.ones(20))
