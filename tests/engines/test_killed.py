"""A worker or the client is killed in the middle; what is committed at last is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zarr

import versioned_zarr as vz
from tests.engines import killed
from tests.engines.conftest import cluster

da = pytest.importorskip("dask.array")

DIES_AT = 14


@pytest.fixture
def undisturbed(repository: vz.Repository) -> str:
    """The tree of a commit that one process made."""
    repository.branches.create("undisturbed")
    session = repository.session("undisturbed")
    killed.make_array(session)[:] = killed.whole()
    return session.commit("Undisturbed").tree


def vz_json(*arguments: str) -> Any:
    """What the command line prints as JSON, in a process of its own."""
    command = [sys.executable, "-m", "versioned_zarr.cli", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_is_killed_and_its_task_is_retried(
    repository: vz.Repository, undisturbed: str, tmp_path: Path, when: str
) -> None:
    session = repository.session()
    mark = tmp_path / "died"
    target = killed.Deadly(killed.make_array(session), mark, DIES_AT, when)
    with cluster():
        da.store(da.from_array(killed.whole(), chunks=killed.CHUNKS), target, lock=False)
    assert mark.exists()
    assert not session.missing()
    assert session.commit("All of it").tree == undisturbed


def test_the_client_is_killed_and_another_process_writes_only_what_is_missing(
    repository: vz.Repository, undisturbed: str, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", killed.__name__, repository.url, tmp_path / "died"]
    # A group of its own, so that the workers that it leaves end, too: as in a crash of the machine.
    with subprocess.Popen(
        [*command, str(DIES_AT)], stderr=subprocess.DEVNULL, start_new_session=True
    ) as client:
        assert client.wait(300) == -signal.SIGKILL
        os.killpg(client.pid, signal.SIGKILL)
    (info,) = repository.sessions.values()
    assert info.purpose == "fill"
    shown = vz_json("-C", repository.url, "sessions", info.id, "--json")
    session = repository.resume(info.id)
    missing = session.missing("air")
    assert shown["arrays"]["air"]["written"] == missing.written
    assert shown["arrays"]["air"]["chunks"] == killed.COUNT
    assert (DIES_AT // 2,) not in list(missing.coordinates)  # it died after it was written
    written = 0
    array = zarr.open_array(session.store, path="air")
    for region in missing:
        array[region] = killed.whole()[region]
        written += 1
    assert written + missing.written == killed.COUNT
    assert session.commit("Resumed").tree == undisturbed
