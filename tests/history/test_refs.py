"""Refs as logs: what a disk did not confirm, what is damaged, and how they are called."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.history import log_refs as module
from versioned_zarr.history.commit_object import format_time, parse_time
from versioned_zarr.history.log_refs import LogRefs
from versioned_zarr.history.ref_names import check_new_ref_name, check_ref_name
from versioned_zarr.history.refs import HEADS, REMOTES, TAGS
from versioned_zarr.ipld.cid import from_text, hash_function
from versioned_zarr.repository.repository import Repository

HASH = hash_function("sha2-256")
A, B = HASH.raw(b"a"), HASH.raw(b"b")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = vz.create(tmp_path / "r.vz")
    for number in range(2):
        with repository.session(message=str(number)) as session:
            session.write("a", b"%d" % number)
    return repository


def fail_to_sync(patch: pytest.MonkeyPatch, part: str, code: int) -> None:
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        if part in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(code, os.strerror(code))
        real(fd)

    patch.setattr(os, "fdatasync", fdatasync)


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("act", ["commit", "merge", "fast-forward", "move", "create", "revert"])
def test_a_move_that_the_disk_does_not_confirm_is_an_error_that_says_so(
    repository: Repository, act: str, code: int
) -> None:
    head = repository.branches["main"]
    repository.branches.create("dev", "main~1")
    session = repository.session()
    session.write("b", b"1")
    if act == "merge":
        with repository.session("dev", message="dev") as other:
            other.write("c", b"1")
    acts = {
        "commit": lambda: session.commit("x"),
        "merge": lambda: repository.merge("dev"),
        "fast-forward": lambda: repository.merge("main", into="dev"),
        "move": lambda: repository.branches.move("main", "main~1"),
        "create": lambda: repository.branches.create("new"),
        "revert": lambda: repository.revert("main"),
    }
    with pytest.MonkeyPatch.context() as patch:
        fail_to_sync(patch, "refs/heads", code)
        with pytest.raises(vz.OutcomeUnknownError, match="may have been moved") as caught:
            acts[act]()
    error = caught.value
    branch = {"fast-forward": "dev", "create": "new"}.get(act, "main")
    assert error.ref == branch
    assert "vz log" in str(error)
    assert error.commit in {commit.cid for commit in repository.log(error.commit)}
    if act == "commit":
        again = session.commit("x")
        assert again.cid == error.commit
        assert [commit.cid for commit in repository.log()][:2] == [again.cid, head.cid]


def test_after_a_failed_sync_the_whole_log_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = LogRefs(LocalStorage(tmp_path))
    refs.swap(HEADS, "x", None, A, "one")
    with pytest.MonkeyPatch.context() as patch:
        fail_to_sync(patch, "heads", errno.EIO)
        with pytest.raises(vz.OutcomeUnknownError):
            refs.swap(HEADS, "x", A, B, "two")
    before = os.stat(tmp_path / "refs/heads/x.log").st_ino
    refs.settle(HEADS, "x")
    assert os.stat(tmp_path / "refs/heads/x.log").st_ino != before
    assert [entry.commit for entry in refs.history(HEADS, "x")] == [B, A]


def test_one_broken_ref_stops_nothing_but_itself(repository: Repository, tmp_path: Path) -> None:
    repository.branches.create("junk", "main~1")
    repository.tags.create("v1")
    for name in ("heads/junk", "tags/v1"):
        log = tmp_path / "r.vz" / "refs" / f"{name}.log"
        data = bytearray(log.read_bytes())
        data[30] ^= 1
        log.write_bytes(data)
    commit = repository.branches["main"]
    again = vz.open(tmp_path / "r.vz")
    assert list(again.branches) == ["main"]
    assert list(again.tags) == []
    assert list(again.branches.broken) == ["junk"]
    assert list(again.tags.broken) == ["v1"]
    assert "junk" in repr(again.branches)
    assert "broken" not in repr(vz.create(tmp_path / "other").branches)
    assert str(again.log())
    assert len(again.stats().problems) == 2
    assert again.checkout(commit.cid[:20]).commit == commit
    clone = vz.clone(again.url, tmp_path / "clone.vz")
    assert list(clone.branches) == ["main"]
    assert [note for note in clone.fetch(again.url).notes if "skipped" in note]
    problems = again.gc(keep_reflog=timedelta(0)).problems
    assert len(problems) == 2
    assert again.checkout(commit.cid).read("a") == b"1"
    with pytest.raises(vz.CorruptRefError):
        again.branches["junk"]
    again.branches.delete("junk")
    again.tags.delete("v1")
    assert not again.branches.broken
    assert not again.tags.broken
    assert again.fsck().is_clean
    again.tags.create("v1")


def test_gc_keeps_what_only_a_broken_branch_may_name(
    repository: Repository, tmp_path: Path
) -> None:
    repository.branches.create("dev")
    with repository.session("dev", message="on dev") as session:
        session.write("only/on/dev", b"v" * 400_000)
    commit = repository.branches["dev"].cid
    log = tmp_path / "r.vz" / "refs" / "heads" / "dev.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:-20] + b"x" * 19 + b"\n")
    again = vz.open(tmp_path / "r.vz")
    assert again.gc(keep_reflog=timedelta(0)).problems
    log.write_bytes(whole)
    snapshot = vz.open(tmp_path / "r.vz", verify="always").checkout("dev")
    assert snapshot.commit is not None
    assert snapshot.commit.cid == commit
    assert len(snapshot.read("only/on/dev")) == 400_000


def test_files_of_others_among_the_refs_are_no_refs(repository: Repository, tmp_path: Path) -> None:
    strays = (
        "heads/main (conflicted copy).log", "heads/main.log~", "heads/%zz.log", "heads/.nfs0001",
        "heads/x/y.log", "heads/%FF.log", "heads/..%2F..%2Fx.log", "foo/bar.log",
        "heads/dev.txt", "heads/dev.old", "heads/dev", "tags/v1.bak",
    )  # fmt: skip
    for stray in strays:
        path = tmp_path / "r.vz" / "refs" / stray
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"hello\n")
    again = vz.open(tmp_path / "r.vz")
    assert list(again.branches) == ["main"]
    assert not again.branches.broken
    assert len(list(again.log())) == 3
    again.gc(keep_reflog=timedelta(0))
    named = {damage.where for damage in again.fsck().damaged}
    assert "refs/heads/main (conflicted copy).log" in named
    assert all((tmp_path / "r.vz" / "refs" / stray).exists() for stray in strays)


def test_a_line_is_never_before_the_one_above_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        hour = 20

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]  # as it is called here
            return datetime(2026, 1, 1, cls.hour, tzinfo=UTC)

    monkeypatch.setattr(module, "datetime", Clock)
    refs = LogRefs(LocalStorage(tmp_path))
    refs.swap(HEADS, "x", None, A, "made")
    Clock.hour = 3
    refs.swap(HEADS, "x", A, B, "the clock was set back")
    Clock.hour = 5
    refs.swap(HEADS, "x", B, A, "and back")
    times = [entry.time.hour for entry in refs.history(HEADS, "x")]
    assert times == [20, 20, 20]
    refs.forget(HEADS, "x", datetime(2026, 1, 1, 10, tzinfo=UTC))
    assert len(list(refs.history(HEADS, "x"))) == 3


@pytest.mark.parametrize("year", [1, 9999])
def test_times_of_any_year_are_written_and_read(year: int) -> None:
    time = datetime(year, 1, 1, 12, tzinfo=UTC)
    assert parse_time(format_time(time)) == time
    assert len(format_time(time)) == len("2026-01-31T12:00:00.250000Z")


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00Z", "2026-01-31T12:00:00.250000+00:00", "1"])
def test_a_time_that_was_not_written_so_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        parse_time(text)


def test_the_ends_of_time_are_asked_for(repository: Repository) -> None:
    assert repository.checkout("main@{9999-12-31}") == repository.checkout()
    with pytest.raises(vz.RefNotFoundError):
        repository.checkout("main@{0001-01-01}")


# Names


def test_a_cid_means_what_hashes_to_it(repository: Repository, tmp_path: Path) -> None:
    old = repository.branches["main"].parents[0]
    for names in (repository.branches, repository.tags):
        with pytest.raises(vz.InvalidRefError, match="reads as a CID"):
            names.create(old)
        with pytest.raises(vz.InvalidRefError, match="reads as a CID"):
            names.create(old[:12])
    refs = repository._stores.refs  # as an earlier version, or another tool, could have made it
    head = from_text(repository.branches["main"].cid)
    refs.swap(HEADS, old, None, head, "made")
    refs.swap(TAGS, old, None, head, "made")
    for each in (repository, vz.clone(repository.url, tmp_path / "clone.vz")):
        assert bytes(each.checkout(old).read("a")) == b"0"
    clone = vz.open(tmp_path / "clone.vz")
    assert set(clone.branches) == {"main", f"ref-{old}"}
    assert set(clone.tags) == {f"ref-{old}"}
    notes = vz.create(tmp_path / "third.vz").fetch(repository.url).notes
    assert any("reads as a CID" in note for note in notes)
    assert bytes(repository.checkout(f"tags/{old}").read("a")) == b"1"


@pytest.mark.parametrize("name", ["bafybranch", "bafybei", "band", "20261128", "deadbeef", "Qm"])
def test_what_only_begins_like_a_cid_is_a_name(name: str) -> None:
    assert check_new_ref_name(name) == name


@pytest.mark.parametrize("char", ["\u202e", "\u200b", "\x85", "\u2066", "\u061c", "\ufeff"])
def test_what_is_not_seen_is_in_no_name(char: str) -> None:
    with pytest.raises(vz.InvalidRefError) as caught:
        check_ref_name(f"ma{char}in")
    assert char not in str(caught.value)


def test_a_legal_branch_is_legal_behind_the_name_of_a_remote(tmp_path: Path) -> None:
    long = "b/" + "x" * 236
    source = vz.create(tmp_path / "source.vz")
    source.branches.create(long)
    target = vz.create(tmp_path / "target.vz")
    target.remotes.add("r" * 200, source.url)
    target.fetch("r" * 200)
    assert target.checkout(f"{'r' * 200}/{long}") == source.checkout(long)
    assert set(target._stores.refs.names(REMOTES)) == {f"{'r' * 200}/{n}" for n in ("main", long)}
    assert target.fsck().is_clean
    target.gc(keep_reflog=timedelta(0))
    clone = vz.clone(source.url, tmp_path / "clone.vz")
    assert long in clone.branches


# Renaming


def test_a_rename_takes_the_log_along(repository: Repository) -> None:
    repository.branches.create("old")
    with repository.session("old", message="x") as session:
        session.write("b", b"1")
    commit = repository.branches["old"]
    repository.branches.rename("old", "new")
    assert repository.branches["new"] == commit
    assert "old" not in repository.branches
    assert repository.checkout("new@{1}").commit == commit
    assert len(list(repository.reflog("new"))) == 3
    with pytest.raises(vz.RefNotFoundError):
        repository.branches.rename("old", "other")
    with pytest.raises(vz.AlreadyExistsError):
        repository.branches.rename("new", "main")
    assert set(repository.branches) == {"main", "new"}


def test_a_move_shows_its_commit_as_text(repository: Repository) -> None:
    repository.branches.create("gone")
    commit = repository.branches["gone"]
    repository.branches.delete("gone")
    deleted, created = repository.reflog("gone")
    assert (deleted.cid, created.cid) == (None, commit.cid)
    assert str(created).startswith(f"{commit.cid}  ")
    assert str(created).endswith("branch: created at main")
    assert repr(deleted).startswith("<RefEntry 1: deleted  ")


def test_a_session_on_a_tag_is_refused_with_what_to_do(repository: Repository) -> None:
    repository.tags.create("v1")
    with pytest.raises(vz.RefNotFoundError, match="'v1' is a tag, which does not move; create a "):
        repository.session("v1")


@pytest.mark.parametrize("ref", ["HEAD", "HEAD~1", "@", "latest", "master"])
def test_there_is_no_current_branch_and_the_error_says_so(repository: Repository, ref: str) -> None:
    with pytest.raises(vz.RefNotFoundError, match=r"there is no current branch: name one.*'main'"):
        repository.checkout(ref)


def test_a_rename_over_a_deleted_name_keeps_both_logs(repository: Repository) -> None:
    repository.branches.create("new", "main~1")
    repository.branches.delete("new")
    repository.branches.create("old")
    repository.branches.rename("old", "new")
    assert repository.branches["new"] == repository.branches["main"]
    assert [entry.commit is None for entry in repository.reflog("new")] == [False, True, False]
    assert repository.fsck().is_clean


def test_a_commit_that_comes_between_is_renamed_too(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.branches.create("old")
    session = repository.session("old")
    session.write("b", b"1")
    real = type(repository.branches)._at
    made: list[vz.Commit] = []

    def at(names: object, name: str) -> object:
        found = real(names, name)  # type: ignore[arg-type]  # it is the method of a class
        if name == "old" and not made:
            made.append(session.commit("between"))
        return found

    monkeypatch.setattr(type(repository.branches), "_at", at)
    repository.branches.rename("old", "new")
    assert repository.branches["new"] == made[0]
    assert "old" not in repository.branches


@pytest.mark.parametrize("readable", [False, True])
def test_the_end_of_a_log_is_torn_or_damaged_and_one_is_not_taken_for_the_other(
    repository: Repository, tmp_path: Path, readable: bool
) -> None:
    log = tmp_path / "r.vz" / "refs" / "heads" / "main.log"
    whole = log.read_bytes()
    refs = repository._stores.refs
    entries = list(refs.history("heads", "main", readable=readable))
    assert len(entries) == whole.count(b"\n") > 1
    last = len(whole.splitlines(keepends=True)[-1])
    for left in range(last):
        cut = whole[: len(whole) - last + left]
        if left < last - 1:  # a line that nobody was told of
            log.write_bytes(cut)
            assert list(refs.history("heads", "main", readable=readable)) == entries[1:]
    log.write_bytes(whole[:-1] + b"x")
    if readable:
        assert list(refs.history("heads", "main", readable=True)) == entries[1:]
    else:
        with pytest.raises(vz.CorruptRefError):
            list(refs.history("heads", "main"))
