"""A session is stored while other processes of its machine have it open, or only in part."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.stored_sessions.workers import alone
from versioned_zarr.engine.sessions.local_session import LocalSession
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session

SPAWNED: Any = multiprocessing.get_context("spawn")


def die(local: LocalSession) -> None:
    del local
    os.kill(os.getpid(), signal.SIGKILL)


def share_in_part(home: str, path: str) -> None:
    """Write into a session, and be killed when it was stored and is still on this machine, too."""
    alone(home)
    session = vz.open(path).session()
    session.write("a", b"old")
    session.write("gone", b"old")
    LocalSession.remove_journal = die  # type: ignore[method-assign]
    assert session.url


@pytest.fixture
def left(tmp_path: Path, home: Path) -> tuple[Repository, Session]:
    """The session of a process that was killed while it shared it."""
    path = tmp_path / "r.vz"
    repository = vz.create(path, shared=True)
    process = SPAWNED.Process(target=share_in_part, args=(str(home), str(path)))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    (info,) = repository.sessions.values()
    return repository, repository.resume(info.id)


def committed(repository: Repository) -> dict[str, bytes]:
    snapshot = repository.checkout()
    return {key: bytes(snapshot.read(key)) for key in sorted(snapshot.keys())}


killed = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@killed
def test_what_was_shared_in_part_is_replaced(left: tuple[Repository, Session]) -> None:
    repository, session = left
    session.write("a", b"new")
    session.delete("gone")
    assert session.url
    session.commit("all")
    assert committed(repository) == {"a": b"new"}


@killed
def test_what_was_shared_in_part_does_not_return_after_a_commit(
    left: tuple[Repository, Session],
) -> None:
    repository, session = left
    session.write("a", b"new")
    session.delete("gone")
    session.commit("on this machine")
    session.write("b", b"1")
    assert session.url
    session.commit("shared")
    assert committed(repository) == {"a": b"new", "b": b"1"}


@killed
@pytest.mark.parametrize(
    "end",
    [
        lambda repository, session: session.discard(),
        lambda repository, session: repository.sessions.delete(session.id),
        lambda repository, session: (session.commit("all"), session.discard()),
    ],
)
def test_nothing_is_left_of_what_was_shared_in_part(
    left: tuple[Repository, Session],
    end: Callable[[Repository, Session], Any],
    elsewhere: Callable[[], None],
) -> None:
    repository, session = left
    end(repository, session)
    elsewhere()
    assert not vz.open(repository.url, verify="always").sessions


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_session_that_a_forked_child_shared_is_committed_and_discarded(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz", shared=True)
    session = repository.session()
    session.write("a", b"1")
    child: Any = multiprocessing.get_context("fork").Process(
        target=lambda: (session.url, session.write("b", b"2"))
    )
    child.start()
    child.join(60)
    assert child.exitcode == 0
    session.commit("both")
    assert committed(repository) == {"a": b"1", "b": b"2"}


def test_who_did_not_share_discards_for_all(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz", shared=True)
    session = repository.session()
    session.write("a", b"1")
    other = vz.open(tmp_path / "r.vz", verify="always").resume(session.id)
    assert other.url
    session.discard()
    assert not repository.sessions


def test_a_session_with_a_damaged_head_is_listed_and_deleted(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz", shared=True)
    sessions = [repository.session() for _ in range(2)]
    for session in sessions:
        session.write("a", b"1")
        assert session.url
    head = tmp_path / "r.vz" / "sessions" / sessions[0].id / "head"
    head.chmod(0o644)
    head.write_bytes(head.read_bytes()[:20])
    found = {info.id: info.problem for info in repository.sessions.values()}
    assert found.keys() == {session.id for session in sessions}
    assert "damaged" in (found[sessions[0].id] or "")
    assert found[sessions[1].id] is None
    repository.sessions.delete(sessions[0].id)
    assert list(repository.sessions) == [sessions[1].id]


@pytest.mark.parametrize("id", ["", ".", "..", "a/b", "a\\b", "a:b", "a\0b", "\ud800"])
def test_an_odd_id_is_that_of_no_session(tmp_path: Path, id: str) -> None:
    repository = vz.create(tmp_path / "r.vz", shared=True)
    assert id not in repository.sessions
    with pytest.raises(vz.SessionNotFoundError):
        repository.resume(id)
