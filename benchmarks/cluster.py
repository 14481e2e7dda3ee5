"""Clusters on an S3 server: Dask workers write one array, and processes share one session.

Two worker processes of Dask write the array into a session, and by zarr's ObjectStore, which
commits nothing. Then one and two processes write the same number of chunks into one session behind
a delay, so that the store is what limits.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster
from obstore.store import S3Store
from zarr.storage import ObjectStore

import versioned_zarr as vz
from benchmarks.delays import delayed
from benchmarks.folders import new_folder
from benchmarks.ipfs import home
from benchmarks.objects import options
from benchmarks.timing import Result, Stopwatch
from tests.servers.versity import S3Server, s3_server

SIZES = {
    "1024 x 64 KiB": ((32 * 128, 32 * 128), (128, 128)),
    "64 x 4 MiB": ((8192, 8192), (1024, 1024)),
}
CHUNKS, CHUNK_BYTES, DELAY_S = 200, 16 << 10, 0.03
SPAWNED: Any = multiprocessing.get_context("spawn")


def run(rounds: int) -> Iterator[Result]:
    rounds = min(rounds, 5)
    with new_folder() as folder, home(folder / "home"), s3_server(folder / "s3") as server:
        os.environ.update(server.environment)
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster),
        ):
            for what, (shape, chunks) in SIZES.items():
                yield from _dask(server, what, shape, chunks, rounds)
        yield _sharing(server, rounds)


def _dask(
    server: S3Server, what: str, shape: tuple[int, int], chunks: tuple[int, int], rounds: int
) -> Iterator[Result]:
    watch = Stopwatch()
    lazy = da.map_blocks(_block, chunks=da.core.normalize_chunks(chunks, shape), dtype="f4")
    for number in range(2 * rounds):
        prefix = uuid.uuid4().hex
        if (number + number // 2) % 2:
            session = vz.create(f"s3://{server.bucket}/{prefix}").session()
            array = _array(session.store, shape, chunks)
            with watch.measure("ours"):
                lazy.to_zarr(array)
                session.commit("benchmark")
        else:
            store = S3Store(server.bucket, prefix=prefix, **options(server))
            array = _array(ObjectStore(store), shape, chunks)
            with watch.measure("ObjectStore"):
                lazy.to_zarr(array)
    for name in watch.times:
        yield Result(f"Dask on S3, {what}: {name} write", watch.median(name) * 1e3, "ms")
    ratio = watch.ratio("ours", "ObjectStore")
    yield Result(f"Dask on S3, {what} write and commit: ours / ObjectStore", ratio, "x", 1.1)


def _block(block_info: Any = None) -> np.ndarray:
    found = block_info[None]
    seed = int(np.ravel_multi_index(found["chunk-location"], found["num-chunks"]))
    return np.random.default_rng(seed).random(found["chunk-shape"], dtype="f4")


def _array(store: Any, shape: tuple[int, int], chunks: tuple[int, int]) -> zarr.Array:
    return zarr.create_array(store, name="a", shape=shape, chunks=chunks, dtype="f4")


def _sharing(server: S3Server, rounds: int) -> Result:
    watch = Stopwatch()
    with delayed(server.endpoint, DELAY_S) as endpoint:
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        for number in range(2 * rounds):
            count = 1 + (number + number // 2) % 2
            session = vz.create(f"s3://{server.bucket}/{uuid.uuid4().hex}").session()
            pickled, barrier = pickle.dumps(session), SPAWNED.Barrier(count + 1)
            workers = [
                SPAWNED.Process(target=_write, args=(pickled, each, CHUNKS // count, barrier))
                for each in range(count)
            ]
            for worker in workers:
                worker.start()
            barrier.wait()
            with watch.measure(f"{count}"):
                for worker in workers:
                    worker.join()
    ratio = watch.ratio("2", "1")
    return Result("One session on S3, 30 ms away: two workers / one", ratio, "x", 1 / 1.6)


def _write(pickled: bytes, worker: int, count: int, barrier: Any) -> None:
    session = pickle.loads(pickled)
    data = np.random.default_rng(worker).bytes(CHUNK_BYTES)
    session.write(f"a/c/{worker}/first", data)
    barrier.wait()
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda number: session.write(f"a/c/{worker}/{number}", data + b"%d" % number),
                range(count),
            )
        )
