"""A disk without room: what was acknowledged is safe, and gc makes room before it needs any."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.engine.backend import StorageBackend
from versioned_zarr.repository.repository import Repository
from versioned_zarr.storage.protocol import Bytes, StagedPack


class SmallDisk(LocalStorage):
    """A folder on a disk with so much room: what needs more is refused, as the system would.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.room_bytes: int | None = None

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def fill(self) -> None:
        """Leave no room but for what is there."""
        self.room_bytes = self._used()

    def _need(self, size_bytes: int) -> None:
        if self.room_bytes is not None and self._used() + size_bytes > self.room_bytes:
            raise vz.StorageFullError("no room left", where=str(self.folder))

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        self._need(sum(map(len, parts)))
        super().put(path, parts, durable=durable)

    def open_draft(self, path: str) -> StagedPack:
        draft = super().open_draft(path)
        write = draft.write

        def checked(offset: int, parts: Sequence[Bytes]) -> None:
            self._need(sum(map(len, parts)))
            write(offset, parts)

        draft.write = checked  # type: ignore[method-assign]  # on this object alone
        return draft


def on_a_small_disk(place: Path) -> tuple[Repository, SmallDisk]:
    made = vz.create(place)
    disk = SmallDisk(place)
    stores = StorageBackend(disk).stores(made._stores.hash, "network", made._stores.open_other)
    return Repository(stores, vz.open, str(place)), disk


def commit(repository: vz.Repository, branch: str, **values: bytes) -> None:
    with repository.session(branch, message="x") as session:
        for key, value in values.items():
            session.write(key, value)


def test_gc_removes_what_is_wholly_dead_without_room(tmp_path: Path) -> None:
    repository, disk = on_a_small_disk(tmp_path / "r.vz")
    repository.branches.create("x")
    commit(repository, "x", large=os.urandom(2_000_000))
    repository.branches.delete("x")
    disk.fill()
    before = disk._used()
    assert repository.gc(keep_reflog=timedelta(0)).removed_packs
    assert disk._used() < before - 1_900_000
    assert repository.fsck().is_clean


def test_gc_copies_what_is_mixed_once_the_dead_have_made_room(tmp_path: Path) -> None:
    repository, disk = on_a_small_disk(tmp_path / "r.vz")
    repository.branches.create("x")
    commit(repository, "x", large=os.urandom(2_000_000))
    kept = os.urandom(600_000)
    commit(repository, "x", keep=kept, drop=os.urandom(500_000))
    commit(repository, "main", keep=kept)
    repository.branches.delete("x")
    disk.fill()
    before = disk._used()
    repository.gc(keep_reflog=timedelta(0))
    assert disk._used() < before - 2_400_000
    assert bytes(vz.open(repository.url, verify="always").checkout().read("keep")) == kept
    assert repository.fsck().is_clean


def test_gc_that_finds_no_room_for_copies_has_freed_the_rest_and_left_nothing_behind(
    tmp_path: Path,
) -> None:
    repository, disk = on_a_small_disk(tmp_path / "r.vz")
    repository.branches.create("x")
    kept = os.urandom(600_000)
    commit(repository, "x", keep=kept, drop=os.urandom(500_000))
    commit(repository, "main", keep=kept)
    repository.branches.delete("x")
    disk.fill()
    with pytest.raises(vz.StorageFullError):
        repository.gc(keep_reflog=timedelta(0))
    assert not list(disk.folder.rglob("*.draft"))
    assert repository.fsck().is_clean
    assert bytes(repository.checkout().read("keep")) == kept
    disk.room_bytes = None
    assert repository.gc(keep_reflog=timedelta(0)).written_packs
    assert repository.fsck().is_clean


def test_lines_of_logs_that_cannot_be_dropped_keep_their_commits(tmp_path: Path) -> None:
    repository, disk = on_a_small_disk(tmp_path / "r.vz")
    commit(repository, "main", a=os.urandom(700_000))
    repository.branches.move("main", "main~1")
    repository.branches.create("x")
    commit(repository, "x", b=os.urandom(700_000))
    repository.branches.delete("x")
    disk.fill()
    repository.gc(keep_reflog=timedelta(0))  # dropping x makes the room in which main is shortened
    assert repository.fsck().is_clean
    assert len(list(repository.reflog())) == 1
    assert disk._used() < 100_000


def test_an_index_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, disk = on_a_small_disk(tmp_path / "r.vz")
    real = SmallDisk.put

    def put(self: SmallDisk, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        if path.startswith("index/"):
            raise vz.StorageFullError("no room left", where=path)
        real(self, path, parts, durable=durable)

    monkeypatch.setattr(SmallDisk, "put", put)
    for number in range(40):
        commit(repository, "main", **{f"k{number}": b"%d" % number})
    repository.gc(keep_reflog=timedelta(0))
    repository.repack()
    again = vz.open(repository.url)
    assert {bytes(again.checkout().read(f"k{n}")) for n in range(40)} == {
        b"%d" % n for n in range(40)
    }
    assert not (disk.folder / "index").exists() or not list((disk.folder / "index").iterdir())


def test_a_write_without_room_leaves_the_session_as_it_was(tmp_path: Path) -> None:
    repository, disk = on_a_small_disk(tmp_path / "r.vz")
    session = repository.session()
    session.write("a", b"1" * 1000)
    disk.fill()
    for size in (10, 300_000, 1_500_000):
        with pytest.raises(vz.StorageFullError):
            session.write("b", os.urandom(size))
        assert session.get("b") is None
        assert bytes(session.read("a")) == b"1" * 1000
    with pytest.raises(vz.StorageFullError):
        session.commit("x")
    disk.room_bytes = None
    session.write("b", b"2")
    session.commit("x")
    assert sorted(repository.checkout().keys()) == ["a", "b"]
    assert repository.fsck().is_clean
