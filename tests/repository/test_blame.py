"""Blame names, for each chunk, the commit that last changed it."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository

DOCUMENT = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [6, 4],
    "data_type": "int8",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [{"name": "bytes"}],
    "attributes": {},
}


@pytest.fixture
def repository() -> Repository:
    repository = vz.create(f"memory://blame-{uuid.uuid4()}")
    write(repository, "main", {"zarr.json": DOCUMENT}, "array")
    return repository


def write(repository: Repository, branch: str, values: dict[str, Any], message: str) -> vz.Commit:
    session = repository.session(branch)
    for key, value in values.items():
        if value is None:
            session.delete(f"g/t/{key}")
        else:
            data = json.dumps(value).encode() if isinstance(value, dict) else value
            session.write(f"g/t/{key}", data)
    return session.commit(message)


def messages(repository: Repository, ref: str = "main") -> dict[tuple[int, ...], str]:
    return {at: commit.message for at, commit in repository.blame("g/t", ref)}


def test_each_chunk_is_that_of_the_commit_that_changed_it_last(repository: Repository) -> None:
    write(repository, "main", {"c/0/0": b"1", "c/0/1": b"1", "c/2/1": b"1"}, "first")
    write(repository, "main", {"c/0/1": b"2"}, "second")
    with repository.session(message="elsewhere") as session:
        session.write("other", b"1")
    write(repository, "main", {"c/2/1": None, "c/1/0": b"3"}, "third")
    assert messages(repository) == {(0, 0): "first", (0, 1): "second", (1, 0): "third"}
    found = repository.blame("/g/t/")
    assert [(commit.message, count) for commit, count in found.counts] == [
        ("third", 1),
        ("second", 1),
        ("first", 1),
    ]
    assert found[2, 1] is None
    assert found.grid_shape == (3, 2)
    assert len(found) == 3
    assert json.loads(json.dumps(found.to_dict()))["table"] == [[2, 1], [0, -1], [-1, -1]]
    assert "1 chunk in [0, 1]  second" in str(found)
    shown = [repository.checkout(line.split()[0]) for line in str(found).splitlines()]
    assert [each.commit for each in shown] == found.commits


def test_a_merge_is_looked_through(repository: Repository) -> None:
    write(repository, "main", {"c/0/0": b"1", "c/0/1": b"1", "c/1/0": b"1"}, "first")
    repository.branches.create("dev")
    write(repository, "dev", {"c/0/0": b"dev"}, "on dev")
    write(repository, "main", {"c/0/1": b"main"}, "on main")
    repository.merge("dev", message="merge")
    assert messages(repository) == {(0, 0): "on dev", (0, 1): "on main", (1, 0): "first"}
    write(repository, "dev", {"c/1/0": b"theirs"}, "theirs")
    write(repository, "main", {"c/1/0": b"ours"}, "ours")
    repository.merge("dev", message="both", resolve=lambda conflict: b"neither")
    assert messages(repository)[1, 0] == "both"


def test_a_chunk_that_was_reverted_is_that_of_the_revert(repository: Repository) -> None:
    write(repository, "main", {"c/0/0": b"1"}, "first")
    write(repository, "main", {"c/0/0": b"2"}, "second")
    repository.revert("main")
    assert messages(repository)[0, 0].startswith("Revert")


def test_it_agrees_with_the_log_of_each_chunk(repository: Repository) -> None:
    chance = random.Random(5)
    keys = [f"c/{i}/{j}" for i in range(3) for j in range(2)]
    repository.branches.create("dev")
    for number in range(40):
        branch = chance.choice(["main", "dev"])
        some = chance.sample(keys, chance.randint(1, 3))
        write(repository, branch, dict.fromkeys(some, b"%d" % number), f"{number}")
        if number % 8 == 7:
            repository.merge("dev", message=f"merge {number}", resolve="theirs")
    for at, commit in repository.blame("g/t"):
        path = f"g/t/c/{at[0]}/{at[1]}"
        changed = list(repository.log(path=path))
        value = repository.checkout().read(path)
        assert repository.checkout(commit.cid).read(path) == value
        assert commit in changed


@pytest.mark.parametrize("path", ["g", "g/nothing", "", "g/t/c"])
def test_what_is_no_array_is_told(repository: Repository, path: str) -> None:
    with pytest.raises(vz.KeyNotFoundError, match="no array"):
        repository.blame(path)


def test_an_array_without_chunks_has_no_lines(repository: Repository) -> None:
    found = repository.blame("g/t")
    assert (len(found), list(found), str(found)) == (0, [], "no chunks in g/t")


def test_commits_without_a_change_of_the_array_are_not_compared(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, "main", {"c/0/0": b"1"}, "first")
    for number in range(30):
        with repository.session(message=f"{number}") as session:
            session.write(f"other/{number}", b"1")
    from versioned_zarr.engine import log_queries

    compared: list[Any] = []
    real = log_queries.changes
    monkeypatch.setattr(
        log_queries,
        "changes",
        lambda *given, **named: compared.append(given) or real(*given, **named),
    )
    assert messages(repository) == {(0, 0): "first"}
    assert len(compared) == 1


def test_a_moved_array_is_blamed_on_those_who_changed_its_chunks(repository: Repository) -> None:
    write(repository, "main", {"c/0/0": b"1", "c/0/1": b"1"}, "first")
    with repository.session(message="move the group") as session:
        session.move("g", "h")
    with repository.session(message="change") as session:
        session.write("h/t/c/0/1", b"2")
    with repository.session(message="move the array") as session:
        session.move("h/t", "t")
    found = {at: commit.message for at, commit in repository.blame("t")}
    assert found == {(0, 0): "first", (0, 1): "change"}


def test_an_array_that_two_branches_moved_to_one_path_is_blamed_once(
    repository: Repository,
) -> None:
    write(repository, "main", {"c/0/0": b"1", "c/0/1": b"1"}, "first")
    repository.branches.create("dev")
    for branch in ("main", "dev"):
        with repository.session(branch, message=f"move on {branch}") as session:
            session.move("g", "h")
    with repository.session("dev", message="change") as session:
        session.write("h/t/c/0/1", b"2")
    repository.merge("dev", resolve="theirs")
    found = {at: commit.message for at, commit in repository.blame("h/t")}
    assert found == {(0, 0): "first", (0, 1): "change"}
