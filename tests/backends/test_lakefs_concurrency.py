"""Many processes, on machines that know nothing of each other, commit to one branch on lakeFS."""

from __future__ import annotations

import multiprocessing
import os
import struct
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.repository import workers
from tests.servers.lakefs import LakefsServer

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("lakefs_by_environment")]

SPAWN = multiprocessing.get_context("spawn")


def on_a_machine(home: str, task: Any, *arguments: Any) -> None:
    """Run a task as a machine would that shares no files with others."""
    os.environ["VERSIONED_ZARR_HOME"] = home
    task(*arguments)


def run_all(processes: list[multiprocessing.process.BaseProcess]) -> None:
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0


def check_a_storm(repository: vz.Repository, path: Path, machines: int, commits: int) -> None:
    """Commit from several machines at once; no commit that was acknowledged is lost or doubled."""
    notes = [str(path / f"{machine}.txt") for machine in range(machines)]
    run_all(
        [
            SPAWN.Process(
                target=on_a_machine,
                args=(str(path / f"home{n}"), workers.storm, repository.url, n, commits, note),
            )
            for n, note in enumerate(notes)
        ]
    )
    acknowledged = dict(
        line.split() for note in notes for line in Path(note).read_text().splitlines()
    )
    log = [commit.cid for commit in repository.log()]
    assert len(acknowledged) == machines * commits
    assert len(log) == 1 + machines * commits
    assert set(acknowledged) <= set(log)
    assert set(repository.checkout().mapping) == set(acknowledged.values())
    assert not repository.sessions


def check_the_accounts(
    repository: vz.Repository, path: Path, machines: int, transfers: int
) -> None:
    """Move money on several machines at once; its sum is the same in each commit."""
    accounts = 6
    with repository.session(message="open the bank") as session:
        for number in range(accounts):
            session.write(f"accounts/c/{number}", struct.pack("<q", 100))
    move = workers.transfer_money
    run_all(
        [
            SPAWN.Process(
                target=on_a_machine,
                args=(str(path / f"home{n}"), move, repository.url, n, transfers, accounts),
            )
            for n in range(machines)
        ]
    )
    for commit in repository.log():
        mapping = repository.checkout(commit.cid).mapping
        balances = [struct.unpack("<q", value)[0] for value in mapping.values()]
        assert sum(balances) in (100 * accounts, 0)
        assert all(balance >= 0 for balance in balances)


def test_no_acknowledged_commit_is_lost_in_a_storm(tmp_path: Path) -> None:
    repository = vz.create(f"lakefs://storm-{uuid.uuid4().hex}")
    check_a_storm(repository, tmp_path, machines=4, commits=6)


def test_the_sum_of_all_accounts_never_changes(tmp_path: Path) -> None:
    repository = vz.create(f"lakefs://bank-{uuid.uuid4().hex}")
    check_the_accounts(repository, tmp_path, machines=3, transfers=5)


def test_sessions_of_one_process_commit_at_once(lakefs: LakefsServer) -> None:
    repository = vz.open(lakefs.create().url, cache_bytes=0, **lakefs.options)
    sessions = [repository.session() for _ in range(8)]
    values = {f"{n}/{part}": bytes([n, part]) * 5000 for n in range(8) for part in range(3)}
    for key, data in values.items():
        sessions[int(key[0])].mapping[key] = data
    start = threading.Barrier(len(sessions))

    def commit(session: vz.Session) -> None:
        start.wait()
        session.commit("one of many")

    with ThreadPoolExecutor(len(sessions)) as threads:
        list(threads.map(commit, sessions))
    there = vz.open(repository.url, **lakefs.options)
    assert dict(there.checkout().mapping) == values
    assert len(list(there.log())) == 1 + len(sessions)
    assert not there.sessions
