"""How many chunks zarr writes at a time to a repository whose writes wait for a server."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer

pytestmark = pytest.mark.compat

BEGIN = """
import pickle, sys
import zarr
import versioned_zarr as vz

def at_once():
    return zarr.config.get("async.concurrency")

"""
OPEN = "repository = vz.open(sys.argv[1])"


def run(program: str, argument: str) -> list[int]:
    """The numbers that a program prints, in a process of its own as zarr's settings are."""
    command = [sys.executable, "-c", BEGIN + program, argument]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return [int(word) for word in done.stdout.split()]


@pytest.fixture
def url(lakefs_by_environment: LakefsServer) -> str:
    return lakefs_by_environment.create().url


def test_a_store_that_writes_to_a_server_has_zarr_write_more_at_a_time(url: str) -> None:
    program = """
print(at_once())
repository.checkout().store
print(at_once())
store = repository.session().store
print(at_once())
zarr.config.set({"async.concurrency": 10})
pickle.loads(pickle.dumps(store))
print(at_once())
"""
    assert run(OPEN + program, url) == [10, 10, 24, 10]


def test_what_was_set_stands(url: str) -> None:
    program = """
zarr.config.set({"async.concurrency": 5})
repository.session().store
print(at_once())
"""
    assert run(OPEN + program, url) == [5]


def test_a_worker_that_is_sent_a_store_writes_as_many_at_a_time(
    lakefs_by_environment: LakefsServer, tmp_path: Path
) -> None:
    store = lakefs_by_environment.create().session().store
    sent = tmp_path / "store"
    sent.write_bytes(pickle.dumps(store))
    program = """
pickle.load(open(sys.argv[1], "rb"))
print(at_once())
"""
    assert run(program, str(sent)) == [24]


def test_a_folder_leaves_zarrs_settings_alone(tmp_path: Path) -> None:
    program = """
repository.session().store
print(at_once())
"""
    assert run(OPEN + program, vz.create(tmp_path / "a.vz").url) == [10]
