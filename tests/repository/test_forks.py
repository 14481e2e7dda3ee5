"""A forked child is as good as a copy that was pickled."""

from __future__ import annotations

import multiprocessing
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.blocks.cache.memory_cache import MemoryCache
from versioned_zarr.errors import ConflictError
from versioned_zarr.interfaces.fsspec import shared_session
from versioned_zarr.interfaces.fsspec.shared_session import SharedSession
from versioned_zarr.ipld.cid import hash_function

FORK = multiprocessing.get_context("fork")


def run(*acts: Callable[[], object]) -> None:
    """Do each in a forked child of its own, one after the other."""
    for act in acts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
            child = FORK.Process(target=act)
            child.start()
        ended(child)


def ended(child: multiprocessing.process.BaseProcess) -> None:
    """A child has ended well; one that hangs is no more."""
    child.join(30)
    if child.exitcode is None:
        child.kill()
    assert child.exitcode == 0


@contextmanager
def held(lock: AbstractContextManager[object]) -> Iterator[None]:
    """Another thread holds a lock, and does not live on in a forked child."""
    is_held, may_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            is_held.set()
            may_go.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    assert is_held.wait(60)
    try:
        yield
    finally:
        may_go.set()
        thread.join()


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="base") as session:
        session.write("n", b"6")
    return repository


def written(session: vz.Session) -> None:
    session.write("own", b"own")


def committed(session: vz.Session) -> None:
    session.write("own", b"own")
    session.commit("own")


@pytest.mark.parametrize("before", [lambda session: None, written, committed])
def test_what_children_write_is_in_the_session_and_in_the_commit(
    repository: vz.Repository, before: Callable[[vz.Session], object]
) -> None:
    session = repository.session()
    before(session)
    run(*(lambda n=n: session.write(f"c/{n}", b"%d" % n * 200_000) for n in range(3)))
    assert sorted(session.keys("c")) == ["c/0", "c/1", "c/2"]
    assert bytes(session.read("c/2")) == b"2" * 200_000
    session.commit("filled")
    assert len(list(repository.checkout().keys("c"))) == 3
    run(lambda: session.write("later", b"1"))
    session.commit("later")
    assert bytes(repository.checkout().read("later")) == b"1"


def test_two_children_that_wrote_unaware_of_each_other_are_found(
    repository: vz.Repository,
) -> None:
    session = repository.session()
    session.write("x", b"1")

    def write(value: bytes) -> Callable[[], object]:
        return lambda: session.write("k", value)

    run(write(b"one"), write(b"two"))
    with pytest.raises(ConflictError, match="k: written twice"):
        session.commit("x")
    run(lambda: session.write("k", bytes(session.read("k")) + b"!"))
    session.commit("settled")
    assert bytes(repository.checkout().read("k")) == b"two!"


def test_a_commit_of_the_parent_ends_no_childs_session(repository: vz.Repository) -> None:
    session = repository.session()
    ready, go = FORK.Event(), FORK.Event()

    def child() -> None:
        session.write("a", b"1")
        ready.set()
        go.wait(30)
        session.write("b", b"2")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = FORK.Process(target=child)
        process.start()
    assert ready.wait(30)
    session.commit("one")
    go.set()
    ended(process)
    session.commit("two")
    assert {"a", "b"} <= set(repository.checkout().keys())


def test_a_commit_of_a_child_is_seen_by_the_parent(repository: vz.Repository) -> None:
    session = repository.session()
    session.write("a", b"1")
    run(lambda: session.commit("by a child"))
    assert next(commit.message for commit in repository.log()) == "by a child"
    session.write("b", b"2")
    session.commit("by the parent")
    assert {"a", "b"} <= set(repository.checkout().keys())


def test_a_commit_of_a_child_leaves_its_parents_drafts_to_the_parent(
    repository: vz.Repository,
) -> None:
    session = repository.session()
    session.write("a", b"a" * 400_000)
    run(lambda: session.commit("by a child"))
    session.write("b", b"b" * 400_000)
    session.commit("by the parent")
    again = vz.open(repository.url, verify="always")
    assert again.fsck().is_clean
    for key in "ab":
        assert bytes(again.checkout().read(key)) == key.encode() * 400_000


def test_a_fork_under_a_held_lock_does_not_hang_the_child(repository: vz.Repository) -> None:
    session = repository.session()
    with session._working.frozen():
        run(lambda: session.write("a", b"1"))
    assert bytes(session.read("a")) == b"1"


def test_a_child_waits_for_no_thread_that_only_its_parent_has(repository: vz.Repository) -> None:
    session = repository.session()
    session.write("large", b"l" * 200_000)
    with held(session._working._lock), held(session._working.drafts._lock):
        run(
            lambda: session.write("a", bytes(session.read("large"))),
            lambda: session.write("b", b"2"),
        )
    assert bytes(session.read("a")) == b"l" * 200_000
    session.commit("x")
    assert {"a", "b", "large", "n"} == set(repository.checkout().keys())


def test_a_child_writes_although_its_parent_was_writing(repository: vz.Repository) -> None:
    """The parent's writes under way are no writes of the child, whose commit waits for its own."""
    session = repository.session()
    session.write("a", b"1")
    with held(session._working._lock):
        session._working._writers.add(threading.main_thread().ident or 0)
        run(lambda: session.commit("by a child"))
    session._working._writers.clear()
    assert bytes(repository.checkout().read("a")) == b"1"


def test_a_child_reads_files_although_a_thread_of_its_parent_did(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a", [b"1"])

    def read() -> None:
        assert storage.view("a") == b"1"
        storage.delete("a")

    with held(storage._guard):
        run(read)
    with pytest.raises(FileNotFoundError):
        storage.read("a")


def test_a_child_holds_no_blocks_that_its_parent_holds() -> None:
    recent, cid = MemoryCache(1000), hash_function("sha2-256").raw(b"1")
    recent.add(cid, memoryview(b"1"))

    def use() -> None:
        assert recent.get(cid) is None
        recent.add(cid, memoryview(b"2"))
        assert recent.get(cid) == b"2"

    run(use)
    assert recent.get(cid) == b"1"


def test_a_child_opens_a_shared_session_although_its_parent_was_opening_one(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = SharedSession(repository, "main")
    monkeypatch.setattr(shared_session, "_OPEN", set())  # a fork waits to hand those on

    def write() -> None:
        shared.to_write().write("a", b"1")
        shared.commit("by a child")

    with held(shared_session._GUARD):
        run(write)
    assert bytes(repository.checkout().read("a")) == b"1"


def test_a_shared_session_stays_for_a_child_when_it_was_committed(
    repository: vz.Repository,
) -> None:
    shared = SharedSession(repository, "main")
    shared.to_write().write("a", b"1")
    go = FORK.Event()

    def child() -> None:
        go.wait(60)
        shared.to_write().write("b", b"2")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        process = FORK.Process(target=child)
        process.start()
    shared.commit("one")
    go.set()
    ended(process)
    shared.commit("two")
    assert {"a", "b"} <= set(repository.checkout().keys())
    shared.end(None)
