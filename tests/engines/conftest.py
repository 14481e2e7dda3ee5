"""Repositories that several processes write to, and the schedulers that write.

Another kind of repository is another line of `PLACES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz

Place = Callable[[pytest.FixtureRequest, Path], vz.Repository]

PLACES: dict[str, Place] = {
    "folder": lambda _, folder: vz.create(folder / "r.vz"),
    "lakefs": lambda request, _: request.getfixturevalue("lakefs_by_environment").create(),
}


@pytest.fixture(params=PLACES)
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> vz.Repository:
    """A new repository that other processes reach by its URL and this one's environment."""
    return PLACES[request.param](request, tmp_path)


@contextmanager
def cluster() -> Iterator[Any]:
    """The client of a Dask cluster of two processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as workers,
        distributed.Client(workers) as client,
    ):
        yield client


@pytest.fixture(params=["threads", "processes", "distributed"])
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the scheduler that Dask uses meanwhile, with two workers."""
    dask = pytest.importorskip("dask")
    if request.param == "distributed":
        with cluster():
            yield request.param
        return
    with dask.config.set(scheduler=request.param, num_workers=2):
        yield request.param
