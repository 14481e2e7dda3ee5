"""Partial and shallow clones on a real Kubo node: completed from their origin, by any machine."""

from __future__ import annotations

import gc
import os
import uuid
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.moving import check_shallow, commit, is_whole, watched, work_goes_back
from tests.servers.daemon import Daemon
from versioned_zarr.repository.repository import Repository

pytestmark = pytest.mark.compat


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))


@pytest.fixture
def ours(tmp_path: Path) -> Repository:
    repository = vz.create(tmp_path / "ours.vz")
    for name in ("tas", "pr"):
        values = {f"{name}/c/{number}": os.urandom(40) for number in range(300)}
        commit(repository, {f"{name}/zarr.json": b"{}", **values})
    commit(repository, {"tas/big": os.urandom(3_000_000), "pr/big": os.urandom(3_000_000)})
    return repository


@pytest.fixture
def place(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


def on_another_machine(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> vz.Repository:
    gc.collect()
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / uuid.uuid4().hex))
    return vz.open(place, timeout_s=59)


def test_a_partial_clone_fetches_the_rest_and_the_node_keeps_it(
    ours: Repository, place: str, node: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = vz.clone(ours.url, place, paths=["tas"])
    expected = dict(ours.checkout().mapping)
    report = copy.fsck()
    assert report.is_clean
    assert report.absent
    node.ipfs("repo", "gc")
    with watched(ours) as counted:
        mapping = copy.checkout().mapping
        assert all(mapping[key] == expected[key] for key in expected if key.startswith("tas/"))
    assert not counted.got
    with watched(ours) as counted:
        assert dict(copy.checkout().mapping) == expected
    assert 300 < len(counted.got) < 330
    for old in copy.log():
        dict(copy.checkout(old.cid).mapping)
    assert not copy.fsck().absent
    node.ipfs("repo", "gc")
    there = on_another_machine(place, tmp_path, monkeypatch)
    with watched(ours) as counted:
        assert dict(there.checkout().mapping) == expected
    assert not counted.got


def test_any_machine_completes_it(
    ours: Repository, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vz.clone(ours.url, place, paths=["tas"])
    there = on_another_machine(place, tmp_path, monkeypatch)
    assert dict(there.checkout().mapping) == dict(ours.checkout().mapping)
    assert there.checkout().read("pr/big", 2_000_000, 2_000_010) == (
        ours.checkout().read("pr/big", 2_000_000, 2_000_010)
    )


def test_a_shallow_clone_has_the_newest_commit(ours: Repository, place: str, node: Daemon) -> None:
    copy = vz.clone(ours.url, place, depth=1)
    node.ipfs("repo", "gc")
    check_shallow(ours, copy)
    copy.branches.create("old", "main~2")
    node.ipfs("repo", "gc")


def test_work_on_it_goes_back(ours: Repository, place: str, node: Daemon) -> None:
    copy = vz.clone(ours.url, place, paths=["tas"], depth=1)
    work_goes_back(ours, copy)
    node.ipfs("repo", "gc")
    assert copy.checkout().read("tas/note") == b"mine"


def test_a_whole_clone_of_it(ours: Repository, place: str, tmp_path: Path) -> None:
    vz.clone(ours.url, place, paths=["tas"], depth=1)
    assert is_whole(ours, vz.clone(place, tmp_path / "whole.vz"))


def test_from_a_node_to_a_folder_and_from_node_to_node(
    ours: Repository, place: str, node: Daemon, tmp_path: Path
) -> None:
    vz.clone(ours.url, place)
    expected = dict(ours.checkout().mapping)
    for target in (tmp_path / "part.vz", f"{node.url}/{uuid.uuid4()}"):
        copy = vz.clone(place, target, paths=["pr"])
        assert dict(copy.checkout().mapping) == expected


def test_without_its_origin_it_says_what_it_lacks(
    ours: Repository, place: str, tmp_path: Path
) -> None:
    url = ours.url
    copy = vz.clone(url, place, paths=["tas"])
    source = Path(tmp_path / "ours.vz")
    source.rename(tmp_path / "gone")
    assert copy.checkout().read("tas/zarr.json") == b"{}"
    with pytest.raises(vz.VersionedZarrError):
        dict(copy.checkout().mapping)
