"""Two laboratories share a branch over an IPFS node; a third reads it with only the CID.

Needs a Kubo node on this machine, `ipfs daemon`. If it does not use Kubo's default addresses, set
IPFS_RPC and IPFS_GATEWAY.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import xarray as xr

import versioned_zarr as vz

rpc = os.environ.get("IPFS_RPC", "http://127.0.0.1:5001")
gateway = os.environ.get("IPFS_GATEWAY", "http://127.0.0.1:8080")
folder = Path(tempfile.mkdtemp())
shared = f"ipfs+{rpc}/example-{folder.name}"

try:
    vz.create(shared)
except vz.StorageError as error:
    sys.exit(f"{error}\nStart a node with 'ipfs daemon' and run this again.")

# One laboratory works in a folder and pushes.
ours = vz.clone(shared, folder / "ours.vz")
with ours.session("main", message="January") as session:
    data = xr.Dataset({"t2m": (("time", "x"), np.random.default_rng(1).random((31, 100)))})
    data.to_zarr(session.store, mode="w")
ours.push("origin", "main")

# The other clones, adds a variable, and pushes. Only new data is sent.
theirs = vz.clone(shared, folder / "theirs.vz")
with theirs.session("main", message="Rain") as session:
    rain = xr.Dataset({"rain": (("time", "x"), np.zeros((31, 100)))})
    rain.to_zarr(session.store, mode="a")
print(theirs.push("origin", "main"))

# Meanwhile the first has new commits; a pull merges the two.
with ours.session("main", message="A note") as session:
    session.write("README", b"Hourly means.")
ours.pull("origin")
ours.push("origin", "main")
cid = ours.checkout("main").cid
assert cid == vz.open(shared).checkout("main").cid
print(f"both have {cid}")

# A reader has no repository, only the CID and any gateway. All data is verified.
snapshot = vz.open_snapshot(f"ipfs://{cid}", gateways=[gateway])
assert sorted(snapshot.to_xarray()) == ["rain", "t2m"]
assert snapshot.mapping["README"] == b"Hourly means."
print("and a reader with only the CID reads the same")
