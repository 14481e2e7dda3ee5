"""Write with Dask from threads and processes into one session, and commit it once.

A session can be sent to other processes. The copies there write to the same session, so nothing has
to be merged afterward.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import xarray as xr
import zarr

import versioned_zarr as vz


def main() -> None:
    """Write one dataset in three ways."""
    repo = vz.create(Path(tempfile.mkdtemp(), "dask.vz"))
    lazy = da.random.default_rng(1).normal(size=(400, 500), chunks=(100, 100))

    # Threads write directly into an array.
    with repo.session("main", message="By threads") as session:
        target = zarr.create_array(
            session.store, name="noise", shape=lazy.shape, chunks=(100, 100), dtype="f8"
        )
        lazy.to_zarr(target)

    # Processes write with xarray: first the metadata, then one region after another.
    dataset = xr.Dataset({"squares": (("y", "x"), lazy**2)})
    with dask.config.set(scheduler="processes", num_workers=2):
        session = repo.session("main")
        options = {"group": "by_processes", "consolidated": False}
        dataset.to_zarr(session.store, compute=False, **options)
        for start in (0, 200):
            region = {"y": slice(start, start + 200)}
            dataset.isel(region).to_zarr(session.store, region=region, **options)
        print(session.status())
        session.commit("By processes, in two regions")

    # Lazy reading: every worker opens the same immutable snapshot.
    snapshot = repo.checkout("main")
    read = snapshot.to_xarray("by_processes")
    assert np.array_equal(np.asarray(read.squares), snapshot.open("noise")[:] ** 2)
    print(f"\n{repo.log()}")


# Worker processes import this file, so the work must not be at module level.
if __name__ == "__main__":
    main()
