"""What is acknowledged is on the node, whoever collected what before, and whoever dies when."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("httpx")

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.proxy import proxy

pytestmark = pytest.mark.compat


@pytest.fixture
def url(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], vz.Repository]:
    """Opens a repository as another machine does, with an empty cache."""

    def opened(url: str) -> vz.Repository:
        gc.collect()
        with monkeypatch.context() as patched:
            patched.setenv("VERSIONED_ZARR_HOME", str(tmp_path / uuid.uuid4().hex))
            return vz.open(url, timeout_s=59)

    return opened


def put(repository: vz.Repository, key: str, value: bytes, branch: str = "main") -> vz.Commit:
    session = repository.session(branch)
    session.write(key, value)
    return session.commit(key)


def collected(node: Daemon, repository: vz.Repository) -> vz.Commit:
    """A commit that the node has collected, and this machine's cache holds."""
    repository.branches.create("gone")
    for number in range(3):
        commit = put(repository, f"a/{number}", os.urandom(400_000 * (1 + number)), "gone")
    repository.branches.delete("gone")
    name = repository.url.rpartition("/")[2]
    node.ipfs("files", "rm", "-r", f"/versioned-zarr/{name}/refs/heads/gone")
    node.ipfs("repo", "gc")
    return commit


ACTS: dict[str, Callable[[vz.Repository, vz.Commit], object]] = {
    "cherry_pick": lambda repository, commit: repository.cherry_pick(commit.cid, "main"),
    "merge": lambda repository, commit: repository.merge(commit.cid, into="main"),
    "tag": lambda repository, commit: repository.tags.create("t", commit.cid),
    "branch": lambda repository, commit: repository.branches.create("b", commit.cid),
    "move": lambda repository, commit: repository.branches.move("main", commit.cid),
    "push": lambda repository, commit: repository.push(repository.url, f"{commit.cid}:b"),
}


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize("is_ahead", [False, True])
def test_a_commit_that_the_node_collected_is_whole_once_a_ref_leads_to_it(
    node: Daemon,
    url: str,
    far: Callable[[str], vz.Repository],
    name: str,
    is_ahead: bool,
) -> None:
    repository = vz.create(url)
    put(repository, "base", b"b")
    commit = collected(node, repository)
    if is_ahead:
        put(repository, "more", b"m")
    ACTS[name](repository, commit)
    node.ipfs("repo", "gc")
    there = far(url)
    for each in [*there.branches, *there.tags]:
        mapping = there.checkout(each).mapping
        assert all(mapping[key] is not None for key in mapping)
    assert there.fsck().is_clean


def test_a_commit_that_is_nowhere_whole_gets_no_name(node: Daemon, url: str) -> None:
    repository = vz.create(url)
    commit = collected(node, repository)
    head = repository.branches["main"]
    repository._stores.blocks.cache.clear()
    put(repository, "other", b"1")  # this process knows the commits still
    for name in ("tag", "branch", "move"):
        with pytest.raises((vz.CollectedError, vz.RefNotFoundError)):
            ACTS[name](repository, commit)
    assert repository.branches["main"].parents == (head.cid,)
    assert list(repository.branches) == ["main"]
    assert list(repository.tags) == []


@pytest.mark.parametrize(("count", "size"), [(1, 3_000_000), (3, 300_000), (5, 100)])
@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_commit_that_failed_is_made_again_after_a_collection(
    node: Daemon,
    url: str,
    far: Callable[[str], vz.Repository],
    count: int,
    size: int,
    cache_bytes: int,
) -> None:
    vz.create(url)
    is_down = False
    with proxy(node.rpc, is_busy=lambda request: is_down and b"files/cp" in request) as between:
        repository = vz.open(url.replace(node.rpc, between.url), cache_bytes=cache_bytes)
        values = {f"a/{number}": os.urandom(size) for number in range(count)}
        session = repository.session()
        for key, value in values.items():
            session.write(key, value)
        for _ in range(2):
            is_down = True
            with pytest.raises(vz.StorageError):
                session.commit("x")
            node.ipfs("repo", "gc")
            assert {key: bytes(session.read(key)) for key in values} == values
            is_down = False
        session.commit("x")
    assert dict(far(url).checkout().mapping) == values


def test_values_of_a_session_outlive_the_cache(
    node: Daemon, url: str, far: Callable[[str], vz.Repository]
) -> None:
    vz.create(url)
    is_down = True
    with proxy(node.rpc, is_busy=lambda request: is_down and b"files/cp" in request) as between:
        repository = vz.open(url.replace(node.rpc, between.url))
        session = repository.session()
        value = os.urandom(3_000_000)
        session.write("a", value)
        with pytest.raises(vz.StorageError):
            session.commit("x")
        node.ipfs("repo", "gc")
        repository._stores.blocks.cache.clear()
        is_down = False
        session.commit("x")
    assert far(url).checkout().read("a") == value


def test_nothing_is_left_staged(node: Daemon, url: str) -> None:
    repository = vz.create(url)
    for number in range(3):
        put(repository, "a", bytes([number]))
    client, name = repository._stores.blocks.client, url.rpartition("/")[2]
    client.in_parallel(lambda _: client.stat("/"), range(32))  # what was asked for before is done
    assert client.list(f"/versioned-zarr/{name}/staged") == []


def test_a_cache_that_was_cut_short_is_a_miss(url: str) -> None:
    repository = vz.create(url)
    values = {f"a/{number}": os.urandom(300_000) for number in range(8)}
    with repository.session(message="x") as session:
        for key, value in values.items():
            session.write(key, value)
    assert dict(repository.checkout().mapping) == values
    folder = repository._stores.blocks.cache.packed.storage.folder
    for path in [*folder.rglob("*.pack"), *folder.rglob("*.idx")]:
        os.truncate(path, path.stat().st_size // 3)
    assert dict(repository.checkout().mapping) == values
    shutil.rmtree(folder / "packs")
    assert dict(repository.checkout().mapping) == values


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_refs_are_made_beside_collections_that_never_end(
    node: Daemon, url: str, far: Callable[[str], vz.Repository], cache_bytes: int
) -> None:
    put(vz.create(url), "a", os.urandom(300_000))
    repository = vz.open(url, cache_bytes=cache_bytes)
    is_over = threading.Event()

    def collect() -> None:
        while not is_over.is_set():
            node.ipfs("repo", "gc")

    collector = threading.Thread(target=collect)
    collector.start()
    try:
        for number in range(8):
            repository.branches.create(f"b{number}", "main~1" if number % 2 else "main")
            repository.tags.create(f"t{number}")
    finally:
        is_over.set()
        collector.join()
    there = far(url)
    assert (len(there.branches), len(there.tags)) == (9, 8)
    assert there.fsck().is_clean
