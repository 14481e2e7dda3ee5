"""Arrays on a distant S3 server: with 5, 30 and 100 ms for each answer, beside Icechunk and zarr."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import icechunk
import numpy as np
import zarr
from obstore.store import S3Store
from zarr.storage import ObjectStore

import versioned_zarr as vz
from benchmarks.delays import delayed
from benchmarks.folders import new_folder
from benchmarks.ipfs import create, home, read
from benchmarks.objects import options
from benchmarks.timing import Result, Stopwatch
from tests.servers.versity import S3Server, s3_server

DELAYS_MS = (5, 30, 100)
SHAPE, CHUNKS = (32 * 64, 32 * 64), (64, 64)


def run(rounds: int) -> Iterator[Result]:
    data = np.random.default_rng(3).random(SHAPE, dtype="f4")
    for delay_ms in DELAYS_MS:
        watch = Stopwatch()
        with (
            new_folder() as folder,
            s3_server(folder) as server,
            delayed(server.endpoint, delay_ms / 1e3) as endpoint,
        ):
            for _ in range(min(rounds, 3)):
                _ours(watch, server, endpoint, data)
                _icechunk(watch, server, endpoint, data)
                _object_store(watch, server, endpoint, data)
        for name in watch.times:
            yield Result(f"{delay_ms} ms, 1024 x 16 KiB: {name}", watch.median(name) * 1e3, "ms")
        for action in ("write", "read", "open"):
            for peer in ("Icechunk", "ObjectStore"):
                limit = 1.0 if (delay_ms, action, peer) == (30, "open", "Icechunk") else None
                value = watch.ratio(f"ours {action}", f"{peer} {action}")
                yield Result(f"{delay_ms} ms, {action}: ours / {peer}", value, "x", limit)


def _first_chunk(watch: Stopwatch, name: str, open_: Any) -> None:
    """Time from nothing to the first chunk."""
    with watch.measure(name):
        array = zarr.open_array(open_(), mode="r")
        assert array[:64, :64].shape == CHUNKS


def _ours(watch: Stopwatch, server: S3Server, endpoint: str, data: Any) -> None:
    url = f"s3://{server.bucket}/{uuid.uuid4().hex}"
    where: dict[str, Any] = {"storage_options": {**options(server), "endpoint": endpoint}}
    with new_folder() as writer, home(writer):
        session = vz.create(url, **where).session()
        array = create(session.store, data, CHUNKS)
        with watch.measure("ours write"):
            array[:] = data
            session.commit("benchmark")
    with new_folder() as reader, home(reader):
        _first_chunk(watch, "ours open", lambda: vz.open(url, **where).checkout().store)
    with new_folder() as reader, home(reader):
        read(watch, "ours read", vz.open(url, **where).checkout().store, data)


def _icechunk(watch: Stopwatch, server: S3Server, endpoint: str, data: Any) -> None:
    def storage() -> Any:
        return icechunk.s3_storage(
            bucket=server.bucket,
            prefix=prefix,
            endpoint_url=endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
            region="us-east-1",
            allow_http=True,
            force_path_style=True,
        )

    def opened() -> Any:
        return icechunk.Repository.open(storage()).readonly_session("main").store

    prefix = uuid.uuid4().hex
    session = icechunk.Repository.create(storage()).writable_session("main")
    array = create(session.store, data, CHUNKS)
    with watch.measure("Icechunk write"):
        array[:] = data
        session.commit("benchmark")
    _first_chunk(watch, "Icechunk open", opened)
    read(watch, "Icechunk read", opened(), data)


def _object_store(watch: Stopwatch, server: S3Server, endpoint: str, data: Any) -> None:
    def opened(*, read_only: bool = True) -> Any:
        store = S3Store(server.bucket, prefix=prefix, **{**options(server), "endpoint": endpoint})
        return ObjectStore(store, read_only=read_only)

    prefix = uuid.uuid4().hex
    array = create(opened(read_only=False), data, CHUNKS)
    with watch.measure("ObjectStore write"):
        array[:] = data
    _first_chunk(watch, "ObjectStore open", opened)
    read(watch, "ObjectStore read", opened(), data)
