"""What is damaged in a session is named, stops nothing else, and can be dropped."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.engine.sessions.journal import (
    JournalRecord,
    RecordKind,
    decode_records,
    encode_record,
)
from versioned_zarr.repository.repository import Repository

VALUES = {"l/1": b"x" * 1000, "l/2": b"y", "l/3": b"z" * 300_000, "l/4": b"w" * 1_200_000}


def left_behind(place: Path, values: dict[str, bytes] = VALUES) -> tuple[Repository, str]:
    """A repository with a session whose process is gone."""
    repository = vz.create(place)
    with repository.session(message="a") as session:
        session.write("a/1", b"1" * 300_000)
    left = repository.session()
    for key, value in values.items():
        left.write(key, value)
    left._working.end("died", keep_folder=True)
    return vz.open(place), left.id


def file_of(repository: Repository, session: str, ending: str) -> Path:
    folder = Path(repository.url.removeprefix("file://")) / "sessions" / session
    return next(path for path in folder.iterdir() if path.name.endswith(ending))


def cut(path: Path) -> None:
    path.write_bytes(b"")


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(200))


def garble(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [cut, zero, lengthen, garble, halve, Path.unlink])
@pytest.mark.parametrize("ending", ["session.json", "journal", ".draft"])
def test_a_damaged_session_stops_nothing_but_itself(
    tmp_path: Path, ending: str, damage: Callable[[Path], None]
) -> None:
    repository, session = left_behind(tmp_path / "r.vz")
    damage(file_of(repository, session, ending))
    again = vz.open(tmp_path / "r.vz")
    infos = list(again.sessions.values())
    assert [info.id for info in infos] == [session]
    if ending != ".draft":
        assert infos[0].problem is not None or damage in (cut, halve)
    report = again.fsck()
    assert all(session in found.where for found in (*report.damaged, *report.missing))
    again.gc(keep_reflog=timedelta(0))
    again.repack()
    assert again._repr_html_()
    with again.session(message="goes on") as other:
        other.write("n/1", b"z")
    assert (tmp_path / "r.vz" / "sessions" / session).is_dir()
    try:
        resumed = again.resume(session)
    except vz.CorruptJournalError:
        assert ending != ".draft"
    else:
        for key in resumed.keys("l"):
            assert bytes(resumed.read(key)) == VALUES[key]
        lost = len(VALUES) - len(list(resumed.keys("l")))
        assert not lost or resumed.dropped or damage in (cut, halve)
        if lost < len(VALUES):
            resumed.commit("what is left")
            found = vz.open(tmp_path / "r.vz", verify="always").checkout()
            assert all(bytes(found.read(key)) == VALUES[key] for key in found.keys("l"))
    if again.sessions:
        again.sessions.delete(session)
    assert not again.sessions
    assert vz.open(tmp_path / "r.vz").fsck().is_clean


def spoil(draft: Path, value: bytes) -> None:
    """Zero the second half of a value in a draft, as a loss of power may leave it."""
    data = draft.read_bytes()
    at = data.index(value[:1000])
    draft.write_bytes(data[: at + len(value) // 2] + bytes(len(data) - at - len(value) // 2))


@pytest.mark.parametrize("size", [1000, 300_000, 2_500_000])
@pytest.mark.parametrize("whole", [False, True])
def test_a_torn_value_is_taken_back_and_told_and_the_rest_is_committed(
    tmp_path: Path, size: int, whole: bool, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"l/first": b"1" * 400_000, "l/torn": os.urandom(size)}
    repository, session = left_behind(tmp_path / "r.vz", values)
    draft = file_of(repository, session, ".draft")
    if whole:
        zero(draft)
    else:
        spoil(draft, values["l/torn"])
    with caplog.at_level(logging.WARNING, "versioned_zarr"):
        resumed = repository.resume(session)
    assert any("'l/torn'" in each for each in resumed.dropped)
    assert "'l/torn'" in caplog.text
    assert resumed.get("l/torn") is None
    if whole:
        with pytest.raises(vz.NothingToCommitError, match="l/torn"):
            resumed.commit("x")
        return
    resumed.commit("the rest")
    found = vz.open(tmp_path / "r.vz", verify="always")
    assert bytes(found.checkout().read("l/first")) == values["l/first"]
    assert found.checkout().get("l/torn") is None
    assert found.fsck().is_clean


def test_a_torn_value_over_one_that_is_committed_gives_that_one_back(tmp_path: Path) -> None:
    repository, session = left_behind(tmp_path / "r.vz", {"a/1": b"2" * 400_000})
    zero(file_of(repository, session, ".draft"))
    resumed = repository.resume(session)
    assert bytes(resumed.read("a/1")) == b"1" * 300_000
    assert not resumed.status()
    resumed.write("a/1", b"3")
    resumed.commit("written again")
    assert bytes(repository.checkout().read("a/1")) == b"3"


@pytest.mark.parametrize("size", [1000, 300_000])
def test_what_another_process_wrote_is_hashed_before_a_commit_names_it(
    tmp_path: Path, size: int
) -> None:
    value = os.urandom(size)
    repository, session = left_behind(tmp_path / "r.vz", {"l/2": b"sound" * 50_000, "l/1": value})
    joined = vz.Session(repository, repository._open_sessions.state_of(session))
    spoil(file_of(repository, session, ".draft"), value)
    before = list((tmp_path / "r.vz" / "packs").iterdir())
    with pytest.raises(vz.CorruptBlockError, match=r"'l/1'.*nothing was committed"):
        joined.commit("x")
    assert list((tmp_path / "r.vz" / "packs").iterdir()) == before
    joined.write("l/1", value)
    joined.commit("written again")
    assert bytes(vz.open(repository.url, verify="always").checkout().read("l/1")) == value


def test_what_was_forgotten_is_so_for_every_process(tmp_path: Path) -> None:
    repository, session = left_behind(tmp_path / "r.vz", {"l/1": b"1" * 400_000, "l/2": b"2"})
    joined = vz.Session(
        vz.open(repository.url), vz.open(repository.url)._open_sessions.state_of(session)
    )
    assert joined.get("l/1") is not None
    zero(file_of(repository, session, ".draft"))
    repository.resume(session)
    assert joined.get("l/1") is None
    assert repository.sessions[session].keys == 0


def test_the_journal_ends_before_the_damage_and_what_it_was_is_kept(tmp_path: Path) -> None:
    repository, session = left_behind(tmp_path / "r.vz", {f"l/{n}": b"%d" % n for n in range(9)})
    journal = file_of(repository, session, "journal")
    data = bytearray(journal.read_bytes())
    records, _ = decode_records(bytes(data), 0, "")
    data[records[5].position + 40] ^= 1
    journal.write_bytes(data)
    (info,) = repository.sessions.values()
    assert info.problem is not None
    assert info.keys == 5
    resumed = repository.resume(session)
    assert sorted(resumed.keys("l")) == [f"l/{n}" for n in range(5)]
    assert any(f"byte {records[5].position}" in each for each in resumed.dropped)
    assert (journal.parent / "journal.damaged").read_bytes() == data
    resumed.commit("before the damage")
    assert sorted(repository.checkout().keys("l")) == [f"l/{n}" for n in range(5)]


def record(key: str) -> bytes:
    return encode_record(JournalRecord(RecordKind.SET, key, 1, 0))


@pytest.mark.parametrize("length", range(1, len(record("key"))))
def test_the_beginning_of_a_record_that_was_never_finished_is_passed_over(length: int) -> None:
    whole, torn = [record("a"), record("b")], record("key")[:length]
    found, end = decode_records(whole[0] + torn + whole[1], 0, "journal")
    assert [each.key for each in found] == ["a", "b"]
    assert end == len(whole[0] + torn + whole[1])
    found, end = decode_records(whole[0] + torn, 0, "journal")
    assert [each.key for each in found] == ["a"]
    assert end == len(whole[0])


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_in_a_record_is_damage_wherever_it_is(bit: int) -> None:
    whole = [record("a"), record("key"), record("b")]
    for at in range(len(whole[1])):
        data = bytearray(b"".join(whole))
        data[len(whole[0]) + at] ^= 1 << bit
        with pytest.raises(vz.CorruptJournalError) as caught:
            decode_records(bytes(data), 0, "journal")
        assert caught.value.sound == len(whole[0])


def test_drafts_that_a_dropped_session_left_are_removed_by_gc(tmp_path: Path) -> None:
    repository, session = left_behind(tmp_path / "r.vz")
    folder = tmp_path / "r.vz" / "sessions" / session
    for name in ("journal", "session.json"):
        (folder / name).unlink()
    assert not repository.sessions
    assert repository.gc().removed_sessions == 1
    assert not folder.exists()


def test_a_session_that_nobody_may_read_stops_nothing(tmp_path: Path) -> None:
    repository, session = left_behind(tmp_path / "r.vz")
    journal = file_of(repository, session, "journal")
    journal.unlink()
    journal.mkdir()
    (info,) = repository.sessions.values()
    assert info.problem is not None
    assert repository.gc(keep_reflog=timedelta(0)).problems
    assert repository.fsck().damaged
    shutil.rmtree(journal)
    repository.sessions.delete(session)
    assert not repository.sessions
