"""Several processes write to one session, and one commit includes everything."""

from __future__ import annotations

import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import zarr
from zarr.abc.store import Store

import versioned_zarr as vz


def compute(store: Store, row: int) -> None:
    """Write one row. The unpickled store writes to the same session."""
    zarr.open_array(store, path="squares")[row] = np.arange(1000) * row


def main() -> None:
    repository = vz.create(Path(tempfile.mkdtemp()) / "shared.vz")
    session = repository.session("main")
    group = zarr.create_group(session.store)
    group.create_array("squares", shape=(8, 1000), chunks=(1, 1000), dtype="i8")
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        list(pool.map(compute, [session.store] * 8, range(8)))
    commit = session.commit("Eight rows from two processes")
    session.discard()
    print(commit)
    found = repository.checkout("main").open("squares")[:]
    assert np.array_equal(found, np.arange(8)[:, None] * np.arange(1000))


if __name__ == "__main__":
    main()
