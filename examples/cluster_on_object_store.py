"""A cluster writes one commit into a bucket, although a worker is killed in the middle.

    python examples/cluster_on_object_store.py s3://BUCKET/PREFIX

The data is two climate scenarios of the Met Office from iris-sample-data. Two worker processes
compute normals, means over 30 years, and write them into one session in the bucket. One worker is
killed before it has written. Dask runs its task elsewhere, and the client commits. Then a second
process reads the commit by its hash, computes everything again alone, and gets the same hash. If
this program is interrupted, run it again: it resumes its session, and writes what is missing.

Needs `dask[distributed]`, `obstore`, `iris-sample-data` and `netCDF4`; credentials and the endpoint
come from the environment, such as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL. The URL may be that of
any repository that several machines can reach.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import iris_sample_data
import numpy as np
import xarray as xr
import zarr
from distributed import Client, LocalCluster

import versioned_zarr as vz

SCENARIOS = ("A1B", "E1")
YEARS, FIRST_YEAR = 30, 1860
PERIODS = 8
SHAPE = (len(SCENARIOS), PERIODS, 37, 49)
KILLED = (1, 4)
"""The worker that gets this task first is killed."""


def normal(scenario: int, period: int) -> np.ndarray:
    """The mean air temperature of one scenario over 30 years: (37, 49), float32, in K."""
    path = Path(iris_sample_data.path, f"{SCENARIOS[scenario]}_north_america.nc")
    with xr.open_dataset(path, decode_times=False, decode_timedelta=False) as dataset:
        years = dataset.air_temperature[period * YEARS : (period + 1) * YEARS]
        return years.mean("time", dtype="f8").astype("f4").to_numpy()


def create(session: vz.Session) -> zarr.Array:
    """The array of all normals; each chunk is one map."""
    array = zarr.create_array(
        session.store,
        name="normals",
        shape=SHAPE,
        chunks=(1, 1, *SHAPE[2:]),
        dtype="f4",
        dimension_names=("scenario", "period", "latitude", "longitude"),
    )
    array.attrs.update(units="K", scenarios=list(SCENARIOS), first_year=FIRST_YEAR, years=YEARS)
    return array


def write(array: zarr.Array, scenario: int, period: int, killed: str) -> int:
    """What a worker does: the array is one of the session, wherever this runs."""
    if (scenario, period) == KILLED and not Path(killed).exists():
        Path(killed).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    array[scenario, period] = normal(scenario, period)
    return os.getpid()


def begin(repo: vz.Repository) -> tuple[vz.Session, zarr.Array]:
    """A session with the array; one that an earlier run left, if it was interrupted."""
    left = [info.id for info in repo.sessions.values() if info.purpose == "normals"]
    if not left:
        session = repo.session("main", purpose="normals")
        return session, create(session)
    session = repo.resume(left[0])
    return session, zarr.open_array(session, path="normals")


def compute_on_a_cluster(repo: vz.Repository) -> vz.Commit:
    """Write the missing normals with two workers, and commit."""
    session, array = begin(repo)
    places = [place[:2] for place in session.missing("normals").coordinates]
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        tasks = [
            client.submit(write, array, *place, f"{folder}/killed", pure=False) for place in places
        ]
        workers = client.gather(tasks)
    print(f"{len(tasks)} maps by {len(set(workers))} processes; one process was killed")
    assert not session.missing("normals")
    commit = session.commit("Normals of 30 years, A1B and E1")
    session.discard()
    return commit


def reproduce(url: str, commit: str) -> None:
    """Read a commit by its hash, and compute its tree again."""
    there = vz.open(url).checkout(commit)
    alone = vz.create("memory://alone")
    with alone.session("main", message="The same, by one process") as session:
        array = create(session)
        for place in product(range(len(SCENARIOS)), range(PERIODS)):
            array[place] = normal(*place)
    again = alone.checkout().cid
    print(f"{there.cid}  by the cluster\n{again}  by one process")
    assert there.cid == again


if __name__ == "__main__":
    if len(sys.argv) == 3:
        reproduce(*sys.argv[1:])
    else:
        try:
            repository = vz.create(sys.argv[1])
        except vz.AlreadyExistsError:
            repository = vz.open(sys.argv[1])
        made = compute_on_a_cluster(repository)
        print(made)
        subprocess.run([sys.executable, __file__, sys.argv[1], made.cid], check=True)
