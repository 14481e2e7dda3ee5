"""Four processes write many chunks into one session: memory is bounded, a commit costs the change.

A little of it by default; 100,000 chunks as a part of `make torture`.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.torture import TIMES

WRITERS = 4
ROW = 300
CHANGED = 10
# What a process needs however many chunks there are: a buffer for each draft, and code that is
# loaded late. Then the record, the change and the tree of each key: also of those of the others.
FIXED_MIB, PER_KEY_KIB = 64, 1.5
# A row of the tree has a link of some 60 bytes for each chunk; so has the folder of the rows.
BYTES_OF_A_CHANGED_KEY = 64 << 10

context = multiprocessing.get_context("spawn")


def value_of(number: int) -> bytes:
    return number.to_bytes(8, "little") * 512


def key_of(number: int) -> str:
    return f"a/c/{number // ROW}/{number % ROW}"


def peak_mib() -> float:
    """The most memory that this process has had at once, since `forget_peak`."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def work(session: vz.Session, numbers: range, start: Any, grown: Any) -> None:
    """Write chunks, when all are there; tell by how much the memory of this process grew."""
    session.get("top")
    forget_peak()
    before = peak_mib()
    start.wait(120)
    for number in numbers:
        session.write(key_of(number), value_of(number))
    assert session.size(key_of(numbers[-1])) == len(value_of(0))  # has read what the others wrote
    grown.put(peak_mib() - before)


def written(session: vz.Session, numbers: range) -> list[float]:
    """By how much the memory of each of four processes grew that wrote a share of the chunks."""
    shares = [numbers[first::WRITERS] for first in range(WRITERS)]
    start, grown = context.Barrier(WRITERS), context.Queue()
    workers = [context.Process(target=work, args=(session, it, start, grown)) for it in shares]
    for worker in workers:
        worker.start()
    found = [grown.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * WRITERS
    return found


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "packs").iterdir())


@pytest.mark.torture
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from /proc")
def test_memory_is_bounded_and_a_commit_costs_the_changed_keys(tmp_path: Path) -> None:
    count = 2_000 if TIMES == 1 else 100_000
    limit_mib = FIXED_MIB + PER_KEY_KIB * count / 1024
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    grown = written(session, range(count))
    assert max(grown) < limit_mib
    assert len(list(session.keys())) == count
    forget_peak()
    before = peak_mib()
    session.commit("all of them")
    assert peak_mib() - before < limit_mib
    assert len(repository.checkout().mapping) == count

    stored = stored_bytes(tmp_path / "r.vz")
    for number in range(CHANGED):
        session.write(key_of(number * (count // CHANGED)), b"changed")
    session.commit("ten of them")
    assert stored_bytes(tmp_path / "r.vz") - stored < CHANGED * BYTES_OF_A_CHANGED_KEY
    assert len(repository.diff("main").keys) == CHANGED
    session.discard()
