"""TensorStore, a Zarr of its own in C++, reads what is served over HTTP."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.interfaces.web.served import serving

ts = pytest.importorskip("tensorstore")
VALUES = np.arange(96, dtype="int32").reshape(8, 12)


def test_tensorstore_reads_both_formats_and_shards() -> None:
    repository = vz.create("memory://compat-tensorstore")
    with repository.session(message="arrays") as session:
        group = zarr.create_group(session.store)
        group.create_array("v3", data=VALUES, chunks=(3, 5))
        group.create_array("sharded", data=VALUES, chunks=(2, 3), shards=(4, 6))
        zarr.create_array(session.store, name="v2", data=VALUES, chunks=(3, 5), zarr_format=2)
    cid = repository.checkout().cid
    with serving(repository) as port:
        for ref in ("main", cid):
            for path, driver in (("v3", "zarr3"), ("sharded", "zarr3"), ("v2", "zarr")):
                base = {"driver": "http", "base_url": f"http://127.0.0.1:{port}"}
                there = {"driver": driver, "kvstore": {**base, "path": f"{ref}/{path}/"}}
                array = ts.open(there, open=True, read=True).result()
                np.testing.assert_array_equal(array.read().result(), VALUES)
                np.testing.assert_array_equal(array[1:3, 4:].read().result(), VALUES[1:3, 4:])
