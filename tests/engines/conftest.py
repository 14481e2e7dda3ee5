"""Repositories that several processes write to, and the schedulers that write.

Another kind of repository is another line of `PLACES`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz

Place = Callable[[pytest.FixtureRequest, Path], vz.Repository]


def on_s3(request: pytest.FixtureRequest, _: Path) -> vz.Repository:
    request.getfixturevalue("s3_by_environment")
    return vz.create(f"s3://bucket/{uuid.uuid4()}")


def on_kubo(request: pytest.FixtureRequest, _: Path) -> vz.Repository:
    return vz.create(f"{request.getfixturevalue('node').url}/{uuid.uuid4()}")


PLACES: dict[str, Place] = {
    "folder": lambda _, folder: vz.create(folder / "r.vz"),
    "lakefs": lambda request, _: request.getfixturevalue("lakefs_by_environment").create(),
    "s3": on_s3,
    "kubo": on_kubo,
    "shared folder": lambda _, folder: vz.create(folder / "s.vz", shared=True),
}


SCHEDULERS = ("threads", "processes", "distributed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every place, with every scheduler if it is asked for.

    On servers only with `distributed`, whose workers are processes: Dask's pool of processes is
    started anew for each computation, and threads do not depend on the place.
    """
    if "scheduler" in metafunc.fixturenames:
        pairs = [
            (place, scheduler)
            for place in PLACES
            for scheduler in SCHEDULERS
            if place == "folder" or scheduler == "distributed"
        ]
        metafunc.parametrize(("repository", "scheduler"), pairs, indirect=True)
    elif "repository" in metafunc.fixturenames:
        metafunc.parametrize("repository", PLACES, indirect=True)


@pytest.fixture
def repository(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> vz.Repository:
    """A new repository that other processes reach by its URL and this one's environment."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
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


@pytest.fixture
def scheduler(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of the scheduler that Dask uses meanwhile, with two workers."""
    dask = pytest.importorskip("dask")
    if request.param == "distributed":
        with cluster():
            yield request.param
        return
    with dask.config.set(scheduler=request.param, num_workers=2):
        yield request.param
