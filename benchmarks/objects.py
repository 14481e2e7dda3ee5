"""Arrays on an S3 server: written and committed, and read, beside Icechunk and zarr's ObjectStore.

The server is versitygw on loopback, which shares the cores with all sides; what differs is the work
of each request. Each round takes new prefixes; the order changes from round to round.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import icechunk
import numpy as np
from obstore.store import S3Store
from zarr.storage import ObjectStore

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.ipfs import create, home, read
from benchmarks.timing import Result, Stopwatch
from tests.servers.versity import S3Server, s3_server

SIZES = {
    "4096 x 16 KiB": ((64 * 64, 64 * 64), (64, 64)),
    "64 x 4 MiB": ((8192, 8192), (1024, 1024)),
}
_Side = Callable[[Stopwatch, S3Server, Any, tuple[int, int], str], None]


def run(rounds: int) -> Iterator[Result]:
    rounds = min(rounds, 5)
    for what, (shape, chunks) in SIZES.items():
        data = np.random.default_rng(3).random(shape, dtype="f4")
        watch = Stopwatch()
        sides: list[_Side] = [ours, icechunk_side, object_store]
        with new_folder() as folder, s3_server(folder) as server:
            for number in range(rounds):
                for side in [*sides[number % 3 :], *sides[: number % 3]]:
                    side(watch, server, data, chunks, uuid.uuid4().hex)
        for name in watch.times:
            yield Result(f"S3, {what}: {name}", watch.median(name) * 1e3, "ms")
        for action, target in (("write", 1 / 4), ("read", 1 / 5)):
            ratios = [
                watch.ratio(f"ours {action}", f"{peer} {action}")
                for peer in ("Icechunk", "ObjectStore")
            ]
            is_small = what.startswith("4096")
            limit = target if is_small else 1.1
            value = max(ratios) if is_small else ratios[1]
            peer = "the better peer" if is_small else "ObjectStore"
            yield Result(f"S3, {what} {action}: ours / {peer}", value, "x", limit)


def options(server: S3Server) -> dict[str, Any]:
    return {
        "endpoint": server.endpoint,
        "access_key_id": server.access_key_id,
        "secret_access_key": server.secret_access_key,
        "region": "us-east-1",
        "client_options": {"allow_http": True},
    }


def ours(
    watch: Stopwatch, server: S3Server, data: Any, chunks: tuple[int, int], prefix: str
) -> None:
    url = f"s3://{server.bucket}/{prefix}"
    with new_folder() as writer, home(writer):
        session = vz.create(url, storage_options=options(server)).session()
        array = create(session.store, data, chunks)
        with watch.measure("ours write"):
            array[:] = data
            session.commit("benchmark")
    with new_folder() as reader, home(reader):
        store = vz.open(url, storage_options=options(server)).checkout().store
        read(watch, "ours read", store, data)


def icechunk_side(
    watch: Stopwatch, server: S3Server, data: Any, chunks: tuple[int, int], prefix: str
) -> None:
    storage = icechunk.s3_storage(
        bucket=server.bucket,
        prefix=prefix,
        endpoint_url=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        region="us-east-1",
        allow_http=True,
        force_path_style=True,
    )
    session = icechunk.Repository.create(storage).writable_session("main")
    array = create(session.store, data, chunks)
    with watch.measure("Icechunk write"):
        array[:] = data
        session.commit("benchmark")
    there = icechunk.Repository.open(storage).readonly_session("main")
    read(watch, "Icechunk read", there.store, data)


def object_store(
    watch: Stopwatch, server: S3Server, data: Any, chunks: tuple[int, int], prefix: str
) -> None:
    store = S3Store(server.bucket, prefix=prefix, **options(server))
    array = create(ObjectStore(store), data, chunks)
    with watch.measure("ObjectStore write"):
        array[:] = data
    read(watch, "ObjectStore read", ObjectStore(store, read_only=True), data)
