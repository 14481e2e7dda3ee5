"""An interrupt at any point of a merge, a new branch, a move or a push on a server does no harm.

After each, a second machine with an empty cache reads all there is, the act can be done again, and
nothing hidden is left.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("httpx")

import versioned_zarr as vz
from tests.repository.test_interrupts import Stopper
from tests.servers.daemon import Daemon
from tests.servers.lakefs import LakefsServer
from tests.torture import SEED, TIMES
from versioned_zarr.repository.repository import Repository

pytestmark = [
    pytest.mark.compat,
    pytest.mark.torture,
    # What is closed because nobody holds it any more cannot raise to anybody.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

STRIDE = max(1, 7001 // TIMES)


class Place(NamedTuple):
    """Where a repository lies.

    Attributes:
        repository: it.
        reopen: opens it.
        hidden: the hidden branches there.
    """

    repository: Repository
    reopen: Callable[[], Repository]
    hidden: Callable[[], list[str]]


def on_kubo(node: Daemon) -> Place:
    url = f"{node.url}/{uuid.uuid4()}"
    return Place(vz.create(url), lambda: vz.open(url, timeout_s=57), list)


def on_lakefs(lakefs: LakefsServer) -> Place:
    repository = lakefs.create()
    client = lakefs.client(repository.url.removeprefix("lakefs://"))
    return Place(
        repository,
        lambda: lakefs.reopen(repository),
        lambda: [name for name, _ in client.branches("vz-", hidden=True)],
    )


@pytest.fixture(params=["Kubo", "lakeFS"])
def make_place(request: pytest.FixtureRequest) -> Callable[[], Place]:
    if request.param == "Kubo":
        node = request.getfixturevalue("node")
        return lambda: on_kubo(node)
    request.getfixturevalue("lakefs_by_environment")
    lakefs = request.getfixturevalue("lakefs")
    return lambda: on_lakefs(lakefs)


def written(repository: Repository, branch: str) -> None:
    with repository.session(branch, message="x") as session:
        session.write(f"{branch}/{uuid.uuid4()}", os.urandom(100))
        session.write(f"{branch}/large", os.urandom(1_200_000))


def pushed(repository: Repository, source: Repository) -> None:
    source.push(repository.url, f"main:pushed-{uuid.uuid4().hex}")


ACTS: dict[str, Callable[[Repository, Repository], object]] = {
    "merge": lambda repository, _: repository.merge("dev"),
    "new branch": lambda repository, _: repository.branches.create("new", "main~1"),
    "move": lambda repository, _: repository.branches.move("moved", "dev"),
    "push": pushed,
    "commit": lambda repository, _: written(repository, "main"),
}


@pytest.mark.parametrize("name", ACTS)
def test_an_act_that_is_stopped_can_be_done_again(
    make_place: Callable[[], Place], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act = ACTS[name]
    source = vz.create(tmp_path / "source.vz")
    written(source, "main")
    at = 1 + SEED % STRIDE
    while True:
        place = make_place()
        repository = place.repository
        written(repository, "main")
        for branch in ("dev", "moved"):
            repository.branches.create(branch)
        written(repository, "main")
        written(repository, "dev")
        stopper = Stopper(at)
        is_stopped = stopper.stops(lambda: act(repository, source))  # noqa: B023 - called at once
        with monkeypatch.context() as elsewhere:
            elsewhere.setenv("VERSIONED_ZARR_HOME", str(tmp_path / uuid.uuid4().hex))
            there = place.reopen()
            for branch in there.branches:
                assert all(value is not None for value in there.checkout(branch).mapping.values())
        with suppress(vz.AlreadyExistsError):
            act(repository, source)
        for info in repository.sessions.values():
            repository.sessions.delete(info.id)
        written(repository, "dev")
        assert place.hidden() == [], stopper.where
        if not is_stopped:
            assert at > 1 + SEED % STRIDE
            return
        at += STRIDE
