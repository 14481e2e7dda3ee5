"""What gc, checks and logs cost on an object store, and rare orders of their requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from versioned_zarr.history import refs as history_refs

obstore = pytest.importorskip("obstore")

from obstore.exceptions import PermissionDeniedError  # noqa: E402
from obstore.store import MemoryStore  # noqa: E402

from versioned_zarr.backends.objectstore import obstore_storage  # noqa: E402
from versioned_zarr.backends.objectstore.condemned_packs import encode_list  # noqa: E402
from versioned_zarr.backends.objectstore.object_blocks import ObjectBlocks  # noqa: E402
from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue  # noqa: E402
from versioned_zarr.backends.objectstore.record_refs import RecordRefs  # noqa: E402

URL = "s3://bucket/prefix"
NOW = timedelta(0)


class Noted:
    """obstore, with the paths of all requests, and an act after the creation of an object."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.after: tuple[str, Callable[[], object]] | None = None
        self._guard = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        function = getattr(obstore, name)

        def call(store: Any, *arguments: Any, **keywords: Any) -> Any:
            path = arguments[0] if arguments else keywords.get("prefix")
            with self._guard:
                self.paths.append(str(path))
            answer = function(store, *arguments, **keywords)
            if name == "put" and self.after is not None and str(path).startswith(self.after[0]):
                act, self.after = self.after[1], None
                act()
            return answer

        return call

    def count(self, start: str = "") -> int:
        return sum(path.startswith(start) for path in self.paths)


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Noted:
    found = Noted()
    monkeypatch.setattr(obstore_storage, "obstore", found)
    return found


Machine = Callable[[], vz.Repository]


def blocks_of(repo: vz.Repository) -> ObjectBlocks:
    blocks = repo._stores.blocks
    assert isinstance(blocks, ObjectBlocks)
    return blocks


def refs_of(repo: vz.Repository) -> RecordRefs:
    refs = repo._stores.refs
    assert isinstance(refs, RecordRefs)
    return refs


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def machine(
    store: MemoryStore, noted: Noted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Machine:
    """Opens a repository of 40 commits on a machine that knows nothing, and counts from there."""
    made = 0

    def opened() -> vz.Repository:
        nonlocal made
        made += 1
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / f"machine{made}"))
        repo = vz.open(URL, store=store)
        noted.paths.clear()
        return repo

    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "machine0"))
    repo = vz.create(URL, store=store)
    for number in range(40):
        with repo.session(message=f"{number}") as session:
            for group in range(3):
                session.write(f"g{group}/c/{number}", bytes([group, number]) * 300)
    return opened


def test_the_first_commit_on_a_branch_of_another_machine_walks_nothing(
    machine: Machine, noted: Noted
) -> None:
    machine().branches.create("dev")
    repo = machine()
    with repo.session("dev", message="first") as session:
        session.write("g0/c/0", b"new")
    assert noted.count() < 40  # what is needed to open the commit, and a few


def test_a_commit_needs_no_other_ref_that_is_damaged(machine: Machine, store: MemoryStore) -> None:
    machine().branches.create("dev")
    repo = machine()
    newest = obstore.list(store, prefix="refs/heads/main/").collect()[0]
    obstore.put(store, newest["path"], b"damaged")
    with repo.session("dev", message="first") as session:
        session.write("g0/c/0", b"new")
    assert repo.checkout("dev").read("g0/c/0") == b"new"


def test_old_fences_cost_nothing(machine: Machine, noted: Noted) -> None:
    repo = machine()
    repo.branches.create("quiet")

    def costs() -> int:
        noted.paths.clear()
        repo.branches.create("waste")
        with repo.session("waste", message="waste") as session:
            session.write("waste", b"waste")
        repo.branches.delete("waste")
        assert repo.gc(keep_reflog=NOW).removed_packs
        return noted.count("refs/heads/quiet/")

    first = costs()
    for _ in range(20):
        last = costs()
    assert last <= first + 4
    assert [move.number for move in repo.reflog("quiet")] == [0]


def test_a_creation_is_taken_back_past_the_fence_of_a_gc(
    machine: Machine, noted: Noted, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_refs, "_ATTEMPTS", 1)  # the list stays
    repo, other = machine(), machine()
    repo.branches.create("lost")
    before = set(blocks_of(other).packs())
    with repo.session("lost", message="dead") as session:
        session.write("dead", b"dead" * 1000)
    dead = repo.branches["lost"].cid
    repo.branches.delete("lost")
    condemned = encode_list(set(blocks_of(other).packs()) - before)
    obstore.put(store, "condemned/0", condemned)
    noted.after = "refs/heads/saved/", refs_of(other).fence
    with pytest.raises(vz.CollectedError):
        repo.branches.create("saved", at=dead)
    assert noted.after is None
    assert "saved" not in machine().branches
    assert [move.commit for move in machine().reflog("saved")] == [None]


def test_a_gc_that_may_not_delete_writes_nothing(
    machine: Machine, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = machine()
    repo.branches.create("waste")
    with repo.session("waste", message="waste") as session:
        session.write("waste", b"waste")
    repo.branches.delete("waste")
    repo.repack()
    keeper = machine()
    before = objects_of(store)

    def denied(*_: object) -> None:
        raise PermissionDeniedError("403 Forbidden")

    monkeypatch.setattr(obstore, "delete", denied)
    for _ in range(2):
        with pytest.raises(vz.ReadOnlyError, match="denies access"):
            keeper.gc(keep_reflog=NOW)
        assert objects_of(store) == before


def test_a_repack_beside_a_damaged_ref_writes_nothing(machine: Machine, store: MemoryStore) -> None:
    machine().branches.create("dev")
    record = min(path for path in objects_of(store) if path.startswith("refs/heads/dev/"))
    obstore.put(store, record, b"damaged")
    repo = machine()
    before = objects_of(store)
    with pytest.raises(vz.CorruptRefError, match="of 'dev' is damaged"):
        repo.repack()
    assert objects_of(store) == before


def objects_of(store: MemoryStore) -> set[str]:
    return {stored["path"] for page in obstore.list(store) for stored in page}


def test_a_missing_commit_is_reported_with_the_branch_that_names_it(
    machine: Machine, store: MemoryStore
) -> None:
    repo = machine()
    repo.branches.create("torn")
    before = objects_of(store)
    with repo.session("torn", message="torn") as session:
        session.write("torn", b"torn")
    for path in objects_of(store) - before:
        if path.startswith("packs/"):
            obstore.delete(store, path)
    repo = machine()
    (problem,) = repo.gc(keep_reflog=NOW).problems
    assert "which 'torn' names, is missing; fetch it" in problem
    repo.branches.delete("torn")
    (problem,) = repo.gc().problems
    assert "which the log of 'torn' names, is missing" in problem
    assert not repo.gc(keep_reflog=NOW).problems


def test_a_list_of_packs_reads_index_files_first(machine: Machine, noted: Noted) -> None:
    catalogue = blocks_of(machine()).catalogue
    noted.paths.clear()
    catalogue.scan()
    assert noted.count("packs/") < 20


def test_a_block_is_found_if_another_thread_has_just_listed_its_pack(
    machine: Machine, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = machine().checkout()
    assert len(list(snapshot.mapping)) == 120
    other = machine()
    other.repack()
    scan = PackCatalogue.scan

    def scan_of_two(self: PackCatalogue) -> bool:
        scan(self)
        return scan(self)

    monkeypatch.setattr(PackCatalogue, "scan", scan_of_two)
    for key, value in snapshot.mapping.items():
        assert value == bytes([int(key[1]), int(key.rpartition("/")[2])]) * 300


def test_marking_asks_no_origin(machine: Machine, noted: Noted) -> None:
    machine().gc(keep_reflog=NOW)
    assert noted.count("partial.json") <= 1


def test_a_log_reads_each_commit_by_one_request(machine: Machine, noted: Noted) -> None:
    commits = len(list(machine().log()))
    assert commits > 40
    assert noted.count("packs/") <= commits + 10


def test_a_diff_reads_what_changed(store: MemoryStore, machine: Machine, noted: Noted) -> None:
    with machine().session(message="many") as session:
        for number in range(5000):
            session.write(f"a/c/{number // 100}/{number % 100}", b"%d" % number)
    with machine().session(message="one") as session:
        session.write("a/c/7/7", b"changed")
    diff = machine().diff("main~1", "main")
    assert "a/c/7/7" in str(diff)
    assert noted.count() <= 20
