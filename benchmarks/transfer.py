"""What a push costs where one chunk of a million changed: blocks looked at, and bytes sent.

Both are counted as in tests/repository/test_transfer.py, between folders that were opened anew, so
that nothing is known from before.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import versioned_zarr as vz
from benchmarks.folders import new_folder
from benchmarks.timing import Result
from tests.repository.moving import commit, watched

CHUNKS = 1_000_000
LAYOUTS = {
    "in one directory": lambda number: f"x/c/{number}",
    "in 1000 directories": lambda number: f"x/c/{number // 1000}/{number % 1000}",
}


def run(_: int) -> Iterator[Result]:
    for layout, key in LAYOUTS.items():
        with new_folder() as folder:
            ours, theirs = folder / "ours.vz", folder / "theirs.vz"
            make(ours, theirs, key)
            gc.collect()  # what the two had in memory goes
            yield from push(ours, theirs, layout)


def make(ours: Path, theirs: Path, key: Callable[[int], str]) -> None:
    """Make a million chunks, a clone of them, and then a change of one."""
    repository = vz.create(ours)
    with repository.session(message="a million chunks") as session:
        for number in range(CHUNKS):
            session.write(key(number), number.to_bytes(8, "little"))
    vz.clone(ours, theirs)
    commit(repository, {key(471_147): b"changed!"})


def push(ours: Path, theirs: Path, layout: str) -> Iterator[Result]:
    source, target = vz.open(ours), vz.open(theirs)
    with watched(source) as here, watched(target) as there:
        start = time.perf_counter()
        done = source.push(theirs, "main")
        took = time.perf_counter() - start
    assert len(done.moves) == 1
    assert target.branches["main"] == source.branches["main"]
    looked_at = len(here.got | there.got) + done.seen_blocks
    yield Result(f"push one chunk of 1,000,000 {layout}: looked at", looked_at, "blocks", 60)
    yield Result("  sent", there.put_bytes / 1024, "KiB", 1024)
    yield Result("  of so many blocks", len(there.put), "blocks")
    yield Result("  time, both folders opened anew", took * 1e3, "ms")
