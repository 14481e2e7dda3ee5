"""Transfers to and from a real Kubo node, whose own garbage collection then takes nothing of it."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.moving import commit, same, watched
from tests.servers.daemon import Daemon

pytestmark = pytest.mark.compat


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))


@pytest.fixture
def ours(tmp_path: Path) -> vz.Repository:
    repository = vz.create(tmp_path / "ours.vz")
    commit(repository, {f"x/c/{number}": os.urandom(40) for number in range(400)})
    commit(repository, {"big": os.urandom(3_000_000)})
    return repository


@pytest.fixture
def place(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


def test_a_repository_goes_through_a_node(
    ours: vz.Repository, place: str, node: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = vz.clone(ours.url, place)
    assert same(ours, there)
    node.ipfs("repo", "gc")
    # A third machine, which has nothing in its cache.
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "another"))
    there = vz.open(place, timeout_s=50)
    assert same(ours, there)
    third = vz.clone(place, tmp_path / "third.vz")
    assert same(ours, third)
    commit(third, {"x/c/17": b"changed"})
    with watched(there):
        third.push("origin", "main")
    node.ipfs("repo", "gc")
    ours.pull(place)
    assert same(third, ours)


def test_a_push_to_a_node_sends_what_changed(ours: vz.Repository, place: str) -> None:
    there = vz.clone(ours.url, place)
    commit(ours, {"x/c/17": b"changed"})
    with watched(ours) as source, watched(there) as target:
        done = ours.push(place)
    assert done.blocks < 12
    assert len(source.got | target.got) + done.seen_blocks <= 60
    assert same(ours, vz.open(place))


def test_from_node_to_node(node: Daemon, place: str, ours: vz.Repository) -> None:
    vz.clone(ours.url, place)
    other = vz.clone(place, f"{node.url}/{uuid.uuid4()}")
    assert same(ours, other)
