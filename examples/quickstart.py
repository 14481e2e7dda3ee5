"""First steps: commit, look back, undo."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

import versioned_zarr as vz

folder = Path(tempfile.mkdtemp())
repo = vz.create(folder / "climate.vz")

# A session is a writable view of a branch. Others see nothing of it until it is committed, and if
# the block ends with an exception nothing is.
temperature = np.random.default_rng(0).normal(15, 8, size=(12, 18, 36)).astype("f4")
dataset = xr.Dataset({"temperature": (("month", "lat", "lon"), temperature)})
with repo.session("main", message="Monthly means") as session:
    encoding = {"temperature": {"chunks": (1, 18, 36)}}
    dataset.to_zarr(session.store, consolidated=False, encoding=encoding)

# Anything that writes Zarr will do. Here zarr itself changes one month, and commits by hand.
session = repo.session("main")
array = zarr.open_array(session.store, path="temperature")
array[6] += 1
print(session.status())
commit = session.commit("July was too cold", metadata={"reason": "sensor 4 replaced"})
print(f"\n{commit}\n")

# Versions are compared by their hashes: what is equal is never read.
print(repo.diff("main~1", "main"))
with_mistake = repo.checkout("main~1").to_xarray().temperature
corrected = repo.checkout("main").to_xarray().temperature
print("July changed by", round(float((corrected - with_mistake)[6].mean()), 3))

# A name for this version that stays, and a way back: reverting is a commit of its own.
repo.tags.create("v1.0")
repo.revert("main")
assert repo.checkout("main").cid == repo.checkout("main~2").cid
print(f"\n{repo.log()}")
