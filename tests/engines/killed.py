"""Processes that end at a moment that a test chooses: once, marked by a file."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import versioned_zarr as vz

SHAPE, CHUNKS = (24,), (2,)
COUNT = SHAPE[0] // CHUNKS[0]


def value_of(index: int) -> int:
    """What is written at an index."""
    return index * index + 1


def make_array(session: vz.Session) -> zarr.Array[Any]:
    """The array that the tests write, empty."""
    return zarr.create_array(
        session.store, name="air", shape=SHAPE, chunks=CHUNKS, dtype="i8", fill_value=0
    )


def whole() -> np.ndarray[Any, Any]:
    """Its values."""
    return np.array([value_of(index) for index in range(*SHAPE)])


def is_first(mark: Path) -> bool:
    """Whether nobody was here before; atomic between processes."""
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


@dataclass
class Deadly:
    """An array as Dask stores into it; the process that stores the chunk at `start` dies once.

    Attributes:
        array: the array.
        mark: the file that says that a process has died.
        start: where the chunk begins.
        when: whether it dies before or after the chunk is written.
        victim: the process that dies; by default, the one that writes.
    """

    array: zarr.Array[Any]
    mark: Path
    start: int
    when: str
    victim: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __setitem__(self, region: tuple[slice, ...], values: Any) -> None:
        is_deadly = region[0].start == self.start
        if is_deadly and self.when == "before":
            self.die()
        self.array[region] = values
        if is_deadly and self.when == "after":
            self.die()

    def die(self) -> None:
        if is_first(self.mark):
            os.kill(self.victim or os.getpid(), signal.SIGKILL)


def run_client(url: str, mark: str, start: int) -> None:
    """A client whose Dask workers kill it in the middle; its session has the purpose `fill`."""
    import dask.array as da

    repository = vz.open(url)
    session = repository.session(purpose="fill")
    target = Deadly(make_array(session), Path(mark), start, "after", os.getpid())
    blocks = da.from_array(whole(), chunks=CHUNKS)
    da.store(blocks, target, lock=False, scheduler="processes", num_workers=2, chunksize=1)


if __name__ == "__main__":
    run_client(sys.argv[1], sys.argv[2], int(sys.argv[3]))
