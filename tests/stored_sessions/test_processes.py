"""Processes on several machines write into one session on S3 and on an IPFS node."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.stored_sessions.workers import (
    open_and_leave,
    value,
    write_keys,
    write_until_killed,
)

pytestmark = pytest.mark.compat
SPAWNED: Any = multiprocessing.get_context("spawn")
KEYS = [f"a/c/{number}" for number in range(40)]


def written_alone(keys: list[str], size: int = 1000) -> str:
    """The tree of a repository with values."""
    repository = vz.create(f"memory://{time.monotonic_ns()}")
    with repository.session(message="all") as session:
        for key in keys:
            session.write(key, value(key, size))
    return repository.branches["main"].tree


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_processes_write_into_one_session(url: str, tmp_path: Path, size: int) -> None:
    keys = KEYS if size < 10_000 else KEYS[:4]
    session = vz.open(url).session()
    session.write(keys[0], value(keys[0], size))
    pickled = pickle.dumps(session)
    workers = [
        SPAWNED.Process(
            target=write_keys, args=(str(tmp_path / f"m{n}"), pickled, keys[n::2], size)
        )
        for n in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert session.commit("all").tree == written_alone(keys, size)
    assert bytes(vz.open(url).checkout().read(keys[-1])) == value(keys[-1], size)


def test_what_a_killed_worker_wrote_stays(url: str, tmp_path: Path) -> None:
    session = vz.open(url).session()
    notes = [tmp_path / f"notes{n}" for n in range(2)]
    workers = [
        SPAWNED.Process(
            target=write_until_killed,
            args=(str(tmp_path / f"m{n}"), pickle.dumps(session), f"w{n}", str(notes[n])),
        )
        for n in range(2)
    ]
    for worker, note in zip(workers, notes, strict=True):
        worker.start()
        note.touch()
    deadline = time.monotonic() + 120
    while any(len(note.read_text().split()) < 20 for note in notes):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for worker in workers:
        worker.kill()
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
    acknowledged = {key for note in notes for key in note.read_text().split()}
    session.commit("what was acknowledged")
    snapshot = vz.open(url).checkout()
    found = {key: bytes(snapshot.read(key)) for key in sorted(snapshot.keys())}
    assert acknowledged <= found.keys()
    assert all(data == value(key) for key, data in found.items())


def test_the_session_of_a_dead_client_is_resumed_elsewhere(
    url: str, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    client = SPAWNED.Process(target=open_and_leave, args=(str(tmp_path / "there"), url, KEYS[:30]))
    client.start()
    client.join(120)
    assert client.exitcode == 1
    elsewhere()
    repository = vz.open(url)
    (info,) = repository.sessions.values()
    assert (info.keys, info.purpose, info.problem) == (30, "left", None)
    session = repository.resume(info.id)
    assert sorted(session.keys()) == sorted(KEYS[:30])
    for key in KEYS[30:]:
        session.write(key, value(key))
    assert session.commit("all").tree == written_alone(KEYS)
    session.discard()
    assert not repository.sessions


def test_a_session_that_was_discarded_elsewhere_refuses(
    url: str, elsewhere: Callable[[], None]
) -> None:
    session = vz.open(url).session()
    pickle.dumps(session)
    elsewhere()
    other = vz.open(url, verify="always").resume(session.id)
    other.write("a", b"1")
    session.discard()

    def write_for_ever() -> None:
        while True:
            other.write("b", os.urandom(10))

    with pytest.raises(vz.SessionClosedError, match="discarded by another process"):
        write_for_ever()
    with pytest.raises(vz.SessionNotFoundError):
        vz.open(url).resume(session.id)


def test_threads_and_copies_see_what_was_written(url: str, elsewhere: Callable[[], None]) -> None:
    session = vz.open(url).session()
    pickle.dumps(session)
    elsewhere()
    other = vz.open(url, verify="always").resume(session.id)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: session.write(key, value(key)), KEYS))
        assert list(pool.map(lambda key: bytes(other.read(key)), KEYS)) == [
            value(key) for key in KEYS
        ]
    other.clear("a")
    assert list(session.keys()) == []
    other.write("b", b"1")
    commit = session.commit("b")
    assert bytes(other.read("b")) == b"1"
    assert other.base == commit
    other.write("c", b"2")
    assert sorted(session.keys()) == ["b", "c"]
    assert session.commit("c").parents


def test_two_that_write_one_key_unaware_of_each_other_conflict(
    url: str, elsewhere: Callable[[], None]
) -> None:
    session = vz.open(url).session()
    pickle.dumps(session)
    elsewhere()
    other = vz.open(url, verify="always").resume(session.id)
    session.write("a/c/0", b"one")
    other.write("a/c/0", b"two")
    session.write("a/c/1", b"alike")
    other.write("a/c/1", b"alike")
    with pytest.raises(vz.ConflictError, match="a/c/0") as caught:
        session.commit("both")
    assert [conflict.path for conflict in caught.value.conflicts] == ["a/c/0"]
    session.read("a/c/0")
    session.write("a/c/0", b"both")
    session.commit("both")
    assert bytes(vz.open(url).checkout().read("a/c/0")) == b"both"


def test_a_gc_keeps_what_sessions_wrote(
    url: str, elsewhere: Callable[[], None], request: pytest.FixtureRequest
) -> None:
    session = vz.open(url).session()
    pickle.dumps(session)
    for key in KEYS[:3]:
        session.write(key, value(key, 300_000))
    elsewhere()
    if not url.startswith("ipfs"):
        vz.open(url).gc(keep_reflog=timedelta(0))
    else:
        request.getfixturevalue("node").ipfs("repo", "gc")
    for key in KEYS[3:6]:
        session.write(key, value(key, 300_000))
    assert session.commit("all").tree == written_alone(KEYS[:6], 300_000)
    elsewhere()
    snapshot = vz.open(url).checkout()
    assert all(bytes(snapshot.read(key)) == value(key, 300_000) for key in KEYS[:6])
