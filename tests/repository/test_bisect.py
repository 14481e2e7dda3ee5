"""Bisection finds the first bad commit with few tests."""

from __future__ import annotations

import uuid

import pytest

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def repository() -> Repository:
    return vz.create(f"memory://bisect-{uuid.uuid4()}")


def commit(repository: Repository, number: int, branch: str = "main") -> vz.Commit:
    session = repository.session(branch)
    session.write(f"{branch}/{number}", b"1")
    return session.commit(f"{number}")


@pytest.mark.parametrize("first", [0, 1, 31, 62, 63])
def test_the_first_bad_commit_is_found_with_few_tests(repository: Repository, first: int) -> None:
    start = repository.branches["main"]
    made = [commit(repository, number) for number in range(64)]
    tested: list[vz.Snapshot] = []

    def is_good(snapshot: vz.Snapshot) -> bool:
        tested.append(snapshot)
        return snapshot.get(f"main/{first}") is None

    assert repository.bisect(start, "main", is_good) == made[first]
    assert len(tested) <= 7


def test_the_first_bad_commit_may_be_on_a_merged_branch(repository: Repository) -> None:
    start = commit(repository, 0)
    repository.branches.create("dev")
    made = [commit(repository, number, "dev") for number in range(1, 9)]
    for number in range(10, 18):
        commit(repository, number)
    repository.merge("dev")
    commit(repository, 20)
    for each in (made[0], made[4], made[7]):
        key = f"dev/{each.message}"
        found = repository.bisect(start, "main", lambda view, key=key: view.get(key) is None)
        assert found == each


def test_a_good_commit_that_contains_the_bad_one_is_told(repository: Repository) -> None:
    commit(repository, 0)
    with pytest.raises(vz.InvalidRefError, match="pass the older one first"):
        repository.bisect("main", "main~1", lambda view: True)
    with pytest.raises(vz.RefNotFoundError):
        repository.bisect("nothing", "main", lambda view: True)
