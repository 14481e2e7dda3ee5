"""What a commit of one chunk, and a cold read, cost as a repository on an object store grows.

The store is obstore's MemoryStore, so the figures are work, requests and bytes, not a network.
Writes the picture of docs/benchmarks.md if $VERSIONED_ZARR_PICTURE has its path.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.store import MemoryStore

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.ipfs import home
from benchmarks.timing import Result
from versioned_zarr.backends.objectstore import obstore_storage

SIZES = (1_000, 10_000, 100_000, 1_000_000)
COMMITS = 20
_URL = "s3://bucket/growth"


class Counting:
    """obstore, with a count of its requests and of the bytes that they send."""

    def __init__(self) -> None:
        self.requests = self.sent_bytes = 0
        self._guard = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        function = getattr(obstore, name)

        def call(store: Any, *arguments: Any, **keywords: Any) -> Any:
            with self._guard:
                self.requests += 1
                if name == "put" and isinstance(arguments[1], bytes):
                    self.sent_bytes += len(arguments[1])
            return function(store, *arguments, **keywords)

        return call


def run(rounds: int) -> Iterator[Result]:
    del rounds
    found: dict[str, list[float]] = {}
    for size in SIZES:
        with counted() as counting, new_folder() as place:
            for name, (value, unit) in _measured(size, counting, place).items():
                found.setdefault(f"{name} ({unit})", []).append(value)
                yield Result(f"{size:,} values: {name}", value, unit)
    if "VERSIONED_ZARR_PICTURE" in os.environ:
        plot(found, Path(os.environ["VERSIONED_ZARR_PICTURE"]))


@contextmanager
def counted() -> Iterator[Counting]:
    counting: Any = Counting()
    obstore_storage.obstore = counting
    try:
        yield counting
    finally:
        obstore_storage.obstore = obstore


def _measured(size: int, counting: Counting, place: Path) -> dict[str, tuple[float, str]]:
    store = MemoryStore()
    with home(place / "writer"):
        session = vz.create(_URL, store=store).session()
        for number in range(size):
            session.write(f"a/c/{number // 1000}/{number % 1000}", b"%016d" % number)
        session.commit("fill")
        times = []
        before = counting.requests, counting.sent_bytes
        for number in range(COMMITS):
            session.write(f"a/c/0/{number}", os.urandom(16))
            start = time.perf_counter()
            session.commit("one")
            times.append(time.perf_counter() - start)
        requests = (counting.requests - before[0]) / COMMITS
        sent_bytes = (counting.sent_bytes - before[1]) / COMMITS
        session.discard()
    with home(place / "reader"):
        before_read = counting.requests
        start = time.perf_counter()
        value = vz.open(_URL, store=store).checkout().read(f"a/c/0/{COMMITS}")
        read_s = time.perf_counter() - start
        assert bytes(value) == b"%016d" % COMMITS
        read = counting.requests - before_read
    return {
        "commit, time": (statistics.median(times) * 1e3, "ms"),
        "commit, requests": (requests, ""),
        "commit, sent": (sent_bytes / 1024, "KiB"),
        "cold read, time": (read_s * 1e3, "ms"),
        "cold read, requests": (read, ""),
    }


def plot(found: dict[str, list[float]], path: Path) -> None:
    """Plot each figure over the number of values, in a file."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axes, part in ((left, "ms"), (right, "KiB")):
        for name, values in found.items():
            if name.endswith(f"({part})") or (part == "KiB" and name.endswith("()")):
                axes.plot(SIZES, values, marker="o", label=name.replace(" ()", ""))
        axes.set(xscale="log", xlabel="values in the repository")
        axes.legend(fontsize=8, frameon=False, loc="upper left")
        axes.margins(y=0.3)
        axes.set_ylim(bottom=0)
    left.set_ylabel("ms")
    right.set_ylabel("KiB, requests")
    figure.savefig(path, metadata={"Date": None})
