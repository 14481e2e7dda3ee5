"""A value of which the repository has most leaves is stored as the others, and reads as a whole."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import versioned_zarr as vz
from tests.repository.barrier import before_lock
from versioned_zarr.blocks.packs.pack_store import GC_LOCK
from versioned_zarr.engine.maintenance import repack
from versioned_zarr.ipld.unixfs import LEAF_SIZE
from versioned_zarr.repository.repository import Repository

SPAWN = multiprocessing.get_context("spawn")
NOW = timedelta(0)
CHANCE = random.Random(41)
LEAVES = [CHANCE.randbytes(LEAF_SIZE) for _ in range(6)]
ENDS = [b"", b"end", CHANCE.randbytes(1000)]
OLD = b"".join(LEAVES[:4])
NEW = b"".join((LEAVES[0], LEAVES[5], LEAVES[2], LEAVES[3], ENDS[1]))
VALUES = st.builds(
    lambda leaves, end: b"".join(map(LEAVES.__getitem__, leaves)) + end,
    st.lists(st.integers(0, len(LEAVES) - 1), max_size=5),
    st.sampled_from(ENDS),
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository whose branch `main` holds the value OLD."""
    repository = vz.create(tmp_path / "r.vz")
    commit(repository, {"old": OLD})
    return repository


def commit(repository: Repository, values: dict[str, bytes], branch: str = "main") -> None:
    with repository.session(branch, message="values") as session:
        for key, value in values.items():
            session.write(key, value)


def pack_bytes(repository: Repository) -> int:
    return repository.stats().stored_bytes


def changed(value: bytes, leaf: int) -> bytes:
    start = leaf * LEAF_SIZE
    return value[:start] + CHANCE.randbytes(LEAF_SIZE) + value[start + LEAF_SIZE :]


def check(repository: Repository, values: dict[str, bytes], ref: str = "main") -> None:
    """All values read as they were written, in whole and in part, and nothing is damaged."""
    opened = vz.open(repository.url, verify="always")
    assert opened.fsck().is_clean
    snapshot = opened.checkout(ref)
    for key, value in values.items():
        assert bytes(snapshot.read(key)) == value
        for start, end in ranges_of(value):
            assert bytes(snapshot.read(key, start, end)) == value[start:end]


def ranges_of(value: bytes) -> list[tuple[int, int]]:
    edges = range(0, len(value) + LEAF_SIZE, LEAF_SIZE)
    around = [(edge - 3, edge + 5) for edge in edges[1:]]
    return [*pairwise(edges), *around, (7, len(value) - 7), (LEAF_SIZE // 2, 3 * LEAF_SIZE)]


@pytest.mark.parametrize("storage", ["folder", "memory"])
def test_a_changed_chunk_of_a_shard_costs_its_leaf(tmp_path: Path, storage: str) -> None:
    url = str(tmp_path / "r.vz") if storage == "folder" else f"memory://{uuid.uuid4()}"
    repository = vz.create(url)
    data = np.random.default_rng(5).random((8 * 256, 8 * 128), "f4")
    with repository.session(message="a shard") as session:
        array = zarr.create_array(
            session.store,
            name="a",
            data=data,
            shards=data.shape,
            chunks=(256, 128),  # of 128 KiB
            compressors=None,
        )
    before = pack_bytes(repository)
    data[256:512, 128:256] = 7
    with repository.session(message="a chunk") as session:
        array = zarr.open_array(session.store, path="a", mode="r+")
        array[256:512, 128:256] = 7
        assert np.array_equal(np.asarray(array[:]), data)
    assert pack_bytes(repository) - before < 0.3 * data.nbytes  # one or two leaves of eight
    array = zarr.open_array(repository.checkout().store, path="a", mode="r")
    assert np.array_equal(np.asarray(array[:]), data)
    assert repository.fsck().is_clean


def test_a_changed_chunk_of_64_costs_less_than_a_tenth(repository: Repository) -> None:
    shard = bytearray(CHANCE.randbytes(64 * (256 << 10) + 1028))
    commit(repository, {"shard": bytes(shard)})
    before = pack_bytes(repository)
    start = 9 * (256 << 10)
    shard[start : start + (256 << 10)] = CHANCE.randbytes(256 << 10)
    shard[-1028:] = CHANCE.randbytes(1028)  # the index of the chunks
    commit(repository, {"shard": bytes(shard)})
    assert pack_bytes(repository) - before <= 0.1 * len(shard)
    check(repository, {"old": OLD, "shard": bytes(shard)})


@pytest.mark.parametrize(("leaves", "is_reused"), [(2, True), (4, True), (5, False)])
def test_a_value_is_stored_whole_if_reuse_saves_less_than_a_fourth(
    repository: Repository, leaves: int, is_reused: bool
) -> None:
    value = OLD[:LEAF_SIZE] + CHANCE.randbytes((leaves - 1) * LEAF_SIZE)
    before = pack_bytes(repository)
    commit(repository, {"new": value})
    stored = pack_bytes(repository) - before
    assert (stored < len(value)) is is_reused
    assert (repository.checkout().place("new") is None) is is_reused
    check(repository, {"old": OLD, "new": value})


@settings(deadline=None, max_examples=10)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1), max_size=4))
def test_what_is_written_over_and_over_is_read_back(steps: list[dict[str, bytes]]) -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    expected: dict[str, bytes] = {}
    for step in steps:
        session = repository.session()
        for key, value in step.items():
            session.write(key, OLD)
            session.write(key, value)
        expected.update(step)
        for key, value in expected.items():
            assert bytes(session.read(key)) == value
            for start, end in ranges_of(value):
                assert bytes(session.read(key, start, end)) == value[slice(start, end)]
        session.commit("a step", allow_empty=True)
    check(repository, expected)
    repository.repack()
    check(repository, expected)


def test_threads_write_values_that_reuse_leaves(repository: Repository) -> None:
    values = {f"{leaf}/{number}": changed(OLD, leaf) for leaf in range(4) for number in range(3)}
    with repository.session(message="of many threads") as session, ThreadPoolExecutor(4) as pool:
        list(pool.map(session.write, values, values.values()))
    check(repository, {"old": OLD, **values})


def test_a_session_merges_values_that_reuse_leaves(repository: Repository) -> None:
    session = repository.session()
    commit(repository, {"theirs": changed(OLD, 1)})
    session.write("ours", NEW)
    session.commit("merged", on_moved="merge")
    check(repository, {"old": OLD, "ours": NEW})


# repack


def test_repack_makes_the_current_values_whole(repository: Repository) -> None:
    value = CHANCE.randbytes(9 * LEAF_SIZE + 5)
    versions = []
    for leaf in (None, 3, 0, 8):
        value = value if leaf is None else changed(value, leaf)
        commit(repository, {"shard": value, "note": b"%r" % leaf})
        versions.append((repository.checkout().cid, value))
    before = pack_bytes(repository)
    assert repository.checkout().place("shard") is None
    done = repository.repack()
    place = repository.checkout().place("shard")
    assert place is not None
    assert place.size == len(value)
    assert pack_bytes(repository) <= before  # no leaf is stored twice
    assert done.removed_packs
    for cid, old in versions:
        check(repository, {"shard": old, "old": OLD}, cid)
    repository.gc(keep_reflog=NOW)
    check(repository, {"shard": value, "old": OLD})


@pytest.mark.parametrize("small_bytes", [0, 1 << 40])
def test_repacking_again_changes_nothing(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, small_bytes: int
) -> None:
    shared = b"".join([*LEAVES, *LEAVES[:1]])  # one leaf twice
    commit(repository, {"a": shared, "b": b"".join(LEAVES[::-1])})
    commit(repository, {"a": changed(shared, 2)})
    repository.branches.create("other")
    commit(repository, {"a": changed(shared, 4)}, "other")
    monkeypatch.setattr(repack, "SMALL_PACK_BYTES", small_bytes)
    repository.repack()
    before = pack_bytes(repository)
    for number in range(2):
        commit(repository, {"note": b"%d" % number})
        assert repository.checkout("main").place("a") is not None
        assert (repository.repack().removed_packs > 0) is (small_bytes > 0)
        assert pack_bytes(repository) - before < LEAF_SIZE


def test_repack_leaves_large_packs_with_whole_values_alone(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repack, "SMALL_PACK_BYTES", LEAF_SIZE)
    shard, other = CHANCE.randbytes(5 * LEAF_SIZE), CHANCE.randbytes(5 * LEAF_SIZE)
    commit(repository, {"shard": shard})
    commit(repository, {"other": other})
    kept = repository.checkout().place("other")
    shard = changed(shard, 1)
    commit(repository, {"shard": shard})
    repository.repack()
    assert repository.checkout().place("other") == kept
    assert repository.checkout().place("shard") is not None
    check(repository, {"old": OLD, "shard": shard, "other": other})


def test_a_value_is_not_divided_between_two_packs(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repack, "PACK_LIMIT_BYTES", 2 * LEAF_SIZE)
    values = {key: CHANCE.randbytes(3 * LEAF_SIZE + 7) for key in "abc"}
    for key, value in values.items():
        commit(repository, {key: value})
    repository.repack()
    assert all(repository.checkout().place(key) for key in values)
    check(repository, {"old": OLD, **values})


def test_repack_of_a_damaged_leaf_changes_nothing(repository: Repository) -> None:
    commit(repository, {"new": NEW})
    flip(repository, 2 * LEAF_SIZE)
    packs = repository._stores.storage.list("packs")
    with pytest.raises(vz.CorruptBlockError):
        vz.open(repository.url).repack()
    assert repository._stores.storage.list("packs") == packs


@pytest.mark.parametrize("act", ["repack", "gc"])
def test_what_is_written_while_packs_are_copied_is_kept(repository: Repository, act: str) -> None:
    commit(repository, {"new": NEW})
    commit(repository, {"old": b""})
    storage = repository._stores.storage
    session = vz.open(repository.url).session()
    written = changed(OLD, 1)

    def write() -> None:
        session.write("written", written)
        commit(vz.open(repository.url), {"committed": changed(NEW, 0)})

    with before_lock(storage, GC_LOCK, write, nth=1):
        repository.repack() if act == "repack" else repository.gc(keep_reflog=NOW)
    session.commit("later")
    check(repository, {"new": NEW, "written": written})


# What happens between the write and the commit


def session_on_an_empty_base(url: str) -> tuple[Repository, vz.Session]:
    """A repository in which only the branch `beside` holds OLD, and a session on `main`."""
    repository = vz.create(url)
    repository.branches.create("beside")
    commit(repository, {"old": OLD}, "beside")
    return repository, repository.session()


def collect(url: str) -> None:
    """Delete the branch `beside`, and remove what only it reached."""
    repository = vz.open(url)
    repository.branches.delete("beside")
    repository.gc(keep_reflog=NOW)


def digests(repository: Repository) -> list[bool]:
    """Which leaves of OLD are stored."""
    blocks = repository._stores.blocks
    blocks.refresh()
    return [blocks.hash.raw(leaf) in blocks for leaf in LEAVES[:4]]


def test_gc_keeps_the_leaves_that_a_session_reuses(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    session.write("new", NEW)
    collect(repository.url)
    assert digests(vz.open(repository.url)) == [True, False, True, True]  # NEW lacks the second
    assert bytes(session.read("new")) == NEW
    session.commit("after gc")
    check(repository, {"new": NEW})


def test_leaves_that_gc_takes_before_the_journal_names_them_are_stored(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    storage = repository._stores.storage
    session.write("first", b"creates the journal")
    with before_lock(storage, GC_LOCK, lambda: collect(repository.url), shared=True):
        session.write("new", NEW)
    session.commit("whole")
    assert repository.checkout().place("new") is not None
    check(repository, {"new": NEW})


def test_a_session_that_is_resumed_after_gc_has_its_leaves(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    session.write("new", NEW)
    session._working.end("died", keep_folder=True)
    collect(repository.url)
    opened = vz.open(repository.url)
    resumed = opened.resume(session.id)
    assert bytes(resumed.read("new")) == NEW
    resumed.commit("resumed")
    check(opened, {"new": NEW})


def write_new(session: bytes) -> None:
    """Write into a session, as another process."""
    pickle.loads(session).write("theirs", NEW)


def test_two_processes_reuse_leaves_in_one_session(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    session.write("ours", NEW)
    process = SPAWN.Process(target=write_new, args=(pickle.dumps(session),))
    process.start()
    process.join()
    assert process.exitcode == 0
    collect(repository.url)
    assert bytes(session.read("theirs", 3, -3)) == NEW[3:-3]
    session.commit("of both")
    check(repository, {"ours": NEW, "theirs": NEW})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_reuses_leaves(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    session.write("ours", NEW)
    child = os.fork()
    if not child:
        try:
            session.write("theirs", NEW + b"more")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    collect(repository.url)
    session.commit("of both")
    check(repository, {"ours": NEW, "theirs": NEW + b"more"})


def lose_old(repository: Repository) -> None:
    """Remove the packs with the value OLD behind the repository's back."""
    blocks = repository._stores.blocks
    place = repository.checkout("beside").place("old")
    assert place is not None
    repository._stores.storage.delete(place.url.removeprefix(f"{repository._stores.storage.url}/"))
    blocks.refresh()


def test_a_lost_leaf_is_never_committed(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    session.write("other", b"other")
    session.write("new", NEW)
    lose_old(repository)
    with pytest.raises(vz.CollectedError, match="'new'"):
        session.commit("a hole")
    missing = vz.open(repository.url).fsck().missing
    assert "new" in {key for damage in missing for key in damage.keys}
    session._working.end("died", keep_folder=True)
    opened = vz.open(repository.url)
    resumed = opened.resume(session.id)
    assert "new" in str(resumed.dropped)
    resumed.commit("without it")
    assert bytes(opened.checkout().read("other")) == b"other"


def test_a_lost_leaf_is_stored_anew_when_the_value_is_written_again(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    session.write("new", NEW)
    lose_old(repository)
    with pytest.raises(vz.CollectedError):
        session.commit("a hole")
    session.write("new", NEW)
    session.commit("whole")
    assert bytes(vz.open(repository.url, verify="always").checkout().read("new")) == NEW


def test_a_root_without_its_leaves_does_not_pass_for_a_value(repository: Repository) -> None:
    blocks = repository._stores.blocks
    file = vz.ipld.unixfs.build_file(NEW, blocks.hash)
    blocks.put(file.blocks[:1], file.cid)  # as gc can leave it
    session = repository.session()
    session.write("new", NEW)
    session.commit("whole")
    check(repository, {"old": OLD, "new": NEW})


def test_a_flipped_bit_in_a_draft_is_found(tmp_path: Path) -> None:
    repository, session = session_on_an_empty_base(str(tmp_path / "r.vz"))
    session.write("new", NEW)
    session._working.end("died", keep_folder=True)
    (draft,) = (tmp_path / "r.vz" / "sessions" / session.id).glob("*.draft")
    content = bytearray(draft.read_bytes())
    content[LEAF_SIZE // 2] ^= 4
    draft.write_bytes(content)
    opened = vz.open(repository.url)
    assert "new" in {key for damage in opened.fsck().damaged for key in damage.keys}
    assert "new" in str(opened.resume(session.id).dropped)


def flip(repository: Repository, at: int) -> None:
    """Flip a bit of the value OLD, which is contiguous."""
    first = repository._stores.blocks.hash.raw(LEAVES[0])
    (place,) = repository._stores.blocks.registry.find_all(first)
    path = Path(unquote(urlsplit(repository.url).path)) / "packs" / f"{place.pack}.pack"
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[place.start + at] ^= 1
    path.write_bytes(content)


def test_a_flipped_bit_in_a_reused_leaf_is_found(repository: Repository) -> None:
    commit(repository, {"new": NEW})
    flip(repository, 2 * LEAF_SIZE)
    damaged = vz.open(repository.url).fsck().damaged
    assert {key for damage in damaged for key in damage.keys} == {"old", "new"}
    with pytest.raises(vz.CorruptBlockError):
        vz.open(repository.url, verify="always").checkout().read("new")


def test_it_is_pushed_exported_and_imported(repository: Repository, tmp_path: Path) -> None:
    commit(repository, {"new": NEW})
    copy = vz.clone(repository.url, tmp_path / "copy.vz")
    check(copy, {"old": OLD, "new": NEW})
    repository.export_car("main", tmp_path / "all.car", history=True)
    imported = vz.create(tmp_path / "imported.vz")
    imported.import_car(tmp_path / "all.car")
    commit_cid = repository.checkout().cid
    assert bytes(imported.checkout(commit_cid).read("new")) == NEW
