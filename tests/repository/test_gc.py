"""What gc makes of the folders that sessions leave behind."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr import process_identity
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.engine.sessions.journal import (
    SessionHead,
    draft_path,
    folder_of,
    open_journal,
    write_head,
)
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r")


IDENTITY = "from versioned_zarr import process_identity as p; print(p.current())"


@pytest.fixture
def dead() -> str:
    """The identity of a process that is no more."""
    process = subprocess.run([sys.executable, "-c", IDENTITY], stdout=subprocess.PIPE, check=True)
    return process.stdout.decode().strip()


def leave(repository: Repository, process: str, *, has_journal: bool = True) -> str:
    """The folder of a session that wrote nothing."""
    head = SessionHead.new("main", repository.branches["main"].cid, "Ada")
    head = replace(head, process=int(process.split(":")[1] or 0), incarnation=process)
    storage = repository._stores.storage
    write_head(storage, head)
    if has_journal:
        open_journal(storage, head.id, create=True).close()
    return head.id


def is_left(repository: Repository, session: str) -> bool:
    return bool(repository._stores.storage.list(folder_of(session)))


@pytest.mark.parametrize("has_journal", [True, False])
def test_an_empty_folder_of_a_dead_process_goes_at_once(
    repository: Repository, dead: str, has_journal: bool
) -> None:
    session = leave(repository, dead, has_journal=has_journal)
    assert repository.gc(dry_run=True).removed_sessions == 1
    assert is_left(repository, session)
    assert repository.gc().removed_sessions == 1
    assert not is_left(repository, session)


@pytest.mark.parametrize("has_journal", [True, False])
def test_an_empty_folder_of_whoever_may_live_stays(
    repository: Repository, dead: str, has_journal: bool
) -> None:
    place, number, started = dead.split(":")
    ours = f"{place}:{os.getpid()}:{process_identity.current().split(':')[2]}"
    others = (
        ours,
        f"{'0' * 16}:{number}:{started}",  # another machine, boot or PID namespace
        ":: ".strip(),  # a system that tells nothing of its processes
    )
    left = [leave(repository, each, has_journal=has_journal) for each in others]
    for file in Path(repository.url.removeprefix("file://")).rglob("*"):
        os.utime(file, (0, 0))
    assert repository.gc(keep_reflog=timedelta(0)).removed_sessions == 0
    assert all(is_left(repository, session) for session in left)


def test_a_number_that_was_given_again_is_another_process(
    repository: Repository, dead: str
) -> None:
    place, _, started = dead.split(":")
    session = leave(repository, f"{place}:{os.getpid()}:{int(started) - 1}")
    assert repository.gc().removed_sessions == 1
    assert not is_left(repository, session)


def test_a_session_that_a_living_process_joined_stays(repository: Repository, dead: str) -> None:
    session = leave(repository, dead)
    draft = repository._stores.storage.open_draft(draft_path(session, 1))
    assert repository.gc().removed_sessions == 0
    draft.close()
    assert repository.gc().removed_sessions == 1


def test_writes_of_a_dead_process_stay(repository: Repository, dead: str) -> None:
    name = leave(repository, dead)
    session = repository.resume(name)
    session.write("a", b"1" * 100_000)
    session._working.end("died", keep_folder=True)
    assert repository.gc(keep_reflog=timedelta(0)).removed_sessions == 0
    assert bytes(repository.resume(name).read("a")) == b"1" * 100_000


def test_a_session_whose_base_was_collected_cannot_begin_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="x") as session:
        session.write("a", b"1")
    late = repository.session()
    repository.branches.move("main", "main~1")
    repository.gc(keep_reflog=timedelta(0))
    with pytest.raises(vz.SessionClosedError, match="was garbage-collected"):
        late.write("b", b"2")
    assert not repository.sessions
    repository.gc()
    assert repository.fsck().is_clean


@pytest.mark.parametrize("heal", ["gc", "repack"])
@pytest.mark.parametrize("at", [0, 30, -40])
def test_damaged_index_files_are_made_again(tmp_path: Path, heal: str, at: int) -> None:
    repository = vz.create(tmp_path / "r.vz")
    for number in range(5):
        with repository.session(message="x") as session:
            session.write(f"a/{number}", bytes([number]) * 100)
    assert isinstance(repository._stores.blocks, PackStore)
    repository._stores.blocks.registry.merge()
    files = list((tmp_path / "r.vz" / "index").iterdir())
    assert files
    for file in files:
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)
    there = vz.open(tmp_path / "r.vz", verify="always")
    assert there.fsck().damaged
    getattr(there, heal)()
    assert there.fsck().is_clean
    assert len(there.checkout().mapping) == 5


def test_what_others_keep_in_the_folder_stays(tmp_path: Path) -> None:
    place = tmp_path / "r.vz"
    repository = vz.create(place)
    with repository.session(message="x") as session:
        session.write(".zgroup", b"{}")
        session.write("a/.zarray", b"{}")
    repository.checkout().to_folder(place / "out")
    beside = (".env", ".git/config", "packs.bak/.x", "out/.zgroup")
    within = ("packs/a.txt", "index/a.txt", "sessions/a.txt", "refs/heads/a.txt", "locks/a.txt")
    theirs = [place / name for name in (*beside, *within)]
    left = [place / name for name in ("packs/.1.car.0123abcd", ".remotes.json.0123abcd")]
    left.append(place / "refs" / "heads" / ".main.log.0123abcd")
    for file in (*theirs, *left):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")
    for file in place.rglob("*"):
        if file.is_file():
            os.utime(file, (0, 0))
    repository = vz.open(place)
    repository.gc()
    repository.repack()
    assert repository.fsck().is_clean
    assert not repository.sessions
    assert list(repository.branches) == ["main"]
    assert all(file.exists() for file in theirs)
    assert (place / "out/a/.zarray").exists()
    assert not any(file.exists() for file in left)


def test_what_was_collected_is_printed() -> None:
    found = vz.Collected(3, 4096, 2, 1, problems=("refs/heads/x is damaged",))
    assert str(found).splitlines() == [
        "3 blocks, 4,096 bytes, 2 packs replaced by 1",
        "all commits were kept, because refs/heads/x is damaged",
    ]
    assert str(vz.Collected()) == "0 blocks, 0 bytes"
