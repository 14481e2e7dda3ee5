"""Partial and shallow clones: what they hold, what they fetch, and what keeps them whole."""

from __future__ import annotations

import gc
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.repository.moving import check_shallow, commit, is_whole, memory, watched, work_goes_back
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def ours() -> Repository:
    repository = memory()
    for number, name in enumerate(("tas", "pr", "tas")):
        with repository.session("main", message=f"write {name}") as session:
            group = zarr.open_group(session.store, mode="a")
            array = group.require_array(name, shape=(100, 100), chunks=(10, 10), dtype="f4")
            array[:] = np.random.default_rng(number).random((100, 100))
    return repository


def place(tmp_path: Path, name: str = "copy") -> Path:
    return tmp_path / f"{name}.vz"


def stored(repository: Repository) -> int:
    return repository.fsck().checked_blocks


def test_a_partial_clone_holds_its_paths_and_fetches_the_rest(
    ours: Repository, tmp_path: Path
) -> None:
    copy = vz.clone(ours.url, place(tmp_path), paths=["tas"])
    report = copy.fsck()
    assert report.is_clean
    assert report.absent
    expected = dict(ours.checkout().mapping)
    with watched(ours) as counted:
        array = zarr.open_group(copy.checkout().store, mode="r")["tas"]
        values = array[:]
    assert not counted.got
    assert (values == zarr.open_array(ours.checkout().store, path="tas")[:]).all()
    with watched(ours) as counted:
        assert dict(copy.checkout().mapping) == expected
    assert 100 <= len(counted.got) < 120
    with watched(ours) as counted:
        assert dict(copy.checkout().mapping) == expected
    assert not counted.got


def test_what_was_fetched_is_kept(ours: Repository, tmp_path: Path) -> None:
    copy = vz.clone(ours.url, place(tmp_path), paths=["tas"])
    before = stored(copy)
    expected = dict(copy.checkout().mapping)
    del copy
    gc.collect()
    copy = vz.open(place(tmp_path))
    assert stored(copy) > before + 100
    with watched(ours) as counted:
        assert dict(copy.checkout().mapping) == expected
    assert not counted.got


def test_a_shallow_clone_holds_the_newest_commits_and_fetches_the_others(
    ours: Repository, tmp_path: Path
) -> None:
    copy = vz.clone(ours.url, place(tmp_path), depth=1)
    check_shallow(ours, copy)


def test_gc_and_repack_take_nothing_of_it_and_fetch_nothing(
    ours: Repository, tmp_path: Path
) -> None:
    copy = vz.clone(ours.url, place(tmp_path), paths=["tas"], depth=2)
    before = stored(copy)
    commit(copy, {"tas/note": b"mine"})
    with watched(ours) as counted:
        copy.gc(keep_reflog=timedelta(0))
        copy.repack()
        assert copy.fsck().is_clean
    assert not counted.got
    assert stored(copy) > before
    assert copy.checkout().read("tas/note") == b"mine"


def test_work_on_a_partial_clone_goes_back(ours: Repository, tmp_path: Path) -> None:
    copy = vz.clone(ours.url, place(tmp_path), paths=["tas"], depth=1)
    work_goes_back(ours, copy)


def test_a_whole_clone_of_a_partial_one(ours: Repository, tmp_path: Path) -> None:
    vz.clone(ours.url, place(tmp_path), paths=["tas"], depth=1)
    assert is_whole(ours, vz.clone(place(tmp_path), place(tmp_path, "whole")))


def test_what_a_session_lost_is_not_taken_for_absent(ours: Repository, tmp_path: Path) -> None:
    copy = vz.clone(ours.url, place(tmp_path), paths=["tas"])
    session = copy.session()
    session.write("tas/note", os.urandom(2_000_000))
    (draft,) = (place(tmp_path) / "sessions").glob("*/*.draft")
    draft.unlink()
    report = copy.fsck()
    assert report.absent
    (missing,) = report.missing
    assert missing.keys == ("tas/note",)
    assert "draft is missing" in missing.problem


def test_damage_is_not_taken_for_absence(ours: Repository, tmp_path: Path) -> None:
    copy = vz.clone(ours.url, place(tmp_path), paths=["tas"])
    (pack, *_) = sorted((place(tmp_path) / "packs").iterdir(), key=lambda p: -p.stat().st_size)
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    assert copy.fsck().damaged


def test_without_its_origin_it_says_what_it_lacks(ours: Repository, tmp_path: Path) -> None:
    source = vz.clone(ours.url, place(tmp_path, "source"))
    copy = vz.clone(source.url, place(tmp_path), paths=["tas"])
    del source
    os.rename(place(tmp_path, "source"), place(tmp_path, "gone"))
    assert copy.checkout().read("tas/zarr.json")
    with pytest.raises(vz.RepositoryNotFoundError, match=r"partial, and its origin .*source\.vz"):
        dict(copy.checkout().mapping)
    assert copy.fsck().is_clean


def test_what_cannot_be_a_part_is_refused(ours: Repository, tmp_path: Path) -> None:
    with pytest.raises(vz.InvalidInputError, match="list of paths"):
        vz.clone(ours.url, place(tmp_path), paths="tas")  # type: ignore[arg-type]  # refused
    with pytest.raises(vz.InvalidInputError, match="depth"):
        vz.clone(ours.url, place(tmp_path), depth=0)
    with pytest.raises(vz.KeyNotFoundError, match="'tos'"):
        vz.clone(ours.url, place(tmp_path), paths=["tos"])
    assert not place(tmp_path).exists()


def test_zarr_does_not_take_what_is_absent_for_what_never_was(
    ours: Repository, tmp_path: Path
) -> None:
    zarr = pytest.importorskip("zarr", minversion="3.1")
    source = vz.clone(ours.url, place(tmp_path, "source"))
    with source.session(message="arrays") as session:
        group = zarr.open_group(session.store)
        for name, dtype in (("a", "f4"), ("b", "f8")):
            group.create_array(name, shape=(4,), chunks=(2,), dtype=dtype)[:] = 1
    copy = vz.clone(source.url, place(tmp_path), paths=["a"])
    del source, session, group
    os.rename(place(tmp_path, "source"), place(tmp_path, "gone"))
    session = copy.session()
    for make in (
        lambda: "b" in zarr.open_group(session.store, mode="a"),
        lambda: zarr.open_group(session.store, mode="a")["b"],
        lambda: zarr.open_group(session.store, mode="a").require_array("b", shape=(9,), dtype="i4"),
        lambda: zarr.open_array(session.store, path="b", mode="a", shape=(9,), dtype="i4"),
        lambda: list(zarr.open_group(session.store).arrays()),
    ):
        with pytest.raises(vz.StorageError, match="its origin"):
            make()
    assert session.status().is_empty
    assert zarr.open_array(session.store, path="a", mode="r")[:].sum() == 4


def test_leaves_that_were_fetched_and_not_stored_are_fetched_again(tmp_path: Path) -> None:
    ours = memory()
    old = os.urandom(5 << 20)
    commit(ours, {"tas/note": b"note", "pr/shard": old})
    copy = vz.clone(ours.url, place(tmp_path), paths=["tas"])
    new = b"changed" + old[7:]
    session = copy.session()
    assert bytes(session.read("pr/shard")) == old
    session.write("pr/shard", new)
    session._working.end("died", keep_folder=True)
    copy._stores.blocks._completion._gathering.clear()  # as a death of the process does
    copy = vz.open(place(tmp_path))
    assert copy.fsck().is_clean
    resumed = copy.resume(session.id)
    assert not resumed.dropped
    resumed.commit("with leaves of the origin")
    copy.push("origin", "main")
    assert ours.checkout().read("pr/shard") == new
    assert ours.fsck().is_clean
