"""Arrays on a real lakeFS server: written and committed, and read, beside lakefs-spec and HTTP.

Each round makes a lakeFS repository for each side on one server; the order changes from round to
round. Bare HTTP is what the server itself can do: the same objects sent and read by 16 threads
with connections kept open. A session of ours has zarr send 24 chunks at a time; it is also written
with as many at a time as bare HTTP has threads. lakefs-spec is used through zarr's wrapper of
synchronous file systems, after ours has changed zarr's setting or before, as the rounds come.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import numpy as np
import urllib3
import zarr

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.ipfs import create, home, read, values_of
from benchmarks.timing import Result, Stopwatch
from tests.servers.lakefs import LakefsServer, make_server

THREADS = 16
_WHAT = "2000 x 16 KiB"


def run(rounds: int) -> Iterator[Result]:
    rounds = min(rounds, 5)
    data = np.random.default_rng(3).random((40 * 64, 50 * 64), dtype="f4")
    watch = Stopwatch()
    with server() as lakefs:
        sides: list[Callable[[Stopwatch, LakefsServer, Any], None]] = [ours, ours_as_many, bare]
        if has_lakefs_spec():
            sides.append(lakefs_spec)
        for number in range(rounds):
            for side in [*sides[number % len(sides) :], *sides[: number % len(sides)]]:
                side(watch, lakefs, data)
    for name in watch.times:
        yield Result(f"lakeFS, {_WHAT}: {name}", watch.median(name) * 1e3, "ms")
    at_once = f"write, {THREADS} at a time"
    for action, peer, peers_action, target in (
        ("write", "lakefs-spec", "write", 1 / 3),
        ("read", "lakefs-spec", "read", 1 / 3),
        ("write", "bare HTTP", "write", 1.2),
        (at_once, "bare HTTP", "write", 1.2),
        ("read", "bare HTTP", "read", 1.2),
    ):
        if f"{peer} {peers_action}" in watch.times:
            value = watch.ratio(f"ours {action}", f"{peer} {peers_action}")
            yield Result(f"lakeFS, {_WHAT} {action}: ours / {peer}", value, "x", target)


@contextmanager
def server() -> Iterator[LakefsServer]:
    with new_folder() as folder:
        lakefs = make_server(folder)
        lakefs.start()
        try:
            yield lakefs
        finally:
            lakefs.stop()


def has_lakefs_spec() -> bool:
    try:
        import lakefs_spec  # noqa: F401
    except ImportError:
        return False
    return True


def ours(watch: Stopwatch, lakefs: LakefsServer, data: Any) -> None:
    with new_folder() as writer, home(writer):
        url = write(watch, "ours write", lakefs, data)
    with new_folder() as reader, home(reader):
        read_all(watch, url, lakefs, data)


def read_all(watch: Stopwatch, url: str, lakefs: LakefsServer, data: Any) -> None:
    read(watch, "ours read", vz.open(url, **lakefs.options).checkout().store, data)


def ours_as_many(watch: Stopwatch, lakefs: LakefsServer, data: Any) -> None:
    with zarr.config.set({"async.concurrency": THREADS}), new_folder() as writer, home(writer):
        write(watch, f"ours write, {THREADS} at a time", lakefs, data)


def write(watch: Stopwatch, name: str, lakefs: LakefsServer, data: Any) -> str:
    repository = lakefs.create()
    session = repository.session()
    array = create(session.store, data, (64, 64))
    with watch.measure(name):
        array[:] = data
        session.commit("benchmark")
    return repository.url


def lakefs_spec(watch: Stopwatch, lakefs: LakefsServer, data: Any) -> None:
    from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
    from lakefs_spec import LakeFSFileSystem

    client = new_repository(lakefs)

    def store(ref: str, *, read_only: bool) -> Any:
        files = LakeFSFileSystem(
            host=lakefs.endpoint,
            username=lakefs.access_key_id,
            password=lakefs.secret_access_key,
            skip_instance_cache=True,
        )
        return zarr.storage.FsspecStore(
            AsyncFileSystemWrapper(files), path=f"{client.repository}/{ref}", read_only=read_only
        )

    array = create(store("main", read_only=False), data, (64, 64))
    with watch.measure("lakefs-spec write"):
        array[:] = data
        commit = client.commit("main", "benchmark", {})
    read(watch, "lakefs-spec read", store(commit.id, read_only=True), data)


def bare(watch: Stopwatch, lakefs: LakefsServer, data: Any) -> None:
    client = new_repository(lakefs)
    pool = urllib3.PoolManager(maxsize=THREADS)
    headers = urllib3.make_headers(basic_auth=f"{lakefs.access_key_id}:{lakefs.secret_access_key}")
    at = f"{lakefs.endpoint}/api/v1/repositories/{client.repository}"
    chunks = {key: bytes(value) for key, value in values_of(data, (64, 64)).items()}

    def send(key: str) -> int:
        url = f"{at}/branches/main/objects?path={quote(key, safe='')}"
        return pool.request("POST", url, body=chunks[key], headers=headers).status

    with ThreadPoolExecutor(THREADS) as threads:
        with watch.measure("bare HTTP write"):
            statuses = set(threads.map(send, chunks))
            body = json.dumps({"message": "benchmark"}).encode()
            sent = {**headers, "Content-Type": "application/json"}
            url = f"{at}/branches/main/commits"
            commit = pool.request("POST", url, body=body, headers=sent).json()
        assert statuses == {201}

        def get(key: str) -> bytes:
            url = f"{at}/refs/{commit['id']}/objects?path={quote(key, safe='')}"
            return pool.request("GET", url, headers=headers).data

        with watch.measure("bare HTTP read"):
            found = dict(zip(chunks, threads.map(get, chunks), strict=True))
    assert found == chunks


def new_repository(lakefs: LakefsServer) -> Any:
    name = f"b-{uuid.uuid4().hex}"
    client = lakefs.client(name)
    client.create_repository(f"local://{name}")
    return client
