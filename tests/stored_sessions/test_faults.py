"""Answers of a store are lost, repeated, late or refused while a session is written to."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pytest

import versioned_zarr as vz
from tests.servers.fickle import OF_OBJECTS, Fickle, at, fickle, nothing, now_and_then
from tests.servers.versity import S3Server
from tests.stored_sessions.workers import value
from tests.torture import SEED, TIMES

pytestmark = [pytest.mark.compat, pytest.mark.torture]
pytest.importorskip("obstore")

T = TypeVar("T")
KEYS = [f"a/{number}" for number in range(24)]


@pytest.fixture(scope="module")
def between(s3: S3Server) -> Iterator[Fickle]:
    with fickle(s3.endpoint, keeps_host=True) as between:
        yield between


@pytest.fixture
def url(s3_by_environment: S3Server, between: Fickle, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.url)
    between.begin(nothing)
    url = f"s3://bucket/{uuid.uuid4()}"
    vz.create(url)
    return url


def surely(act: Callable[[], T]) -> T:
    """What a user does when the store fails: the same again."""
    for _ in range(20):
        try:
            return act()
        except (vz.StorageError, vz.OutcomeUnknownError, vz.ReadOnlyError):
            continue
    return act()


def check_stored(url: str) -> None:
    repository = vz.open(url, verify="always")
    snapshot = repository.checkout()
    assert sorted(snapshot.keys()) == sorted(KEYS)
    assert all(bytes(snapshot.read(key)) == value(key) for key in KEYS)
    assert sum(1 for _ in repository.log()) == 2


@pytest.mark.parametrize("seed", range(SEED, SEED + 2 * TIMES))
def test_threads_write_while_answers_are_lost(url: str, between: Fickle, seed: int) -> None:
    session = vz.open(url).session()
    pickle.dumps(session)
    other = vz.open(url, verify="always").resume(session.id)
    between.begin(now_and_then(OF_OBJECTS, 8, seed))
    with ThreadPoolExecutor(6) as pool:

        def write(number: int) -> None:
            writer = (session, other)[number % 2]
            surely(partial(writer.write, KEYS[number], value(KEYS[number])))

        list(pool.map(write, range(len(KEYS))))
    surely(lambda: session.commit("all"))
    between.begin(nothing)
    check_stored(url)


@pytest.mark.parametrize("kind", OF_OBJECTS)
def test_at_each_request_something_happens(url: str, between: Fickle, kind: str) -> None:
    hit = 1
    while True:
        session = vz.open(url).session()
        session.write("first", b"%d" % hit)
        between.begin(at(hit, kind))
        surely(partial(pickle.dumps, session))
        for number in range(2):
            surely(partial(session.write, "second", b"%d %d" % (hit, number)))
        commit = surely(partial(session.commit, f"commit {hit}"))
        was_hit = between.passed >= hit
        between.begin(nothing)
        snapshot = vz.open(url).checkout()
        assert snapshot.commit == commit
        assert bytes(snapshot.read("second")) == b"%d 1" % hit
        assert bytes(snapshot.read("first")) == b"%d" % hit
        session.discard()
        if not was_hit:
            return
        hit += 1 if TIMES > 1 else 3
