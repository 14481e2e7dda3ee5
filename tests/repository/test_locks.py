"""Who holds which lock while it counts on something; docs/design/concurrency.md has the table."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.barrier import before_lock, is_free
from tests.repository.moving import commit, memory
from versioned_zarr.blocks.packs.pack_store import GC_LOCK, MAINTENANCE_LOCK
from versioned_zarr.engine.context import TRANSFER_LOCK
from versioned_zarr.repository.repository import Repository
from versioned_zarr.storage.protocol import Storage

LARGE = bytes(range(256)) * 5000  # of more than one leaf
LOCKS = (MAINTENANCE_LOCK, TRANSFER_LOCK, GC_LOCK)


@pytest.fixture(params=["memory", "folder"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    if request.param == "folder":
        return vz.create(tmp_path / "r.vz")
    return vz.create(f"memory://{uuid.uuid4()}")


def held(storage: Storage) -> set[str]:
    """The locks that somebody holds."""
    return {name for name in LOCKS if not is_free(storage, name)}


def pushed(here: Repository, there: Repository, _: Path) -> None:
    there.push(here.url, "main:new")


def fetched(here: Repository, there: Repository, _: Path) -> None:
    here.remotes.add("there", there.url)
    here.fetch("there")


def imported(here: Repository, there: Repository, file: Path) -> None:
    there.export_car("main", file, history=True)
    here.import_car(file, as_branch="new")


@pytest.mark.parametrize("transfer", [pushed, fetched, imported])
def test_a_transfer_holds_off_gc_and_tidying_until_refs_have_moved(
    repository: Repository, tmp_path: Path, transfer: Callable[..., None]
) -> None:
    there = memory()
    commit(there, {"a": LARGE})
    storage = vz.open(repository.url)._stores.storage
    found: list[set[str]] = []
    with before_lock(storage, "refs", lambda: found.append(held(storage)), nth=None):
        transfer(repository, there, tmp_path / "x.car")
    assert found
    assert all(each == {TRANSFER_LOCK, GC_LOCK} for each in found)
    assert held(storage) == set()


def test_a_commit_holds_off_gc_until_the_branch_has_moved(repository: Repository) -> None:
    storage = repository._stores.storage
    found: list[set[str]] = []
    with before_lock(storage, "refs", lambda: found.append(held(storage))):
        commit(repository, {"a": LARGE})
    assert found == [{GC_LOCK}]
    assert held(storage) == set()


def test_a_value_that_is_stored_already_is_kept_until_its_record_is_appended(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository, {"a": LARGE, "b": b"small"})
    commit(repository, {"a": b"1", "b": b"1"})
    repository.branches.move("main", "main~2")
    session = repository.session()
    session.write("first", b"1")
    storage = repository._stores.storage
    log_type = type(storage.open_log(f"sessions/{session.id}/journal"))
    append = log_type.append

    def collect_and_append(log: object, record: bytes) -> int:
        if is_free(storage, GC_LOCK):
            vz.open(repository.url).gc(keep_reflog=timedelta(0))
        return append(log, record)

    monkeypatch.setattr(log_type, "append", collect_and_append)
    session.write("a", LARGE)
    session.write("b", b"small")
    monkeypatch.undo()
    session.commit("again")
    snapshot = vz.open(repository.url, verify="always").checkout()
    assert (bytes(snapshot.read("a")), bytes(snapshot.read("b"))) == (LARGE, b"small")
    assert repository.fsck().is_clean


def test_repack_and_gc_keep_out_those_who_count_on_blocks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        commit(repository, {"a": b"%d" % number})
    storage = vz.open(repository.url)._stores.storage
    found: list[set[str]] = []
    delete = type(storage).delete

    def delete_and_look(self: Storage, path: str, **how: bool) -> None:
        if path.endswith(".pack"):
            found.append(held(storage))
        delete(self, path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "delete", delete_and_look)
        repository.repack()
    assert len(found) > 2
    assert all(each == {MAINTENANCE_LOCK, GC_LOCK} for each in found)
    found.clear()
    commit(repository, {"a": b"more"})
    repository.repack(progress=lambda *_: found.append(held(storage)))
    assert set(map(frozenset, found)) == {frozenset({MAINTENANCE_LOCK})}
    with before_lock(storage, "refs", lambda: found.append(held(storage)), nth=None):
        found.clear()
        repository.gc()
    assert found
    assert all(each == {MAINTENANCE_LOCK, GC_LOCK} for each in found)
    repository.gc(progress=lambda *_: found.append(held(storage)))
    assert found[-1] == {MAINTENANCE_LOCK}


@pytest.mark.parametrize("name", [MAINTENANCE_LOCK, TRANSFER_LOCK])
def test_tidying_gives_up_where_it_would_have_to_wait(repository: Repository, name: str) -> None:
    def packs() -> int:
        return len(repository._stores.storage.list("packs"))

    other = vz.open(repository.url)._stores.storage
    before = packs()
    with other.lock(name, shared=name == TRANSFER_LOCK):
        for number in range(40):
            commit(repository, {"a": b"%d" % number})
        assert packs() == before + 40
    for number in range(40):
        commit(repository, {"b": b"%d" % number})
    assert packs() < 40


def test_a_commit_waits_for_the_writes_that_are_under_way(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would make a pack of a draft into which they write."""
    session = repository.session()
    session.write("first", LARGE[::-1])
    draft_type = type(repository._stores.storage.open_draft("x.draft"))
    write = draft_type.write
    is_writing, is_frozen, order = threading.Event(), threading.Event(), []

    def slow_write(draft: object, offset: int, parts: list[bytes]) -> None:
        is_writing.set()
        is_frozen.wait(0.3)  # a commit that does not wait has begun by then
        order.append("written")
        write(draft, offset, parts)

    def freeze() -> None:
        assert is_writing.wait(60)
        with session._working.frozen():
            order.append("frozen")
            is_frozen.set()

    monkeypatch.setattr(draft_type, "write", slow_write)
    committer = threading.Thread(target=freeze)
    committer.start()
    session.write("a", LARGE)
    committer.join()
    monkeypatch.undo()
    assert order == ["written", "frozen"]
    session.commit("both")
    assert bytes(repository.checkout().read("a")) == LARGE


def test_no_write_begins_while_a_session_is_frozen(repository: Repository) -> None:
    session = repository.session()
    session.write("first", b"1")
    order = []

    def write() -> None:
        session.write("a", LARGE)
        order.append("written")

    writer = threading.Thread(target=write)
    with session._working.frozen():
        writer.start()
        writer.join(0.3)  # one that does not wait is through by then
        order.append("thawed")
    writer.join()
    assert order == ["thawed", "written"]
