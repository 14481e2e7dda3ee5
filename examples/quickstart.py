"""First steps: commit, compare, undo."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

import versioned_zarr as vz

folder = Path(tempfile.mkdtemp())
repo = vz.create(folder / "climate.vz")

# A session is a writable view of a branch. Others see its writes only after it commits. If the
# block ends with an exception, nothing is committed.
temperature = np.random.default_rng(0).normal(15, 8, size=(12, 18, 36)).astype("f4")
dataset = xr.Dataset({"temperature": (("month", "lat", "lon"), temperature)})
with repo.session("main", message="Monthly means") as session:
    encoding = {"temperature": {"chunks": (1, 18, 36)}}
    dataset.to_zarr(session.store, encoding=encoding)

# Any library that writes Zarr works. Here zarr itself changes one month, with an explicit commit.
session = repo.session("main")
array = zarr.open_array(session.store, path="temperature")
array[6] += 1
print(session.status())
commit = session.commit("July was too cold", metadata={"reason": "sensor 4 replaced"})
print(f"\n{commit}\n")

# Versions are compared by their hashes; equal data is never read.
print(repo.diff("main~1", "main"))
with_mistake = repo.checkout("main~1").to_xarray().temperature
corrected = repo.checkout("main").to_xarray().temperature
print("July changed by", round(float((corrected - with_mistake)[6].mean()), 3))

# A tag is a permanent name for a version. A revert is a new commit.
repo.tags.create("v1.0")
repo.revert("main")
assert repo.checkout("main").cid == repo.checkout("main~2").cid
print(f"\n{repo.log()}")
