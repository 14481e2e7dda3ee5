"""A result names its input by hash, so that exactly this input can be retrieved years later.

The hash is the CID that IPFS computes for the same files. It does not depend on who wrote them,
when, in which order, or where they are stored.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import zarr

import versioned_zarr as vz

folder = Path(tempfile.mkdtemp())
repo = vz.create(folder / "lab.vz")
with repo.session("main", message="Raw counts") as session:
    zarr.create_array(session.store, name="raw/counts", data=np.arange(1000) % 17, chunks=(100,))

# The result is committed with the hash of its input, the group `raw`.
raw = repo.checkout("main").path("raw")
with repo.session("main") as session:
    mean = raw.open("counts")[:].mean()
    zarr.create_array(session.store, name="results/mean", data=np.array([mean]))
    session.commit("The mean", metadata={"input": raw.cid})

# The data changes.
with repo.session("main", message="A recount") as session:
    zarr.open_array(session.store, path="raw/counts")[:100] = 5

# Which commit made the result, and from which input?
made_by = next(repo.log("main", path="results/mean"))
source = repo.checkout(made_by.metadata["input"])
assert source.open("counts")[:].mean() == repo.checkout("main").open("results/mean")[0]
assert source != repo.checkout("main").path("raw")
print(f"the mean was computed from {source.cid}")

# Anyone can check the hash: exported to a plain folder, the files have the same hash, here and with
# `ipfs add -r -Q --hidden --only-hash --cid-version=1 --chunker=size-1048576 FOLDER`.
source.to_folder(str(folder / "raw.zarr"))
assert vz.cid_of_folder(folder / "raw.zarr") == source.cid
print("and a plain folder of the same files has the same CID")

# Hashes also show whether anything has been damaged since.
report = repo.fsck()
assert report.is_clean
print(report)
