"""Costs that must follow the change: a chunk of a million, many commits, many processes."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.timing import Result


def run(_: int) -> Iterator[Result]:
    yield from imports()
    yield from million_values()
    yield from million_chunks()
    yield from many_commits()
    yield from storm()
    yield from shared_session()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def imports() -> Iterator[Result]:
    # As installed packages have it: compiled once. The first, uncounted, run compiles.
    with new_folder() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(cache)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        took = import_ms("import versioned_zarr", environment)
        yield Result("import versioned_zarr (no zarr)", took, "ms", 100)
        took = import_ms("from versioned_zarr import open", environment)
        yield Result("  with the engine and numpy, at the first use", took, "ms")


def import_ms(statement: str, environment: dict[str, str]) -> float:
    code = (
        f"import time; t = time.perf_counter(); {statement}; "
        "d = time.perf_counter() - t; import sys; print(d * 1e3, 'zarr' in sys.modules)"
    )
    times = []
    for _ in range(8):
        command = [sys.executable, "-c", code]
        output = subprocess.run(command, capture_output=True, check=True, env=environment)
        took, has_zarr = output.stdout.split()
        times.append(float(took))
        assert has_zarr == b"False"
    return sorted(times[1:])[3]


MILLION = """
import resource, sys, time
import versioned_zarr as vz
session = vz.create(sys.argv[1]).session()
start = time.perf_counter()
mapping = session.mapping
for number in range(1_000_000):
    mapping[f"a/c/{number}"] = number.to_bytes(8, "little") * 8
session.commit("a million")
took = time.perf_counter() - start
print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def million_values() -> Iterator[Result]:
    with new_folder() as folder:
        command = [sys.executable, "-c", MILLION, str(folder / "r.vz")]
        output = subprocess.run(command, capture_output=True, check=True)
        seconds, mebibytes = (float(text) for text in output.stdout.split())
        yield Result("1,000,000 values of 64 bytes, with the commit", seconds, "s", 30)
        yield Result("  its peak memory", mebibytes, "MiB", 1024)


ARRAY = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [1_000_000],
    "data_type": "int64",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "attributes": {},
}

COLD = """
import sys, time
from versioned_zarr import open
start = time.perf_counter()
snapshot = open(sys.argv[1]).checkout("main")
assert snapshot.read("c/777777") == (777777).to_bytes(8, "little")
print((time.perf_counter() - start) * 1e3)
"""


def million_chunks() -> Iterator[Result]:
    with new_folder() as folder:
        url = folder / "r.vz"
        repository = vz.create(url)
        with repository.session(message="a million chunks") as session:
            session.write("zarr.json", json.dumps(ARRAY).encode())
            for number in range(1_000_000):
                session.write(f"c/{number}", number.to_bytes(8, "little"))
        commits, statuses, diffs, written = [], [], [], []
        for number in range(9):
            session = repository.session()
            session.write(f"c/{number * 100_003}", b"changed!" + bytes([number]))
            start = time.perf_counter()
            session.status()
            statuses.append(time.perf_counter() - start)
            before = size_of(url)
            start = time.perf_counter()
            session.commit("one chunk")
            commits.append(time.perf_counter() - start)
            written.append(size_of(url) - before)
            start = time.perf_counter()
            assert len(repository.diff("main").keys) == 1
            diffs.append(time.perf_counter() - start)
        middle = len(commits) // 2
        yield Result("one chunk of 1,000,000: commit", sorted(commits)[middle] * 1e3, "ms", 20)
        yield Result("  bytes written", sorted(written)[middle] / 1024, "KiB", 1024)
        yield Result("  status", sorted(statuses)[middle] * 1e3, "ms", 10)
        yield Result("  diff", sorted(diffs)[middle] * 1e3, "ms", 10)
        times = []
        for _ in range(5):
            command = [sys.executable, "-c", COLD, str(url)]
            output = subprocess.run(command, capture_output=True, check=True)
            times.append(float(output.stdout))
        yield Result("  open + first chunk, fresh process", sorted(times)[2], "ms", 10)


def many_commits() -> Iterator[Result]:
    with new_folder() as folder:
        repository = vz.create(folder / "r.vz")
        hundreds, sizes = [], []
        for _ in range(100):
            before, start = size_of(folder), time.perf_counter()
            for number in range(100):
                session = repository.session()
                session.write("zarr.json", json.dumps({"attributes": {"n": number}}).encode())
                session.write(f"a/c/{number}", os.urandom(64))
                session.commit("one of ten thousand")
            hundreds.append(time.perf_counter() - start)
            sizes.append(size_of(folder) - before)
        first, last = sorted(hundreds[:10])[5], sorted(hundreds[-10:])[5]
        yield Result("10,000 commits: one of the last", last * 10, "ms")
        yield Result("  last hundreds / first hundreds, time", last / first, "x", 1.25)
        grown = sum(sizes[-10:]) / sum(sizes[:10])
        yield Result("  last hundreds / first hundreds, bytes", grown, "x", 1.25)
        start = time.perf_counter()
        assert sum(1 for _ in repository.log()) == 10_001
        yield Result("  log of all", (time.perf_counter() - start) * 1e3, "ms")
    with new_folder() as folder:
        repository = vz.create(folder / "r.vz")
        for number in range(1500):
            with repository.session(message="an attribute") as session:
                document = {"zarr_format": 3, "node_type": "group", "attributes": {"n": number}}
                session.write("zarr.json", json.dumps(document, indent=2).encode())
        yield Result("1500 attribute commits leave", size_of(folder) / 1e6, "MB", 5)


def commit_often(url: str, worker: int, commits: int, go: Event) -> None:
    repository = vz.open(url)
    go.wait()
    for number in range(commits):
        session = repository.session()
        session.write(f"w{worker}/{number}", f"{worker}/{number}".encode())
        session.commit(f"{worker}/{number}")


def storm() -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    with new_folder() as folder:
        url = str(folder / "r.vz")
        repository = vz.create(url)
        go = context.Barrier(9)
        workers = [
            context.Process(target=commit_often, args=(url, number, 45, go)) for number in range(8)
        ]
        for worker in workers:
            worker.start()
        go.wait()
        start = time.perf_counter()
        for worker in workers:
            worker.join()
        took = time.perf_counter() - start
        lost = 360 - (sum(1 for _ in repository.log()) - 1)
        yield Result("8 processes, 360 commits to one branch", took, "s", 3)
        yield Result("  lost", lost, "commits", 0)


SHARED = 100_000


def write_share(session: vz.Session, numbers: range, peaks: Queue[float]) -> None:
    for number in numbers:
        session.write(f"a/c/{number // 300}/{number % 300}", number.to_bytes(8, "little") * 512)
    peaks.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def shared_session() -> Iterator[Result]:
    """In a process of its own, whose peak memory is that of the client."""
    with new_folder() as folder:
        code = f"from benchmarks.scale import share; share({str(folder / 'r.vz')!r})"
        command = [sys.executable, "-c", code]
        output = subprocess.run(command, capture_output=True, check=True)
        written, commit, one, worker, client = (float(text) for text in output.stdout.split())
    yield Result("4 processes, 100,000 chunks of 4 KiB, one session", written, "s")
    yield Result("  commit", commit, "s", 5)
    yield Result("  commit of one more chunk", one * 1e3, "ms", 20)
    yield Result("  peak memory of a writer", worker, "MiB", 256)
    yield Result("  peak memory of the client", client, "MiB", 256)


def share(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    session = vz.create(url).session()
    peaks = context.Queue()
    shares = [range(first, SHARED, 4) for first in range(4)]
    workers = [context.Process(target=write_share, args=(session, it, peaks)) for it in shares]
    times = [time.perf_counter()]
    for worker in workers:
        worker.start()
    worst = max(peaks.get() for _ in workers)
    for worker in workers:
        worker.join()
    times.append(time.perf_counter())
    session.commit("all of them")
    times.append(time.perf_counter())
    session.write("a/c/0/0", b"changed")
    times.append(time.perf_counter())
    session.commit("one of them")
    times.append(time.perf_counter())
    took = [end - start for start, end in pairwise(times)]
    client = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(took[0], took[1], took[3], worst, client)
