"""Nodes: many created at once, large ones moved, and the history of one array in a long log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import zarr

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.timing import Result, Stopwatch

ARRAYS = 1000
ARRAY = {"shape": (100, 100), "chunks": (10, 10), "dtype": "f4", "dimension_names": ("y", "x")}
SMALL, LARGE = 100, 100_000
COMMITS, CHUNKS = 10_000, 100_000


def run(rounds: int) -> Iterator[Result]:
    watch = Stopwatch()
    for number in range(rounds + 1):
        order = (create_in_a_loop, create_at_once, move_small, move_large)
        for act in order[:: 1 if number % 2 else -1]:
            with new_folder() as folder:
                act(watch if number else Stopwatch(), folder)
    for name in watch.times:
        yield Result(name, watch.median(name) * 1e3, "ms")
    value = watch.ratio(f"{ARRAYS} arrays at once", f"{ARRAYS} arrays in a loop")
    yield Result(f"create {ARRAYS} arrays: at once / in a loop", value, "x", 0.4)
    value = watch.ratio(f"move {LARGE} chunks", f"move {SMALL} chunks")
    yield Result(f"move: {LARGE} chunks / {SMALL} chunks", value, "x", 3.0)
    with new_folder() as folder:
        yield from history(folder, rounds)


def create_in_a_loop(watch: Stopwatch, folder: Path) -> None:
    session = vz.create(folder / "r.vz").session()
    with watch.measure(f"{ARRAYS} arrays in a loop"):
        root = zarr.create_group(session)
        for number in range(ARRAYS):
            root.create_array(f"a{number}", **ARRAY)


def create_at_once(watch: Stopwatch, folder: Path) -> None:
    session = vz.create(folder / "r.vz").session()
    with watch.measure(f"{ARRAYS} arrays at once"):
        session.create_hierarchy({f"a{number}": ARRAY for number in range(ARRAYS)})


def move_small(watch: Stopwatch, folder: Path) -> None:
    move(watch, folder, SMALL)


def move_large(watch: Stopwatch, folder: Path) -> None:
    move(watch, folder, LARGE)


def move(watch: Stopwatch, folder: Path, chunks: int) -> None:
    repository = vz.create(folder / "r.vz")
    session = repository.session()
    fill(session, chunks)
    session.commit("data")
    with watch.measure(f"move {chunks} chunks"):
        session.move("air", "atmosphere")
        session.commit("move")


def fill(session: vz.Session, chunks: int) -> None:
    """An array whose chunks are five bytes each."""
    session.create_hierarchy({"air/t": {"shape": (chunks * 5,), "chunks": (5,), "dtype": "u1"}})
    for number in range(chunks):
        session.write(f"air/t/c/{number}", b"%05d" % number)


def history(folder: Path, rounds: int) -> Iterator[Result]:
    """Blame of an array beside the log of its path, both over the whole history."""
    repository = vz.create(folder / "r.vz")
    session = repository.session()
    fill(session, CHUNKS)
    session.commit("data")
    for number in range(COMMITS):
        key = f"air/t/c/{number * 7919 % CHUNKS}" if number % 10 == 0 else f"other/{number}"
        session.write(key, b"changed %d" % number)
        session.commit("change")
    watch = Stopwatch()
    for _ in range(rounds):
        with watch.measure("log of a path"):
            list(vz.open(folder / "r.vz").log(path="air/t"))
        with watch.measure("blame"):
            vz.open(folder / "r.vz").blame("air/t")
    for name in watch.times:
        yield Result(f"{name}, {COMMITS} commits", watch.median(name) * 1e3, "ms")
    value = watch.ratio("blame", "log of a path")
    name = f"{COMMITS} commits, {CHUNKS} chunks: blame / log of the path"
    yield Result(name, value, "x", 10.0)
