"""Several processes commit one stored session, and others write meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.objectstore.sessions.object_session_log import ObjectSessionLog
from versioned_zarr.engine.stored_sessions.session_log import BatchName, SessionListing
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r.vz", shared=True)


def opened_again(repository: Repository, session: Session) -> Session:
    """The session as another process has it."""
    assert session.url
    return vz.open(repository.url, verify="always").resume(session.id)


@pytest.mark.parametrize("on_moved", ["merge", "fail"])
def test_two_who_commit_at_the_same_time_do_not_conflict(
    repository: Repository, on_moved: Literal["merge", "fail"]
) -> None:
    session = repository.session()
    other = opened_again(repository, session)

    def write_and_commit(writer: Session, name: str) -> None:
        for number in range(15):
            writer.write(f"{name}/{number}", b"%d" % number)
            with suppress(vz.NothingToCommitError):
                writer.commit(f"{name} {number}", on_moved=on_moved)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write_and_commit, (session, other), "ab"))
    assert sum(1 for _ in repository.checkout().keys()) == 30  # noqa: SIM118 - no mapping


def test_a_write_that_did_not_know_a_committed_one_conflicts(repository: Repository) -> None:
    session = repository.session()
    session.write("a", b"0")
    session.commit("begin")
    other = opened_again(repository, session)
    before = bytes(other.read("a"))
    session.write("a", b"1")
    session.commit("one")
    other.write("a", before + b"2")
    with pytest.raises(vz.ConflictError):
        session.commit("two")


@pytest.mark.parametrize(
    "remove", [lambda session: session.delete("a/0"), lambda session: session.clear("a")]
)
def test_a_copy_that_deletes_does_not_know_later_writes(
    repository: Repository, remove: Callable[[Session], None]
) -> None:
    from versioned_zarr.repository.session import join

    session = repository.session()
    session.write("a/0", b"0")
    assert session.url
    copy = join(vz.open(repository.url, verify="always"), session.id)
    session.write("a/0", b"1")
    remove(copy)
    with pytest.raises(vz.ConflictError):
        session.commit("both")


@pytest.mark.parametrize("is_ended", [False, True])
def test_a_gc_between_the_list_and_the_read_of_a_batch(
    repository: Repository, is_ended: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = repository.session()
    other = opened_again(repository, session)
    session.write("a", b"0" * 5000)
    session.write("a", b"1" * 5000)
    look = ObjectSessionLog.look

    def look_and_wait(log: ObjectSessionLog, id: str) -> SessionListing:
        found = look(log, id)
        monkeypatch.setattr(ObjectSessionLog, "look", look)
        session.commit("one")
        if is_ended:
            session.discard()
        vz.open(repository.url, verify="never").gc(keep_reflog=timedelta(0))
        return found

    monkeypatch.setattr(ObjectSessionLog, "look", look_and_wait)
    if is_ended:
        with pytest.raises(vz.SessionClosedError):
            other.read("a")
    else:
        assert bytes(other.read("a")) == b"1" * 5000


def test_a_value_stays_if_a_commit_replaced_the_equal_one_of_another_batch(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = b"v" * 3000
    session = repository.session()
    other = opened_again(repository, session)
    session.write("a", value)
    assert bytes(other.read("a")) == value
    session.write("a", b"w" * 3000)
    publish = ObjectSessionLog.publish

    def write_and_publish(log: ObjectSessionLog, id: str, names: Iterable[BatchName]) -> None:
        monkeypatch.setattr(ObjectSessionLog, "publish", publish)
        other.write("a", value)
        publish(log, id, names)

    monkeypatch.setattr(ObjectSessionLog, "publish", write_and_publish)
    session.commit("the other value")
    vz.open(repository.url, verify="never").gc(keep_reflog=timedelta(0))
    last = vz.open(repository.url, verify="network").resume(session.id)
    with pytest.raises(vz.ConflictError):  # who wrote the value again did not know the other one
        last.commit("the value")
    assert bytes(last.read("a")) == value
    last.write("a", value)
    last.commit("the value")
    assert bytes(repository.checkout().read("a")) == value
