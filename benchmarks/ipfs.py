"""Arrays on a real IPFS node: written, and read cold and warm, beside the peers.

Each round starts a node of its own, so that no one finds another's blocks. `ipfs dag import` of
the CAR of the same snapshot is what the node itself can do: it ends with a pin, as ours ends with a
ref, so that both keep the blocks. Without a pin it is timed as well. The peers are used as their
READMEs say; py-hamt asks for zarr 3.0 and is installed without its dependencies.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.pipeline import FUSED
from benchmarks.reading import read_whole
from benchmarks.timing import Result, Stopwatch
from tests.servers.daemon import Daemon, start, stop
from versioned_zarr.repository.repository import Repository

UNPINNED = "dag import, unpinned"


def run(rounds: int) -> Iterator[Result]:
    rounds = min(rounds, 5)
    small = np.random.default_rng(1).random((64 * 64, 64 * 64), dtype="f4")
    yield from measure("4096 x 16 KiB", small, (64, 64), rounds, with_peers=True)
    large = np.random.default_rng(2).random((64, 1 << 20), dtype="f4")
    yield from measure("64 x 4 MiB", large, (1, 1 << 20), rounds)
    what = "4096 x 16 KiB, where files come and go"
    yield from measure(what, small, (64, 64), min(rounds, 3), is_fresh=False)


def measure(
    what: str,
    data: Any,
    chunks: tuple[int, int],
    rounds: int,
    *,
    with_peers: bool = False,
    is_fresh: bool = True,
) -> Iterator[Result]:
    watch = Stopwatch()
    for _ in range(rounds):
        with new_folder(keep=is_fresh) as place:
            one_round(watch, data, chunks, place, keep=is_fresh)
            if with_peers:
                py_hamt(watch, data, chunks, place)
                ipfsspec(watch, data, place)
    for name in watch.times:
        yield Result(f"{what} {name}", watch.median(name) * 1e3, "ms")
    for how in ("write by key", "write, fused pipeline,", "write"):
        for peer, target in (("dag import", 1.15), (UNPINNED, None)):
            value = watch.ratio(f"ours {how}", peer)
            yield Result(f"{what}: {how} + commit / {peer}", value, "x", target)
    yield Result(
        f"{what}: warm read / folder's", watch.ratio("ours warm read", "folder read"), "x", 1.3
    )
    for ours, peer, action, target in (
        ("ours", "py-hamt", "write", 1 / 3),
        ("ours, by a gateway,", "py-hamt", "cold read", 1 / 2),
        ("ours, by a gateway,", "ipfsspec", "cold read", 1 / 2),
        ("ours", "py-hamt", "cold read", None),
        ("ours", "ipfsspec", "cold read", None),
    ):
        if f"{peer} {action}" in watch.times:
            value = watch.ratio(f"{ours} {action}", f"{peer} {action}")
            yield Result(f"{what} {action}: {ours} / {peer}", value, "x", target)


def one_round(
    watch: Stopwatch, data: Any, chunks: tuple[int, int], place: Path, *, keep: bool
) -> None:
    write_by_key(watch, data, chunks, place, keep=keep)
    with node(keep=keep) as daemon, home(place / "writer-fused"), zarr.config.set(FUSED):
        write(watch, "ours write, fused pipeline,", daemon, data, chunks)
    with node(keep=keep) as daemon, home(place / "writer"):
        repository = write(watch, "ours write", daemon, data, chunks)
        snapshot = repository.checkout()
        read(watch, "ours warm read", snapshot.store, data)
        car = place / "snapshot.car"
        repository.export_car("main", car)
    local = vz.create(place / "local")
    session = local.session()
    create(session.store, data, chunks)[:] = data
    session.commit("benchmark")
    read(watch, "folder read", local.checkout().store, data)
    with node(keep=keep) as daemon, watch.measure(UNPINNED, 4 * data.nbytes):
        daemon.ipfs("dag", "import", "--pin-roots=false", str(car))
    with node(keep=keep) as daemon:
        with watch.measure("dag import", 4 * data.nbytes):
            daemon.ipfs("dag", "import", str(car))
        with home(place / "reader"):
            far = vz.open_snapshot(snapshot.cid, gateways=[daemon.gateway])
            read(watch, "ours, by a gateway, cold read", far.store, data)
    with node(keep=keep) as daemon:
        with home(place / "pusher"):
            vz.create(f"{daemon.url}/benchmark")
            local.push(f"{daemon.url}/benchmark", ["main:read"])
        with home(place / "other-reader"):
            there = vz.open(f"{daemon.url}/benchmark")
            read(watch, "ours cold read", there.checkout("read").store, data)


def write_by_key(
    watch: Stopwatch, data: Any, chunks: tuple[int, int], place: Path, *, keep: bool
) -> None:
    with node(keep=keep) as daemon, home(place / "writer-by-key"):
        session = vz.create(f"{daemon.url}/benchmark").session()
        values = values_of(data, chunks)
        with watch.measure("ours write by key", 4 * data.nbytes):
            for key, value in values.items():
                session.write(key, value)
            session.commit("benchmark")


def write(
    watch: Stopwatch, name: str, daemon: Daemon, data: Any, chunks: tuple[int, int]
) -> Repository:
    repository = vz.create(f"{daemon.url}/benchmark")
    session = repository.session()
    array = create(session.store, data, chunks)
    with watch.measure(name, 4 * data.nbytes):
        array[:] = data
        session.commit("benchmark")
    return repository


def values_of(data: Any, chunks: tuple[int, int]) -> dict[str, memoryview]:
    """The values that an array's chunks are, by key."""
    rows, columns = chunks
    return {
        f"a/c/{row // rows}/{column // columns}": np.ascontiguousarray(
            data[row : row + rows, column : column + columns]
        ).data.cast("B")
        for row in range(0, data.shape[0], rows)
        for column in range(0, data.shape[1], columns)
    }


def create(store: Any, data: Any, chunks: tuple[int, int]) -> Any:
    group = zarr.create_group(store)
    return group.create_array(
        "a", shape=data.shape, chunks=chunks, dtype=data.dtype, compressors=None
    )


def read(watch: Stopwatch, name: str, store: Any, data: Any) -> None:
    read_whole(watch, name, lambda: zarr.open_array(store, path="a", mode="r"), data)


def py_hamt(watch: Stopwatch, data: Any, chunks: tuple[int, int], place: Path) -> None:
    try:
        from py_hamt import HAMT, KuboCAS, ZarrHAMTStore
    except ImportError:
        return

    async def open_store(daemon: Daemon, root: Any = None) -> tuple[Any, Any, Any]:
        cas = KuboCAS(rpc_base_url=daemon.rpc, gateway_base_url=daemon.gateway)
        options = {} if root is None else {"root_node_id": root, "read_only": True}
        hamt = await HAMT.build(cas=cas, values_are_bytes=True, **options)
        return cas, hamt, ZarrHAMTStore(hamt, read_only=root is not None)

    with node() as daemon:
        loop = zarr.core.sync.sync
        cas, hamt, store = loop(open_store(daemon))
        array = create(store, data, chunks)
        with watch.measure("py-hamt write", 4 * data.nbytes):
            array[:] = data
            loop(hamt.make_read_only())
        root = hamt.root_node_id
        loop(cas.aclose())
        cas, hamt, store = loop(open_store(daemon, root))
        read(watch, "py-hamt cold read", store, data)
        loop(cas.aclose())


def ipfsspec(watch: Stopwatch, data: Any, place: Path) -> None:
    try:
        from ipfsspec import AsyncIPFSFileSystem
    except ImportError:
        return
    car = place / "snapshot.car"
    with node() as daemon:
        daemon.ipfs("dag", "import", "--pin-roots=false", str(car))
        cid = vz.open(place / "local").checkout().cid
        filesystem = AsyncIPFSFileSystem(asynchronous=True, gateway_addr=daemon.gateway)
        store = zarr.storage.FsspecStore(filesystem, path=cid, read_only=True)
        read(watch, "ipfsspec cold read", store, data)


@contextmanager
def node(*, keep: bool = True) -> Iterator[Daemon]:
    with new_folder(keep=keep) as place:
        daemon = start(place)
        try:
            yield daemon
        finally:
            stop(daemon)


@contextmanager
def home(place: Path) -> Iterator[None]:
    before = os.environ.get("VERSIONED_ZARR_HOME")
    os.environ["VERSIONED_ZARR_HOME"] = str(place)
    try:
        yield
    finally:
        if before is None:
            del os.environ["VERSIONED_ZARR_HOME"]
        else:
            os.environ["VERSIONED_ZARR_HOME"] = before
