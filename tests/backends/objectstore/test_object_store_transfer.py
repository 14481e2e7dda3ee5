"""Clones, pushes and fetches to and from object stores, with options for each side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.servers.versity import S3Server

pytest.importorskip("obstore")

from obstore.store import MemoryStore

Place = Callable[[], tuple[str, dict[str, Any]]]
"""Gives the URL and the options of a place where nothing is yet."""
VALUES = {f"a/c/{number}": bytes([number]) * 5000 for number in range(6)}


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.compat)])
def place(request: pytest.FixtureRequest) -> Place:
    numbers = iter(range(100))
    if request.param == "memory":
        return lambda: (f"s3://bucket/{next(numbers)}", {"store": MemoryStore()})
    server: S3Server = request.getfixturevalue("s3")
    return lambda: (server.url(), {"storage_options": server.storage_options})


@pytest.fixture
def source(tmp_path: Path) -> vz.Repository:
    repository = vz.create(tmp_path / "source.vz")
    commit(repository, "values", VALUES)
    repository.tags.create("v1")
    return repository


def commit(repository: vz.Repository, message: str, values: dict[str, bytes]) -> str:
    session = repository.session()
    for key, value in values.items():
        session.write(key, value)
    found = session.commit(message)
    session.discard()
    return found.cid


def test_a_clone_goes_to_a_store_and_from_there_to_another(
    place: Place, source: vz.Repository, tmp_path: Path
) -> None:
    (first, options), (second, others) = place(), place()
    copy = vz.clone(source.url, first, **options)
    assert copy.remotes["origin"] == source.url
    assert dict(vz.open(first, **options).checkout("v1").mapping) == VALUES
    copy = vz.clone(first, second, src_options=options, **others)
    assert dict(vz.open(second, **others).checkout("v1").mapping) == VALUES
    assert dict(copy.remotes) == {"origin": first}
    back = vz.clone(second, tmp_path / "back.vz", src_options=others)
    assert back.checkout().cid == source.checkout().cid
    with pytest.raises(vz.AlreadyExistsError, match="is already a repository"):
        vz.clone(source.url, first, **options)


def test_versions_are_exchanged_with_a_remote(place: Place, source: vz.Repository) -> None:
    url, options = place()
    vz.clone(source.url, url, **options)
    source.remotes.add("backup", url)
    head = commit(source, "more", {"b": b"1"})
    assert [move.new for move in source.push("backup", "main", **options).moves] == [head]
    there = vz.open(url, **options)
    theirs = commit(there, "theirs", {"c": b"2"})
    assert source.fetch("backup", **options).moves[0].new == theirs
    assert source.checkout("backup/main").read("c") == b"2"
    assert source.pull("backup", **options).moves[-1].new == theirs
    assert source.branches["main"].cid == theirs
    assert source.push(url, **options).moves == ()  # without its name


@pytest.mark.compat
def test_a_clone_of_a_part_is_filled_by_the_environment(
    s3_by_environment: S3Server, source: vz.Repository, tmp_path: Path
) -> None:
    url = s3_by_environment.url()
    vz.clone(source.url, url)
    copy = vz.clone(url, tmp_path / "part.vz", paths=["a/c/0"])
    assert dict(copy.checkout().mapping) == VALUES


def test_stores_are_given_as_they_are(source: vz.Repository, tmp_path: Path) -> None:
    store, other = MemoryStore(), MemoryStore()
    vz.clone(source.url, store)
    vz.clone(store, other)
    assert dict(vz.open(other).checkout().mapping) == VALUES
    head = commit(source, "more", {"b": b"1"})
    source.push(other, "main")
    assert vz.open(other).branches["main"].cid == head
    copy = vz.create(tmp_path / "copy.vz")
    copy.fetch(other)
    assert copy.checkout("fetched/main").read("b") == b"1"


def test_options_are_neither_stored_nor_shown(source: vz.Repository, tmp_path: Path) -> None:
    options: dict[str, Any] = {"storage_options": {"timeout": "sesame", "region": "sesame"}}
    source.remotes.add("far", "s3://bucket/x")
    calls: list[Callable[[], object]] = [
        lambda: vz.clone(source.url, "s3://bucket/x", **options),
        lambda: vz.clone("s3://bucket/x", tmp_path / "copy.vz", src_options=options),
        lambda: source.push("far", **options),
        lambda: source.fetch("s3://bucket/x", **options),
        lambda: source.pull("far", **options),
    ]
    for call in calls:
        with pytest.raises(vz.InvalidInputError, match="storage options region, timeout") as found:
            call()
        assert "sesame" not in str(found.value)
    with pytest.raises(vz.InvalidInputError, match="does not accept storage_options"):
        source.push(source.url, **options)
    assert not (tmp_path / "copy.vz").exists()
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"sesame" in data for data in kept)
