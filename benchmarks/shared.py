"""A shared folder beside a folder: arrays through zarr, written and committed, and read.

Both are on the same disk, one after the other in each round, and sessions of the shared one are on
it, too. The reader of each opens the repository anew, in the same process.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.ipfs import home
from benchmarks.reading import read_whole
from benchmarks.timing import Result, Stopwatch

SIZES = {
    "4096 x 16 KiB": ((64 * 64, 64 * 64), (64, 64)),
    "64 x 4 MiB": ((64, 1 << 20), (1, 1 << 20)),
}
TARGETS = {"4096 x 16 KiB": 1.3, "64 x 4 MiB": 1.1}
SIDES = {"folder": False, "shared folder": True}


def run(rounds: int) -> Iterator[Result]:
    for what, (shape, chunks) in SIZES.items():
        data = np.random.default_rng(4).random(shape, dtype="f4")
        watch = Stopwatch()
        for number in range(rounds + 1):
            order = list(SIDES)[:: 1 if number % 2 else -1]
            for side in order:
                with new_folder(keep=True) as folder, home(folder / "home"):
                    one_round(watch if number else Stopwatch(), side, folder, data, chunks)
        for name in watch.times:
            yield Result(f"{what}: {name}", watch.median(name) * 1e3, "ms")
        for action in ("write", "read"):
            value = watch.ratio(f"shared folder {action}", f"folder {action}")
            name = f"{what} {action}: shared folder / folder"
            yield Result(name, value, "x", TARGETS[what])


def one_round(
    watch: Stopwatch, side: str, folder: Path, data: Any, chunks: tuple[int, int]
) -> None:
    path = folder / "r.vz"
    repository = vz.create(path, shared=SIDES[side])
    session = repository.session()
    array = zarr.create_group(session.store).create_array(
        "a", shape=data.shape, chunks=chunks, dtype=data.dtype, compressors=None
    )
    with watch.measure(f"{side} write"):
        array[:] = data
        session.commit("benchmark")
    del repository, session, array
    gc.collect()
    store = vz.open(path).checkout().store
    read_whole(watch, f"{side} read", lambda: zarr.open_array(store, path="a", mode="r"), data)
