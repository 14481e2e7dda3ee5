"""Several processes commit one stored session, and others write meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

import versioned_zarr as vz
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


@pytest.mark.xfail(strict=True, reason="a batch does not say on which commit its writer was based")
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
