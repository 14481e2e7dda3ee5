"""What a journal's records come to, also when a commit is made while others write on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import versioned_zarr as vz
from versioned_zarr.engine.sessions import change_set as overlay_module
from versioned_zarr.engine.sessions.change_set import ChangeSet, known_before
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.ipld.dag_pb import Link


def test_what_came_after_a_commit_is_laid_over_it() -> None:
    repository = vz.create("memory://overlay")
    with repository.session(message="values") as session:
        for key in ("x/1", "x/2", "y"):
            session.write(key, key.encode())
    commit = repository.branches["main"]
    root = from_text(commit.tree)
    overlay = ChangeSet(repository._stores.trees, commit.cid, root)
    cid = repository._stores.hash.raw(b"new")
    for record in (
        JournalRecord(RecordKind.SET, "before", 1, 0, cid=cid, size=3, tsize=3, position=0),
        JournalRecord(RecordKind.CLEAR, "x", 2, 0, position=100),
        JournalRecord(RecordKind.SET, "x/3", 2, 100, cid=cid, size=3, tsize=3, position=200),
        JournalRecord(RecordKind.DELETE, "y", 2, 100, position=300),
    ):
        if record.kind is RecordKind.CLEAR:
            overlay.clear(record, known_before(record.seen), is_own=False)
        else:
            overlay.lay(record, known_before(record.seen), is_own=False)
    overlay.rebase(from_text(commit.cid), root, lambda _, position: position < 50)
    assert [key for key, _ in overlay.tree.walk()] == ["x/3"]
    assert overlay.has_changes
    overlay.rebase(from_text(commit.cid), root, lambda _, position: position < 400)
    assert [key for key, _ in overlay.tree.walk()] == ["x/1", "x/2", "y"]
    assert not overlay.has_changes


def test_values_above_and_below_each_other_are_told_not_lost() -> None:
    repository = vz.create("memory://collision")
    commit = repository.branches["main"]
    overlay = ChangeSet(repository._stores.trees, commit.cid, from_text(commit.tree))
    cid = repository._stores.hash.raw(b"new")
    overlay.lay(
        JournalRecord(RecordKind.SET, "a", 1, 0, cid=cid, size=3, tsize=3, position=0),
        known_before(0),
        is_own=True,
    )
    overlay.lay(
        JournalRecord(RecordKind.SET, "a/b", 2, 0, cid=cid, size=3, tsize=3, position=9),
        known_before(0),
        is_own=False,
    )
    assert [key for key, _ in overlay.rivals()] == ["a/b"]
    overlay.clear(
        JournalRecord(RecordKind.CLEAR, "", 1, 18, position=18), known_before(18), is_own=True
    )
    assert [key for key, _ in overlay.rivals()] == []
    assert list(overlay.tree.walk()) == []


NUMBERS = itertools.count()
PATHS = ["a", "b", "a/a", "a/b", "b/a", "a/a/b"]


def base_of_links() -> tuple[ChangeSet, dict[str, Link]]:
    """A change set over some values, and the folders and values that its records may link."""
    repository = vz.create(f"memory://links-{next(NUMBERS)}")
    with repository.session(message="values") as session:
        for key in ("a/a/b", "a/b", "b", "c/a/x", "c/b"):
            session.write(key, key.encode())
    commit, trees = repository.branches["main"], repository._stores.trees
    root = from_text(commit.tree)
    links = {path: trees.subtree(root, path) for path in ("a", "a/a", "c")}
    return ChangeSet(trees, commit.cid, root), links


def lay(state: ChangeSet, record: JournalRecord) -> None:
    """Apply a record as the journal does, if a session would have appended it."""
    act = {RecordKind.CLEAR: state.clear, RecordKind.LINK: state.link}.get(record.kind, state.lay)
    act(record, known_before(record.seen), is_own=record.writer == 1)


def contents(state: ChangeSet) -> dict[str, bytes]:
    return {key: bytes(found.cid) for key, found in state.tree.walk()}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*RecordKind]), st.sampled_from(PATHS), st.integers(0, 2)))
)
def test_records_laid_again_over_the_base_come_to_the_same(acts: list[tuple]) -> None:
    state, links = base_of_links()
    by_number = list(links.values())
    for position, (kind, path, number) in enumerate(acts):
        record = JournalRecord(kind, path, 1, position, position=position)
        try:
            if kind is RecordKind.SET:
                state.check_place(path)
                cid = b"\x01\x55\x12\x20" + bytes([number]) * 32
                record = record._replace(cid=Cid(cid), size=3, tsize=3)
            elif kind is RecordKind.LINK:
                state.check_folder(path)
                record = record._replace(cid=by_number[number].cid, tsize=by_number[number].tsize)
            elif kind is RecordKind.DELETE:
                if state.tree.get(path) is None:
                    continue
            elif kind is not RecordKind.CLEAR:
                continue
        except vz.InvalidKeyError:
            continue
        lay(state, record)
    assert list(state.rivals()) == []
    before = contents(state)
    state.forget("nothing")  # lays all records over the base again
    assert contents(state) == before


@pytest.mark.parametrize("second", [RecordKind.LINK, RecordKind.CLEAR])
@pytest.mark.parametrize("is_aware", [True, False])
def test_folders_linked_independently_are_told(second: RecordKind, is_aware: bool) -> None:
    state, links = base_of_links()
    first = JournalRecord(RecordKind.LINK, "new/x", 1, 0, cid=links["a"].cid)
    lay(state, first)
    then = JournalRecord(second, "new", 2, 100 if is_aware else 0, cid=links["c"].cid, position=100)
    lay(state, then)
    assert [key for key, _ in state.rivals()] == ([] if is_aware else ["new"])


def test_a_value_written_unaware_of_a_link_over_it_is_told() -> None:
    state, links = base_of_links()
    cid = Cid(b"\x01\x55\x12\x20" + bytes(32))
    lay(state, JournalRecord(RecordKind.SET, "new/b", 2, 0, cid=cid, size=3, tsize=3))
    lay(state, JournalRecord(RecordKind.LINK, "new", 1, 0, cid=links["a"].cid, position=100))
    assert [key for key, _ in state.rivals()] == ["new/b"]
    lay(state, JournalRecord(RecordKind.SET, "b/x", 2, 0, cid=cid, size=3, tsize=3, position=200))
    assert sorted(key for key, _ in state.rivals()) == ["b/x", "new/b"]


def clear_and_fail(session: vz.Session) -> None:
    session.clear("x")
    raise ZeroDivisionError


def test_a_session_that_only_took_away_is_kept_and_resumed(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="values") as session:
        session.write("x/1", b"1")
    session = repository.session()
    with pytest.raises(ZeroDivisionError), session:
        clear_and_fail(session)
    resumed = repository.resume(session.id)
    assert list(resumed.keys()) == []
    resumed.commit("taken away")
    assert list(repository.checkout().keys()) == []


def grown(session: vz.Session, *, reads: bool) -> vz.Session:
    """Append a chunk to the places in time, as each of two writers that know nothing of another."""
    document = json.loads(bytes(session.read("time/zarr.json")))
    document["shape"] = [8]
    session.write("time/zarr.json", json.dumps(document).encode())
    if reads:
        assert session.get("time/c/1") is None
    session.write("time/c/1", b"4567")
    return session


@pytest.mark.parametrize("reads", [False, True])
def test_places_in_time_that_two_wrote_alike_without_reading_agree(
    tmp_path: Path, reads: bool
) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="base") as session:
        zarr.create_array(
            session.store, name="time", shape=(4,), chunks=(4,), dtype="i1", compressors=None,
            dimension_names=["time"],
        )  # fmt: skip
    one, other = (grown(repository.session(), reads=reads) for _ in range(2))
    one.commit("one")
    if reads:
        with pytest.raises(vz.ConflictError):
            other.commit("other")
        return
    other.write("note", b"1")
    other.commit("other")
    assert bytes(repository.checkout().read("time/c/1")) == b"4567"
    assert bytes(repository.checkout().read("note")) == b"1"


def test_who_read_more_keys_than_are_remembered_may_have_read_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overlay_module, "_READ_LIMIT", 3)
    repository = vz.create("memory://overlay-read")
    commit = repository.branches["main"]
    overlay = ChangeSet(repository._stores.trees, commit.cid, from_text(commit.tree))
    for key in ("a", "b"):
        overlay.find(key)
        assert not overlay.is_blind(key)
        assert overlay.is_blind("z")
    overlay.find("c")
    assert not overlay.is_blind("z")


@pytest.mark.parametrize("writes", [False, True])
def test_a_session_goes_on_from_its_commit(tmp_path: Path, writes: bool) -> None:
    repository = vz.create(tmp_path / "r.vz")
    session = repository.session()
    for number in range(3):
        if writes:
            session.write("a", b"%d" % number)
        made = session.commit("x", allow_empty=True)
        assert session.base == made == repository.branches["main"]
        assert session._working.state.base == made.cid
    with repository.session(message="other") as other:
        other.write("b", b"1")
    assert session.get("b") is None
    with pytest.raises(vz.BranchMovedError):
        session.commit("y", allow_empty=True, on_moved="fail")
