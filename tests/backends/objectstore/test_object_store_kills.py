"""kill -9 at each request of a commit to an object store: the old head or the new, and no loss."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.servers.fickle import Fickle, at, fickle, nothing
from tests.servers.versity import S3Server
from tests.torture import SEED, TIMES

pytest.importorskip("obstore")

pytestmark = [pytest.mark.compat, pytest.mark.torture]

STRIDE = 2 if TIMES == 1 else 1
COMMITS = 2
FORKED: Any = multiprocessing.get_context("forkserver")


@pytest.fixture(scope="module")
def between(s3: S3Server) -> Iterator[Fickle]:
    FORKED.set_forkserver_preload([__name__, "versioned_zarr.location", "obstore"])
    with fickle(s3.endpoint, keeps_host=True) as between:
        yield between


def value(number: int) -> dict[str, bytes]:
    return {f"a/{number}": bytes([number]) * 3000, f"big/{number}": bytes([number]) * (300 << 10)}


def write(environment: dict[str, str], url: str, notes: Path) -> None:
    """Commit twice, and note what was written and acknowledged."""
    os.environ.update(environment)
    session = vz.open(url).session()
    with notes.open("a", buffering=1) as told:
        told.write(f"session {session.id}\n")
        for number in range(COMMITS):
            for key, data in value(number).items():
                session.write(key, data)
            told.write(f"wrote {number}\n")
            told.write(f"commit {session.commit(f'commit {number}').cid}\n")


class Killer:
    """Kills a writer when the proxy has its nth request: before the server has it, or after."""

    def __init__(self, between: Fickle, number: int, moment: str) -> None:
        self._between, self._number, self._moment = between, number, moment
        self._process: Any = None

    def run(self, *arguments: Any) -> bool:
        """Run a writer; whether it was killed."""
        self._process = FORKED.Process(target=write, args=arguments)
        is_before = self._moment == "before"
        kind = "lost before" if is_before else "stopped"
        self._between.begin(at(self._number, kind, self._kill if is_before else self._stop))
        self._process.start()
        deadline = time.monotonic() + 120
        while self._process.is_alive() and self._number not in self._between.done:
            assert time.monotonic() < deadline
            self._process.join(0.01)
        was_hit = self._number in self._between.done
        if was_hit and not is_before:
            self._kill()
        self._process.join(60)
        assert self._process.exitcode == (-signal.SIGKILL if was_hit else 0)
        return was_hit

    def _kill(self) -> None:
        os.kill(self._process.pid, signal.SIGKILL)

    def _stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_commit_that_was_killed_is_done_or_resumed(
    s3_by_environment: S3Server,
    between: Fickle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    number = 1 + SEED % STRIDE
    while True:
        url, notes = s3_by_environment.url(), tmp_path / f"{number}.txt"
        home = tmp_path / f"home{number}"
        between.begin(nothing)
        vz.create(url)
        environment = {
            **s3_by_environment.environment,
            "AWS_ENDPOINT_URL": between.url,
            "VERSIONED_ZARR_HOME": str(home),
        }
        was_hit = Killer(between, number, moment).run(environment, url, notes)
        try:
            monkeypatch.setenv("VERSIONED_ZARR_HOME", str(home))
            text = notes.read_text() if notes.exists() else ""
            told = [line.split() for line in text.splitlines()]
            check_resumed(url, told)
            monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / uuid.uuid4().hex))
            check_elsewhere(url, told)
        except BaseException as error:
            error.add_note(f"request {number}, {moment}: {between.hit}")
            raise
        if not was_hit:
            assert number > 4
            return
        number += STRIDE


def check_resumed(url: str, told: list[list[str]]) -> None:
    """The head is the old or the new one, and the session has what was written after it."""
    repository = vz.open(url)
    log = [commit.cid for commit in repository.log()]
    messages = [commit.message for commit in repository.log()]
    acknowledged = [line[1] for line in told if line[0] == "commit"]
    written = [int(line[1]) for line in told if line[0] == "wrote"]
    assert messages == [*(f"commit {n}" for n in reversed(range(len(log) - 1))), messages[-1]]
    assert log[len(log) - 1 - len(acknowledged) : -1] == acknowledged[::-1]
    assert len(acknowledged) <= len(log) - 1 <= len(written)
    for info in list(repository.sessions.values()):
        assert not info.is_alive
        session = repository.resume(info.id)
        for number in written:
            assert {key: bytes(session.read(key)) for key in value(number)} == value(number)
        if len(log) - 1 == len(written):
            with suppress(vz.NothingToCommitError):
                session.commit("again")
            assert [commit.cid for commit in repository.log()] == log
        else:
            session.commit(f"commit {len(log) - 1}")
        session.discard()


def check_elsewhere(url: str, told: list[list[str]]) -> None:
    """A machine that knows nothing reads all that was written, and goes on."""
    repository = vz.open(url)
    written = [int(line[1]) for line in told if line[0] == "wrote"]
    values = {key: data for number in written for key, data in value(number).items()}
    assert dict(repository.checkout().mapping) == values
    assert len(list(repository.log())) == 1 + len(written)
    with repository.session(message="goes on") as session:
        session.write("z", uuid.uuid4().bytes)
    assert repository.fsck().is_clean
