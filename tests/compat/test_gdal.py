"""GDAL reads a branch that is served over HTTP, through /vsicurl, with its own Zarr driver."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.interfaces.web.served import serving

rasterio = pytest.importorskip("rasterio")
VALUES = np.arange(96, dtype="int32").reshape(8, 12)
GDAL = tuple(map(int, rasterio.__gdal_version__.split(".")[:2]))
# In a process of its own: GDAL holds the GIL while it waits for the server, a thread of this one.
READ = """
import sys, warnings
import numpy as np
import rasterio
warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
target, *urls = sys.argv[1:]
found = []
for url in urls:
    with rasterio.open(f'ZARR:"/vsicurl/{url}"') as dataset:
        assert dataset.driver == "Zarr"
        found.append(dataset.read(1))
np.savez(target, *found)
"""


@pytest.fixture(scope="module")
def repository() -> vz.Repository:
    made = vz.create("memory://compat-gdal")
    with made.session(message="arrays") as session:
        root = zarr.create_group(session.store)
        root.create_array("v3", data=VALUES, chunks=(3, 5), dimension_names=["y", "x"])
        sparse = root.create_array("sparse", shape=(8, 12), chunks=(3, 5), dtype="int32")
        sparse[4, 5] = 7
        old = zarr.create_group(session.store, path="old", zarr_format=2)
        old.create_array("v2", data=VALUES, chunks=(3, 5))
        del session.mapping[".zgroup"]  # zarr made the root a group of both formats
    made.branches.create("feature/x")
    return made


@pytest.fixture(scope="module")
def served(repository) -> Iterator[str]:
    with serving(repository) as port:
        yield f"http://127.0.0.1:{port}"


def test_gdal_reads_a_branch_and_a_snapshot(repository, served: str, tmp_path: Path) -> None:
    # GDAL 3.10 refuses the codec "bytes", which every array of format 3 has; 3.12 reads it.
    arrays = {"old/v2": VALUES}
    if GDAL >= (3, 12):
        arrays |= {"v3": VALUES, "sparse": np.where(VALUES == 4 * 12 + 5, 7, 0)}
    refs = ("main", "feature%2Fx", repository.checkout("main").cid)
    want = {f"{served}/{ref}/{name}": array for ref in refs for name, array in arrays.items()}
    command = [sys.executable, "-c", READ, tmp_path / "found.npz", *want]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    with np.load(tmp_path / "found.npz") as found:
        for array, wanted in zip(found.values(), want.values(), strict=True):
            np.testing.assert_array_equal(array, wanted)
