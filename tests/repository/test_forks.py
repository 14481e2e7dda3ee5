"""A forked child is as good as a copy that was pickled."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.errors import ConflictError

FORK = multiprocessing.get_context("fork")


def run(*acts: Callable[[], object]) -> None:
    """Do each in a forked child of its own, one after the other."""
    for act in acts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = FORK.Process(target=act)
            child.start()
        child.join()
        assert child.exitcode == 0


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="base") as session:
        session.write("n", b"6")
    return repository


def written(session: vz.Session) -> None:
    session.write("own", b"own")


def committed(session: vz.Session) -> None:
    session.write("own", b"own")
    session.commit("own")


@pytest.mark.parametrize("before", [lambda session: None, written, committed])
def test_what_children_write_is_in_the_session_and_in_the_commit(
    repository: vz.Repository, before: Callable[[vz.Session], object]
) -> None:
    session = repository.session()
    before(session)
    run(*(lambda n=n: session.write(f"c/{n}", b"%d" % n * 200_000) for n in range(3)))
    assert sorted(session.keys("c")) == ["c/0", "c/1", "c/2"]
    assert bytes(session.read("c/2")) == b"2" * 200_000
    session.commit("filled")
    assert len(list(repository.checkout().keys("c"))) == 3
    run(lambda: session.write("later", b"1"))
    session.commit("later")
    assert bytes(repository.checkout().read("later")) == b"1"


def test_two_children_that_wrote_unaware_of_each_other_are_found(
    repository: vz.Repository,
) -> None:
    session = repository.session()
    session.write("x", b"1")

    def write(value: bytes) -> Callable[[], object]:
        return lambda: session.write("k", value)

    run(write(b"one"), write(b"two"))
    with pytest.raises(ConflictError, match="k: written twice"):
        session.commit("x")
    run(lambda: session.write("k", bytes(session.read("k")) + b"!"))
    session.commit("settled")
    assert bytes(repository.checkout().read("k")) == b"two!"


def test_a_commit_of_the_parent_ends_no_childs_session(repository: vz.Repository) -> None:
    session = repository.session()
    ready, go = FORK.Event(), FORK.Event()

    def child() -> None:
        session.write("a", b"1")
        ready.set()
        go.wait(30)
        session.write("b", b"2")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = FORK.Process(target=child)
        process.start()
    assert ready.wait(30)
    session.commit("one")
    go.set()
    process.join()
    assert process.exitcode == 0
    session.commit("two")
    assert {"a", "b"} <= set(repository.checkout().keys())


def test_a_commit_of_a_child_is_seen_by_the_parent(repository: vz.Repository) -> None:
    session = repository.session()
    session.write("a", b"1")
    run(lambda: session.commit("by a child"))
    assert next(commit.message for commit in repository.log()) == "by a child"
    session.write("b", b"2")
    session.commit("by the parent")
    assert {"a", "b"} <= set(repository.checkout().keys())


def test_a_fork_under_a_held_lock_does_not_hang_the_child(repository: vz.Repository) -> None:
    session = repository.session()
    with session.working.frozen():
        run(lambda: session.write("a", b"1"))
    assert bytes(session.read("a")) == b"1"
