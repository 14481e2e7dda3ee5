"""A value of which an object store has most leaves: what is sent, and what is counted on."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.ipld.cid import Cid

obstore = pytest.importorskip("obstore")

from obstore.store import LocalStore  # noqa: E402

from versioned_zarr.backends.objectstore import obstore_storage, pack_upload  # noqa: E402
from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks  # noqa: E402

LEAF = 1 << 20
OLD = os.urandom(16 * LEAF + 1028)
NEW = OLD[: 5 * LEAF] + os.urandom(LEAF) + OLD[6 * LEAF :]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    return LocalStore(tmp_path / "bucket", mkdir=True)


@pytest.fixture
def repository(store: Any) -> vz.Repository:
    repository = vz.create(store)
    with repository.session(message="old") as session:
        session.write("shard", OLD)
    return repository


def packs(tmp_path: Path) -> set[bytes]:
    """The contents of all packs in the store."""
    return {path.read_bytes() for path in (tmp_path / "bucket").rglob("*.pack")}


def on_another_machine(
    store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> vz.Repository:
    """The repository, opened with an empty cache."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "other home"))
    return vz.open(store)


def test_only_the_changed_leaf_is_sent(
    repository: vz.Repository, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sum(map(len, packs(tmp_path)))
    with repository.session(message="new") as session:
        session.write("shard", NEW)
        assert bytes(session.read("shard")) == NEW
        assert (
            bytes(session.read("shard", 5 * LEAF - 3, 6 * LEAF + 3))
            == NEW[5 * LEAF - 3 : 6 * LEAF + 3]
        )
    assert sum(map(len, packs(tmp_path))) - before < 0.1 * len(NEW)
    snapshot = on_another_machine(store, monkeypatch, tmp_path).checkout()
    assert bytes(snapshot.read("shard")) == NEW
    assert bytes(snapshot.read("shard", 6 * LEAF - 3, 7 * LEAF)) == NEW[6 * LEAF - 3 : 7 * LEAF]
    assert snapshot.place("shard") is None
    assert repository.fsck().is_clean


def test_a_write_makes_no_request_for_leaves(
    repository: vz.Repository, store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = on_another_machine(store, monkeypatch, tmp_path)
    session = other.session()
    session.write("shard", NEW)  # which leaves are stored may not be known yet
    assert bytes(session.read("shard")) == NEW
    made = watched(monkeypatch)
    session.write("again", NEW + b"more")
    session.write("all new", os.urandom(3 * LEAF))
    assert not made
    session.commit("all")
    snapshot = repository.checkout()
    assert (snapshot.read("shard"), snapshot.read("again")) == (NEW, NEW + b"more")


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all requests from now on."""
    made: list[str] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            made.append(name)
            return getattr(obstore, name)

    monkeypatch.setattr(obstore_storage, "obstore", Watched())
    return made


def test_the_commit_asks_for_the_leaves_that_it_counts_on(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = repository._stores.blocks
    asked: set[Cid] = set()
    keep = type(blocks).keep

    def keep_and_note(self: BlockStore, wanted: Iterable[Cid]) -> AbstractContextManager[bool]:
        listed = list(wanted)
        asked.update(listed)
        return keep(self, listed)

    session = repository.session()
    session.write("shard", NEW)
    monkeypatch.setattr(type(blocks), "keep", keep_and_note)
    session.commit("new")
    reused = {blocks.hash.raw(OLD[at : at + LEAF]) for at in range(0, len(OLD), LEAF)}
    reused.remove(blocks.hash.raw(OLD[5 * LEAF : 6 * LEAF]))
    assert reused <= asked


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_leaf_that_the_store_lost_is_sent_again_or_not_committed(
    repository: vz.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    blocks = repository._stores.blocks
    lost = blocks.hash.raw(OLD[:LEAF])
    missing, get = type(blocks).missing, type(blocks).get
    session = repository.session()
    session.write("shard", NEW)

    def missing_and_lost(self: BlockStore, wanted: Sequence[Cid]) -> list[Cid]:
        return list({*missing(self, wanted), *(cid for cid in wanted if cid == lost)})

    def get_what_is_there(self: BlockStore, cid: Cid) -> memoryview:
        if cid == lost and not is_cached:
            raise vz.BlockNotFoundError("it is gone", cid="")
        return get(self, cid)

    monkeypatch.setattr(type(blocks), "missing", missing_and_lost)
    monkeypatch.setattr(type(blocks), "get", get_what_is_there)
    before = packs(tmp_path)
    if is_cached:
        session.commit("sent again")
        assert any(OLD[:LEAF] in pack for pack in packs(tmp_path) - before)
    else:
        with pytest.raises(vz.CollectedError, match="'shard'"):
            session.commit("a hole")
        assert packs(tmp_path) == before


def test_repack_makes_the_value_whole(
    repository: vz.Repository, store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with repository.session(message="new") as session:
        session.write("shard", NEW)
    first = repository.checkout("main~1")
    assert repository.checkout().place("shard") is None
    told: list[Any] = []
    assert repository.repack(progress=told.append).removed_packs > 1
    assert told[-1].done == told[-1].total > len(NEW)
    other = on_another_machine(store, monkeypatch, tmp_path)
    place = other.checkout().place("shard")
    assert place is not None
    assert place.size == len(NEW)
    assert bytes(other.checkout().read("shard")) == NEW
    assert bytes(first.read("shard")) == OLD
    assert other.fsck(read_all=True).is_clean
    assert other.repack().removed_packs == 0


def test_a_leaf_of_another_value_is_stored_again(repository: vz.Repository, tmp_path: Path) -> None:
    """A gc on another machine may take the other value, and does not know of this session."""
    before = sum(map(len, packs(tmp_path)))
    with repository.session(message="new") as session:
        session.write("elsewhere", NEW)
    assert sum(map(len, packs(tmp_path))) - before > len(NEW)


def test_values_that_are_stored_are_not_sent_again(
    repository: vz.Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_upload, "PACK_BYTES", 400_000)
    monkeypatch.setattr(ObjectBlocks, "pack_bytes", 400_000)
    values = {f"a/c/{number}": os.urandom(20_000) for number in range(50)}
    for folder, most in (("a", 1_100_000), ("b", 80_000)):
        before = sum(map(len, packs(tmp_path)))
        with repository.session(message=folder) as session:
            for key, value in values.items():
                session.write(key.replace("a/", f"{folder}/"), value)
            session.write(f"{folder}/c/more", os.urandom(50_000))
        assert sum(map(len, packs(tmp_path))) - before < most
    snapshot = repository.checkout()
    assert all(snapshot.read(key.replace("a/", "b/")) == value for key, value in values.items())
