"""What a stored session costs on an object store: the requests, counted."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import versioned_zarr as vz

pytest.importorskip("obstore")

from tests.backends.objectstore.test_object_store import Requests
from tests.servers.shared_store import SharedStore
from versioned_zarr.backends.objectstore import obstore_storage
from versioned_zarr.repository.repository import Repository

URL = "s3://bucket/prefix"


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Requests:
    found = Requests()
    monkeypatch.setattr(obstore_storage, "obstore", found)
    return found


@pytest.fixture
def store() -> Any:
    return SharedStore()


@pytest.fixture
def repository(store: Any) -> Repository:
    return vz.create(URL, store=store)


def test_to_share_a_session_stores_what_it_has_written(
    repository: Repository, requests: Requests
) -> None:
    session = repository.session()
    for number in range(50):
        session.write(f"a/{number}", bytes([number]) * 1000)
    requests.counted()
    pickle.dumps(session)
    assert requests.counted() == {"put": 2, "list": 2}
    session.write("b", b"1")
    assert requests.counted() == {"put": 1}
    session.write("b", b"1")
    assert requests.counted() == {"put": 1}


def test_writes_that_wait_go_out_together(repository: Repository, requests: Requests) -> None:
    session = repository.session()
    pickle.dumps(session)
    requests.latency_s = 0.02
    requests.counted()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: session.write(f"a/{number}", b"%d" % number), range(320)))
    assert requests.counted()["put"] <= 320 / 4


def test_who_joins_does_not_read_every_pack(
    repository: Repository, requests: Requests, store: Any, elsewhere: Callable[[], None]
) -> None:
    session = repository.session()
    pickle.dumps(session)
    for number in range(300):
        session.write(f"a/{number}", b"%d" % number)
    elsewhere()
    other = vz.open(URL, store=store, verify="always").resume(session.id)
    requests.counted()
    other.write("b", b"1")
    assert requests.counted() == {"put": 1}
    assert len(list(other.keys())) == 301
    counted = requests.counted()
    assert counted["list"] == 2
    assert counted["get"] <= 300 // 64 + 7 + 7


def test_a_commit_takes_four_requests_more(repository: Repository, requests: Requests) -> None:
    session = repository.session()
    pickle.dumps(session)
    for number in range(3):
        session.write("a", b"%d" % number)
        requests.counted()
        session.commit(f"{number}")
        counted = requests.counted()
        assert counted["put"] == 4  # two notes, the nodes, the record
        assert counted["list"] == 5
        assert counted.total() <= 10
