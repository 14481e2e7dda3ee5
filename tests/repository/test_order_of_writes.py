"""In which order things reach the disk: nothing is named that could be lost."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.recorder import Recorder, recording


def in_order(recorder: Recorder, *steps: tuple[str, str]) -> None:
    """Each step was done, the one behind the other."""
    at = 0
    for what, part in steps:
        at = recorder.index(what, part, at) + 1


def commit(session: vz.Session, key: str, size: int) -> vz.Commit:
    session.write(key, os.urandom(size))
    return session.commit("x")


@pytest.mark.parametrize("size", [10, 5_000_000])
def test_a_branch_names_nothing_before_it_is_durable(tmp_path: Path, size: int) -> None:
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    with recording(tmp_path / "r.vz") as recorder:
        commit(session, "a", size)
    packs = [op.to for op in recorder.ops if op.what == "rename" and op.to.startswith("packs/")]
    assert packs
    moved = recorder.index("write", "refs/heads/main.log")
    for pack in packs:
        named = recorder.index("rename", pack)
        source = recorder.ops[named].path
        written = max(n for n in range(named) if recorder.ops[n].what == "write" and
                      recorder.ops[n].path == source)  # fmt: skip
        assert written < recorder.synced(source, written) < named
        assert named < recorder.synced("packs", named) < moved
    assert recorder.synced("refs/heads/main.log", moved)
    intent = max(
        n for n in range(moved) if recorder.ops[n].what == "write" and "journal" in
        recorder.ops[n].path
    )  # fmt: skip
    assert b"\xa7J\x05" in recorder.ops[intent].data


def test_a_put_is_whole_and_durable_before_it_has_its_name(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with recording(tmp_path / "r.vz") as recorder:
        repository.remotes.add("a", tmp_path / "other")
    written = recorder.index("write", "remotes.json")
    in_order(
        recorder,
        ("write", "remotes.json"),
        ("sync", recorder.ops[written].path),
        ("rename", "remotes.json"),
        ("sync", ""),
    )


def test_a_session_can_be_found_before_a_write_is_acknowledged(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    with recording(tmp_path / "r.vz") as recorder:
        session.write("a", b"1")
    folder = f"sessions/{session.id}"
    record = recorder.index("write", f"{folder}/journal")
    head = recorder.index("rename", f"{folder}/session.json")
    assert recorder.index("sync", recorder.ops[head].path) < head
    assert head < recorder.synced(folder, head) < record
    made = recorder.index("mkdir", folder)
    assert made < recorder.synced("sessions", made) < record


def test_new_folders_of_refs_are_durable_up_to_the_root(tmp_path: Path) -> None:
    with recording(tmp_path / "r.vz") as recorder:
        repository = vz.create(tmp_path / "r.vz")
        made = len(recorder.ops)
        repository.tags.create("v1")
    for start, kind in ((0, "heads"), (made, "tags")):
        folder = recorder.index("mkdir", f"refs/{kind}")
        line = recorder.index("write", f"refs/{kind}/", start)
        assert recorder.index("sync", "refs", folder) < line
        assert recorder.synced(f"refs/{kind}", line)
    assert recorder.ops[recorder.index("mkdir", "refs") + 1].what == "sync"


@pytest.mark.parametrize("how", ["discard", "delete"])
def test_a_session_that_goes_goes_journal_first(tmp_path: Path, how: str) -> None:
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    session.write("a", b"1" * 400_000)
    with recording(tmp_path / "r.vz") as recorder:
        if how == "discard":
            session.discard()
        else:
            repository.sessions.delete(session.id)
    in_order(
        recorder,
        ("unlink", "journal"),
        ("unlink", "session.json"),
        ("sync", f"sessions/{session.id}"),
        ("unlink", ".draft"),
    )


def test_gc_forgets_moves_before_it_removes_packs(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    repository.branches.create("dev")
    commit(repository.session("dev"), "a", 500_000)
    commit(repository.session("main"), "b", 500_000)
    repository.branches.delete("dev")
    repository.branches.move("main", "main~1")
    with recording(tmp_path / "r.vz") as recorder:
        assert repository.gc(keep_reflog=timedelta(0)).removed_packs
    first = recorder.index("unlink", "packs/")
    assert recorder.index("unlink", "refs/heads/dev.log") < first
    assert recorder.index("rename", "refs/heads/main.log") < first
    named = recorder.index("rename", "refs/heads/main.log")
    assert recorder.synced("refs/heads", named) < first
    gone = recorder.index("unlink", "refs/heads/dev.log")
    assert recorder.synced("refs/heads", gone) < first


def test_gc_copies_durably_before_it_removes(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    repository.branches.create("dev")
    session = repository.session("dev")
    kept = os.urandom(600_000)
    session.write("keep", kept)
    commit(session, "drop", 500_000)
    with repository.session(message="keep") as other:
        other.write("keep", kept)
    repository.branches.delete("dev")
    with recording(tmp_path / "r.vz") as recorder:
        repository.gc(keep_reflog=timedelta(0))
    copy = recorder.index("rename", "packs/")
    assert recorder.index("sync", recorder.ops[copy].path) < copy
    mixed = recorder.index("unlink", "packs/", copy)
    assert recorder.synced("packs", copy) < mixed
    assert bytes(vz.open(repository.url, verify="always").checkout().read("keep")) == kept


def test_repack_copies_durably_before_it_removes(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    for number in range(4):
        commit(repository.session(), str(number), 1000)
    with recording(tmp_path / "r.vz") as recorder:
        repository.repack()
    copies = [n for n, op in enumerate(recorder.ops) if op.what == "rename" and "packs/" in op.to]
    first = recorder.index("unlink", "packs/")
    assert recorder.synced("packs", max(copies)) < first


def test_a_bundle_is_durable_before_it_has_its_name(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    commit(repository.session(), "a", 1000)
    (tmp_path / "out").mkdir()
    with recording(tmp_path / "out") as recorder:
        repository.export_car("main", tmp_path / "out" / "x.car")
    named = recorder.index("rename", "x.car")
    assert recorder.index("sync", recorder.ops[named].path) < named


def test_a_renamed_branch_is_durable_under_its_new_name(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    repository.branches.create("old")
    with recording(tmp_path / "r.vz") as recorder:
        repository.branches.rename("old", "new")
    renamed = recorder.index("rename", "refs/heads/new.log")
    line = recorder.index("write", "refs/heads/new.log", renamed)
    assert (
        recorder.synced("refs/heads", renamed) < line < recorder.synced("refs/heads/new.log", line)
    )


class Stop(BaseException):
    """As the end of a process."""


@pytest.mark.parametrize("is_known", [True, False], ids=["the same process", "another process"])
def test_a_move_that_was_not_synced_is_before_the_journal_says_that_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    session.write("a", b"1")

    def stop(_: int) -> None:
        raise Stop

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", stop)
        with pytest.raises(Stop):
            session.commit("x")
    session._working.end("died", keep_folder=True)
    again = vz.open(tmp_path / "r.vz")
    if not is_known:
        again._stores.refs._unsettled.clear()
    with recording(tmp_path / "r.vz") as recorder:
        again.resume(session.id).commit("x")
    said = next(n for n, op in enumerate(recorder.ops) if op.data[:3] == b"\xa7J\x04")
    if is_known:  # a sync that was stopped may have failed: only new bytes are sure
        in_order(recorder, ("write", "main.log"), ("sync", "main.log"), ("rename", "main.log"))
        assert recorder.synced("refs/heads", recorder.index("rename", "main.log")) < said
    else:
        assert recorder.synced("refs/heads/main.log", 0) < said
    assert [commit.message for commit in again.log()].count("x") == 1


@pytest.mark.parametrize("version", [1, 2])
def test_all_bytes_of_a_bundle_are_written_before_it_is_synced(
    tmp_path: Path, version: int
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    commit(repository.session(), "a", 1000)
    sizes: list[int] = []
    sync = os.fsync

    def size_at_sync(fd: int) -> None:
        sizes.append(os.fstat(fd).st_size)
        sync(fd)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", size_at_sync)
        repository.export_car("main", tmp_path / "x.car", version=version)
    assert sizes == [(tmp_path / "x.car").stat().st_size]
