"""Whole arrays through zarr: written, committed and read, beside the peers in one process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import icechunk
import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.pipeline import FUSED
from benchmarks.reading import read_whole
from benchmarks.timing import Result, Stopwatch

Opened = tuple[Store, Callable[[], Store]]
"""A store to write into, and what commits and gives the store to read from."""


def open_memory(_: Path) -> Opened:
    store = MemoryStore()
    return store, lambda: store


def open_local(folder: Path) -> Opened:
    store = LocalStore(folder / "local")
    return store, lambda: store


def open_local_synced(folder: Path) -> Opened:
    """A LocalStore that is made as durable as a commit of ours is."""
    store = LocalStore(folder / "local")

    def commit() -> Store:
        os.sync()
        return store

    return store, commit


def open_icechunk(folder: Path) -> Opened:
    storage = icechunk.local_filesystem_storage(str(folder / "icechunk"))
    repository = icechunk.Repository.create(storage)
    session = repository.writable_session("main")

    def commit() -> Store:
        session.commit("benchmark")
        return repository.readonly_session("main").store

    return session.store, commit


def opener(hash_name: str) -> Callable[[Path], Opened]:
    def open_ours(folder: Path) -> Opened:
        repository = vz.create(folder / f"ours-{hash_name}", hash=hash_name)
        session = repository.session()

        def commit() -> Store:
            session.commit("benchmark")
            return repository.checkout().store

        return session.store, commit

    return open_ours


STORES: dict[str, Callable[[Path], Opened]] = {
    "MemoryStore": open_memory,
    "LocalStore": open_local,
    "LocalStore, synced": open_local_synced,
    "Icechunk": open_icechunk,
    "ours": opener("sha2-256"),
    "ours, blake3": opener("blake3"),
}


def run(rounds: int) -> Iterator[Result]:
    yield from small_chunks(rounds)
    yield from small_chunks_fused(rounds)
    yield from large_chunks(rounds)


def small_chunks(rounds: int) -> Iterator[Result]:
    """4096 chunks of 16 KiB, on a file system that is fresh, and on one where files come and go."""
    data = np.random.default_rng(1).random((64 * 64, 64 * 64), dtype="f4")
    names = ["MemoryStore", "LocalStore", "Icechunk", "ours"]
    watch = compare(data, (64, 64), rounds, names, is_fresh=True)
    what = "4096 x 16 KiB, no files removed before, write + commit"
    yield ratio(watch, what, "write", "Icechunk")
    yield ratio(watch, what, "write", "LocalStore")
    watch = compare(data, (64, 64), rounds, names)
    yield from table(watch, "4096 x 16 KiB", names)
    yield ratio(watch, "4096 x 16 KiB read", "read", "MemoryStore", 1.15)
    yield ratio(watch, "4096 x 16 KiB read", "read", "Icechunk", 1 / 4)
    yield ratio(watch, "4096 x 16 KiB write + commit", "write", "MemoryStore", 1.5)
    yield ratio(watch, "4096 x 16 KiB write + commit", "write", "Icechunk", 1 / 3)
    yield ratio(watch, "4096 x 16 KiB write + commit", "write", "LocalStore", 1 / 3)


def small_chunks_fused(rounds: int) -> Iterator[Result]:
    """The same with zarr's fused pipeline, on a fresh file system."""
    data = np.random.default_rng(1).random((64 * 64, 64 * 64), dtype="f4")
    names = ["MemoryStore", "LocalStore", "Icechunk", "ours"]
    with zarr.config.set(FUSED):
        watch = compare(data, (64, 64), rounds, names, is_fresh=True)
    what = "4096 x 16 KiB, fused pipeline"
    yield from table(watch, what, names)
    for action in ("write", "read"):
        for peer in names[:-1]:
            yield ratio(watch, f"{what} {action}", action, peer)


def large_chunks(rounds: int) -> Iterator[Result]:
    """64 chunks of 4 MiB."""
    data = np.random.default_rng(2).random((64, 1 << 20), dtype="f4")
    watch = compare(data, (1, 1 << 20), rounds, list(STORES))
    yield from table(watch, "64 x 4 MiB", list(STORES))
    yield ratio(watch, "64 x 4 MiB write + commit", "write", "LocalStore", 1.6)
    yield ratio(watch, "64 x 4 MiB write + commit", "write", "LocalStore", 1.1, "ours, blake3")
    yield ratio(watch, "64 x 4 MiB write + commit", "write", "LocalStore, synced")
    yield ratio(
        watch, "64 x 4 MiB write + commit", "write", "LocalStore, synced", None, "ours, blake3"
    )
    yield ratio(watch, "64 x 4 MiB read", "read", "LocalStore", 1.0)
    yield ratio(watch, "64 x 4 MiB read", "read", "Icechunk", 1 / 4)


def compare(
    data: Any, chunks: tuple[int, int], rounds: int, names: list[str], *, is_fresh: bool = False
) -> Stopwatch:
    watch = Stopwatch()
    for number in range(rounds + 1):
        for name in names:
            with new_folder(keep=is_fresh) as folder:
                one_round(watch if number else Stopwatch(), name, folder, data, chunks)
    return watch


def one_round(
    watch: Stopwatch, name: str, folder: Path, data: Any, chunks: tuple[int, int]
) -> None:
    store, commit = STORES[name](folder)
    group = zarr.create_group(store)
    array = group.create_array(
        "a", shape=data.shape, chunks=chunks, dtype=data.dtype, compressors=None
    )
    with watch.measure(f"{name} write"):
        array[:] = data
        reader = commit()
    opened = zarr.open_array(reader, path="a", mode="r")
    read_whole(watch, f"{name} read", lambda: opened, data)


def table(watch: Stopwatch, what: str, names: list[str]) -> Iterator[Result]:
    for action in ("write", "read"):
        for name in names:
            value = watch.median(f"{name} {action}") * 1e3
            yield Result(f"{what} {action}: {name}", value, "ms")


def ratio(
    watch: Stopwatch,
    what: str,
    action: str,
    peer: str,
    target: float | None = None,
    name: str = "ours",
) -> Result:
    value = watch.ratio(f"{name} {action}", f"{peer} {action}")
    return Result(f"{what}: {name} / {peer}", value, "x", target)
