"""Many processes commit at once, and nothing that was acknowledged is lost."""

from __future__ import annotations

import multiprocessing
import pickle
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.repository import workers

SPAWN = multiprocessing.get_context("spawn")


def run_all(processes: list[multiprocessing.process.BaseProcess]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0


@pytest.mark.slow
def test_no_acknowledged_commit_is_lost_in_a_storm(tmp_path: Path) -> None:
    url = str(tmp_path / "r.vz")
    repository = vz.create(url)
    notes = [str(tmp_path / f"{worker}.txt") for worker in range(8)]
    run_all(
        [
            SPAWN.Process(target=workers.storm, args=(url, n, 50, note))
            for n, note in enumerate(notes)
        ]
    )
    acknowledged = dict(
        line.split() for note in notes for line in Path(note).read_text().splitlines()
    )
    log = [commit.cid for commit in repository.log()]
    assert len(acknowledged) == 400
    assert len(log) == 401
    assert set(acknowledged) <= set(log)
    assert set(repository.checkout().mapping) == set(acknowledged.values())
    report = repository.fsck()
    assert report.is_clean, str(report)
    assert not repository.sessions


def test_the_sum_of_all_accounts_never_changes(tmp_path: Path) -> None:
    url, accounts = str(tmp_path / "bank.vz"), 6
    repository = vz.create(url)
    with repository.session(message="open the bank") as session:
        for number in range(accounts):
            session.write(f"accounts/c/{number}", struct.pack("<q", 100))
    run_all(
        [
            SPAWN.Process(target=workers.transfer_money, args=(url, seed, 15, accounts))
            for seed in range(4)
        ]
    )
    for commit in repository.log():
        mapping = repository.checkout(commit.cid).mapping
        balances = [struct.unpack("<q", value)[0] for value in mapping.values()]
        assert sum(balances) in (100 * accounts, 0)
        assert all(balance >= 0 for balance in balances)


def test_processes_write_into_one_session(tmp_path: Path) -> None:
    repository = vz.create(str(tmp_path / "r.vz"))
    session = repository.session()
    session.write("parent", b"0")
    run_all(
        [
            SPAWN.Process(
                target=workers.write_into, args=(session, f"k/{n}", bytes([n]) * 2_000_000)
            )
            for n in range(4)
        ]
    )
    assert session.list_dir("k") == ["0", "1", "2", "3"]
    assert session.read("k/3", 0, 2) == b"\x03\x03"
    session.commit("all of it")
    assert {key: len(value) for key, value in repository.checkout().mapping.items()} == {
        "parent": 1,
        **{f"k/{n}": 2_000_000 for n in range(4)},
    }
    session.discard()
    assert repository.fsck().is_clean


def test_two_processes_that_wrote_one_key_unaware_are_told(tmp_path: Path) -> None:
    repository = vz.create(str(tmp_path / "r.vz"))
    session = repository.session()
    first, second = (pickle.dumps(session) for _ in range(2))
    run_all(
        [
            SPAWN.Process(target=write_pickled, args=(first, "a/c/0", b"one")),
            SPAWN.Process(target=write_pickled, args=(second, "a/c/0", b"two")),
        ]
    )
    with pytest.raises(vz.ConflictError, match="a/c/0"):
        session.commit("corrupt?")
    # Whoever looks and decides settles it.
    value = session.read("a/c/0")
    session.write("a/c/0", bytes(value) + b"!")
    session.commit("settled")
    assert repository.checkout().read("a/c/0") == bytes(value) + b"!"


def test_a_task_that_runs_twice_does_no_harm(tmp_path: Path) -> None:
    repository = vz.create(str(tmp_path / "r.vz"))
    session = repository.session()
    pickled = pickle.dumps(session)
    for _ in range(2):
        run_all([SPAWN.Process(target=write_pickled, args=(pickled, "a/c/0", b"same"))])
    session.commit("once")
    assert repository.checkout().read("a/c/0") == b"same"


def test_what_is_written_after_the_first_phase_is_no_conflict(tmp_path: Path) -> None:
    repository = vz.create(str(tmp_path / "r.vz"))
    session = repository.session()
    run_all([SPAWN.Process(target=write_pickled, args=(pickle.dumps(session), "a", b"one"))])
    run_all([SPAWN.Process(target=write_pickled, args=(pickle.dumps(session), "a", b"two"))])
    session.commit("second phase")
    assert repository.checkout().read("a") == b"two"


def write_pickled(pickled: bytes, key: str, value: bytes) -> None:
    pickle.loads(pickled).write(key, value)


def test_threads_share_a_session(tmp_path: Path) -> None:
    repository = vz.create(str(tmp_path / "r.vz"))
    session = repository.session()

    def write(worker: int) -> None:
        for number in range(100):
            session.write(
                f"{worker}/{number}", bytes([worker, number]) * 700_000 if number < 3 else b"x"
            )

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session.commit("all")
    assert len(list(repository.checkout().keys())) == 400
    assert repository.fsck().is_clean


def test_a_forked_child_writes_into_the_session_of_its_parent(tmp_path: Path) -> None:
    repository = vz.create(str(tmp_path / "r.vz"))
    session = repository.session()
    session.write("parent", b"1")
    fork = multiprocessing.get_context("fork")
    run_all([fork.Process(target=session.write, args=("child", b"2"))])
    session.write("parent again", b"3")
    session.commit("family")
    assert set(repository.checkout().mapping) == {"parent", "child", "parent again"}


def write_many(session: vz.Session, name: str) -> None:
    for number in range(500):
        session.write(f"{name}/{number}", f"{name} {number}".encode())


def test_parent_and_forked_children_write_at_once(tmp_path: Path) -> None:
    repository = vz.create(str(tmp_path / "r.vz"))
    session = repository.session()
    session.write("first", b"1")
    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=write_many, args=(session, f"child{i}")) for i in range(3)]
    for child in children:
        child.start()
    write_many(session, "parent")
    for child in children:
        child.join()
        assert child.exitcode == 0
    session.commit("family")
    mapping = repository.checkout().mapping
    assert len(mapping) == 1 + 4 * 500
    assert all(mapping[key] == key.replace("/", " ").encode() for key in mapping if "/" in key)


def test_a_write_into_a_session_that_was_discarded_elsewhere_is_refused(tmp_path: Path) -> None:
    session = vz.create(tmp_path / "r").session()
    session.write("a", b"1")
    pickled = pickle.dumps(session)
    goes, discarded = SPAWN.Event(), SPAWN.Event()
    child = SPAWN.Process(target=write_late, args=(pickled, goes, discarded))
    child.start()
    assert goes.wait(60)
    session.discard()
    discarded.set()
    child.join(60)
    assert child.exitcode == 0


def write_late(pickled: bytes, goes: Any, discarded: Any) -> None:
    session = pickle.loads(pickled)
    session.write("b", b"1")
    goes.set()
    assert discarded.wait(60)
    for _ in range(2):
        with pytest.raises(vz.SessionClosedError, match="discarded by another process"):
            session.write("c", b"1")
