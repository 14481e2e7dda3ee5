"""A node collects garbage at any moment: what was acknowledged is there, or an error says so."""

from __future__ import annotations

import gc
import os
import threading
import uuid
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.proxy import proxy
from versioned_zarr.backends.kubo import KuboBlocks, mfs_refs
from versioned_zarr.ipld.cid import Cid

pytestmark = pytest.mark.compat

MIB = 1 << 20


@pytest.fixture
def url(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


@pytest.fixture
def no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `gc` drop moves of refs at once, and not after a day."""
    monkeypatch.setattr(mfs_refs, "KEPT_FOR", timedelta(0))


def elsewhere(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    """The same repository as another machine sees it, with an empty cache."""
    gc.collect()
    with monkeypatch.context() as patched:
        patched.setenv("VERSIONED_ZARR_HOME", str(folder / uuid.uuid4().hex))
        return vz.open(url, timeout_s=59)


def collected(node: Daemon, repository: vz.Repository, branch: str) -> None:
    """Delete a branch, and let the node forget what only that reached."""
    repository.branches.delete(branch)
    repository.gc(keep_reflog=timedelta(0))
    node.ipfs("repo", "gc")


@pytest.mark.parametrize("cache_bytes", [0, 4 * MIB])
def test_a_small_cache_holds_what_a_commit_may_have_to_send_again(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_bytes: int
) -> None:
    vz.create(url)
    repository = vz.open(url, cache_bytes=cache_bytes)
    session = repository.session()
    values = {f"a/{number}": os.urandom(MIB) for number in range(20)}
    for key, value in values.items():
        session.write(key, value)
    node.ipfs("repo", "gc")
    session.commit("made beside a collection")
    assert repository._stores.blocks.cache.size_bytes() <= cache_bytes
    assert dict(elsewhere(url, tmp_path, monkeypatch).checkout().mapping) == values


def test_moves_of_other_refs_do_not_end_the_watch_of_a_session(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(url)
    session = repository.session()
    values = {f"a/{number}": os.urandom(MIB) for number in range(40)}
    for key, value in values.items():
        session.write(key, value)
    with repository.session(message="another") as other:
        other.write("b", b"1")
    repository.tags.create("t")
    node.ipfs("repo", "gc")
    session.commit("x")
    mapping = elsewhere(url, tmp_path, monkeypatch).checkout().mapping
    assert dict(mapping) == {**values, "b": b"1"}


@pytest.mark.slow
def test_threads_commit_while_the_node_collects_all_the_time(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(url)
    said: list[str] = []
    refused: list[Exception] = []
    is_over = threading.Event()

    def collect() -> None:
        while not is_over.is_set():
            node.ipfs("repo", "gc")

    def write(number: int) -> None:
        for each in range(4):
            try:
                with repository.session(message="x") as session:
                    session.write(f"{number}/{each}", os.urandom(18 * MIB))
            except vz.StorageError as error:
                refused.append(error)
            else:
                said.append(f"{number}/{each}")

    collector = threading.Thread(target=collect)
    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in (collector, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    is_over.set()
    collector.join()
    there = elsewhere(url, tmp_path, monkeypatch)
    assert set(said) <= set(there.checkout().mapping)
    assert there.fsck().is_clean
    assert len(said) >= 6, refused


@pytest.mark.usefixtures("no_log")
@pytest.mark.parametrize("size", [500, 200_000, 3 * MIB])
@pytest.mark.parametrize("is_written_before", [False, True])
def test_a_value_that_was_collected_is_sent_again_though_the_cache_holds_it(
    node: Daemon,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    is_written_before: bool,
) -> None:
    repository = vz.create(url)
    repository.branches.create("gone")
    value = os.urandom(size)
    with repository.session("gone", message="x") as session:
        session.write("x", value)
    session = repository.session()
    if is_written_before:
        session.write("x", value)
        collected(node, repository, "gone")
    else:
        collected(node, repository, "gone")
        session.write("x", value)
    session.commit("y")
    assert elsewhere(url, tmp_path, monkeypatch).checkout().mapping["x"] == value


@pytest.mark.usefixtures("no_log")
def test_a_session_holds_what_it_wrote_though_the_node_had_it_already(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = os.urandom(3 * MIB)
    repository = vz.create(url)
    repository.branches.create("gone")
    with repository.session("gone", message="x") as session:
        session.write("x", value)
    session = repository.session()
    session.write("x", value)
    collected(node, repository, "gone")
    repository._stores.blocks.cache.clear()
    session.commit("y")
    assert elsewhere(url, tmp_path, monkeypatch).checkout().mapping["x"] == value


@pytest.mark.usefixtures("no_log")
def test_a_writer_that_was_held_up_takes_no_number_that_was_used(url: str) -> None:
    late, quick = vz.create(url), vz.open(url, timeout_s=61)
    with late.session(message="first") as session:
        session.write("a", b"1")
    session = late.session()
    session.write("mine", b"important")
    for key in ("b", "c"):
        with quick.session(message=key) as other:
            other.write(key, b"1")
    quick.gc(keep_reflog=timedelta(0))
    session.commit("late")
    there = vz.open(url, timeout_s=62)
    assert next(iter(there.log())).message == "late"
    assert set(there.checkout().mapping) == {"a", "b", "c", "mine"}


def test_gc_keeps_the_moves_of_the_last_day(url: str) -> None:
    repository = vz.create(url)
    for number in range(3):
        with repository.session(message=str(number)) as session:
            session.write("a", bytes([number]))
    repository.gc(keep_reflog=timedelta(0))
    assert repository.checkout("main@{2}").mapping["a"] == b"\0"


@pytest.mark.parametrize("cache_bytes", [0, 1 << 30])
def test_a_push_is_whole_or_refused_and_can_be_done_again(
    node: Daemon,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache_bytes: int,
) -> None:
    source = vz.create(tmp_path / "source.vz")
    values = {f"a/{number}": os.urandom(MIB) for number in range(100)}
    with source.session(message="x") as session:
        for key, value in values.items():
            session.write(key, value)
    target = vz.create(url)
    monkeypatch.setattr(target._stores.blocks.cache, "limit_bytes", cache_bytes)
    batches = 0

    def collect(_: vz.Progress) -> None:
        nonlocal batches
        batches += 1
        if batches == 2:
            node.ipfs("repo", "gc")

    try:
        source.push(url, ["main:p"], progress=collect)
    except vz.CollectedError:
        assert cache_bytes == 0
        assert "p" not in target.branches
        source.push(url, ["main:p"])
    assert batches >= 2
    assert dict(elsewhere(url, tmp_path, monkeypatch).checkout("p").mapping) == values


def test_no_ref_moves_where_blocks_were_taken_and_are_nowhere(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(url)
    head = repository.branches["main"]
    session = repository.session()
    session.write("a", b"1")

    def fail(self: KuboBlocks) -> None:
        raise vz.CollectedError("taken", where="here")

    with monkeypatch.context() as patched:
        patched.setattr(KuboBlocks, "settle", fail)
        with pytest.raises(vz.CollectedError, match="taken"):
            session.commit("x")
        with pytest.raises(vz.CollectedError, match="taken"):
            repository.tags.create("t")
    there = vz.open(url, timeout_s=62)
    for each in (repository, there):
        assert each.branches["main"] == head
        assert len(list(each.reflog("main"))) == 1
        assert "t" not in each.tags
    commit = session.commit("x")
    assert there.branches["main"] == commit
    repository.tags.create("t")
    assert there.fsck().is_clean


def lose(node: Daemon, blocks: KuboBlocks, data: bytes) -> Cid:
    """The CID of a block that a node had, and has no more."""
    cid = blocks.hash.raw(data)
    node.ipfs("block", "rm", blocks.client.put_block(data))
    return cid


def test_a_reader_waits_for_what_a_writer_sends_again(node: Daemon, url: str) -> None:
    vz.create(url)
    blocks = vz.open(url, cache_bytes=0)._stores.blocks
    assert isinstance(blocks, KuboBlocks)
    data = os.urandom(100)
    cid = lose(node, blocks, data)
    sending = threading.Timer(0.2, blocks.client.put_block, [data])
    sending.start()
    assert blocks.get(cid) == data
    sending.join()


def test_what_is_lost_is_waited_for_once(node: Daemon, url: str) -> None:
    vz.create(url)
    with proxy(node.rpc) as between:
        blocks = vz.open(url.replace(node.rpc, between.url), cache_bytes=0)._stores.blocks
        assert isinstance(blocks, KuboBlocks)
        asked = []
        for _ in range(3):
            cid = lose(node, blocks, os.urandom(100))
            between.requests.clear()
            with pytest.raises(vz.BlockNotFoundError):
                blocks.get(cid)
            asked.append(sum(b"block/get" in request for request in between.requests))
    assert asked == [7, 1, 1]


def test_readers_see_nothing_of_a_node_that_collects_all_the_time(
    node: Daemon, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(url)
    with repository.session(message="first") as session:
        session.write("a/0", b"0")
    with monkeypatch.context() as patched:
        patched.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "reader"))
        reader = vz.open(url, cache_bytes=0)
    is_over = threading.Event()

    def collect() -> None:
        while not is_over.is_set():
            node.ipfs("repo", "gc")

    def write() -> None:
        for number in range(1, 16):
            with suppress(vz.CollectedError), repository.session(message="x") as session:
                session.write(f"a/{number}", os.urandom(3000))
        is_over.set()

    threads = [threading.Thread(target=each) for each in (collect, write)]
    for thread in threads:
        thread.start()
    rounds = 0
    while not is_over.is_set():
        snapshot = reader.checkout()
        assert len(dict(snapshot.mapping)) >= 1
        rounds += 1
    for thread in threads:
        thread.join()
    assert rounds
