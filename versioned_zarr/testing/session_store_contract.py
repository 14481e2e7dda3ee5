"""The contract of a `SessionStore`, and of the `SessionState` of each session in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import pytest

from versioned_zarr import process_identity
from versioned_zarr.engine.commit import head_of
from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.engine.sessions.protocol import SessionInfo, SessionState, SessionStore
from versioned_zarr.errors import (
    InvalidKeyError,
    KeyNotFoundError,
    SessionClosedError,
    SessionNotFoundError,
)
from versioned_zarr.ipld.cid import from_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.repository import Repository

LARGE = bytes(range(256)) * 5000
"""Of more than one leaf."""


def store_of(repository: Repository) -> SessionStore:
    """The session store of a repository."""
    return repository._open_sessions.store


def begin(repository: Repository, *, purpose: str = "") -> SessionState:
    """A new session on `main`."""
    base = head_of(repository._stores, "main")
    head = SessionHead.new("main", base.cid, "Ada <ada@example.org>", purpose)
    return store_of(repository).begin(head, from_text(base.tree))


def link_at(repository: Repository, path: str) -> Link:
    """What `main` has at a path."""
    stores = repository._stores
    found = stores.trees.subtree(from_text(head_of(stores, "main").tree), path)
    assert found is not None
    return found


def listed(repository: Repository) -> Sequence[SessionInfo]:
    """The `SessionInfo` of its sessions."""
    return store_of(repository).sessions()


class SessionStoreContract:
    """Subclass it together with `RepositoryContract`, whose fixtures it uses."""

    @pytest.fixture
    def state(self, repository: Repository) -> SessionState:
        """A session that has written."""
        with repository.session(message="base") as session:
            session.write("base/a", b"1")
            session.write("base/b", b"2")
        state = begin(repository, purpose="a test")
        state.write("new/small", b"small")
        state.write("new/large", LARGE)
        state.delete("base/a")
        return state

    def test_nothing_is_stored_before_the_first_write(self, repository: Repository) -> None:
        state = begin(repository)
        existed = state.exists
        assert not existed
        assert listed(repository) == []
        assert list(state.walk()) == []
        state.write("a", b"1")
        assert state.exists
        assert [info.id for info in listed(repository)] == [state.head.id]

    def test_a_session_that_was_released_is_written_on(self, state: SessionState) -> None:
        state.release()
        assert bytes(state.read("new/large")) == LARGE
        state.write("new/later", LARGE)
        state.write("new/small", b"changed")
        state.release()
        assert bytes(state.read("new/later")) == LARGE
        assert bytes(state.read("new/small")) == b"changed"

    def test_writers_are_named(self, repository: Repository, state: SessionState) -> None:
        state.share()
        other = store_of(repository).resume(state.head.id)
        other.write("new/other", b"other", other.known())
        state.refresh()
        writers = {pending.writer for pending in state.state.entries.values()}
        assert len(writers) == 2
        assert {state.writer_name(writer) for writer in writers} == {process_identity.shown()}
        assert "unknown process" in state.writer_name(max(writers) + 1)

    def test_the_size_of_what_was_written_is_listed(
        self, repository: Repository, state: SessionState
    ) -> None:
        assert [info.size_bytes for info in listed(repository)] == [len(b"small") + len(LARGE)]
        state.write("new/small", b"smaller")
        assert store_of(repository).info(state.head.id).size_bytes == len(b"smaller") + len(LARGE)

    def test_what_was_written_is_read(self, state: SessionState) -> None:
        assert bytes(state.read("new/small")) == b"small"
        assert bytes(state.read("new/large")) == LARGE
        assert bytes(state.read("new/large", 1_000_000, 1_000_010)) == LARGE[1_000_000:1_000_010]
        assert bytes(state.read("base/b")) == b"2"
        with pytest.raises(KeyNotFoundError):
            state.read("base/a")
        assert sorted(key for key, _ in state.walk()) == ["base/b", "new/large", "new/small"]
        assert sorted(state.list_dir("")) == ["base", "new"]
        assert state.is_empty("nothing")
        assert not state.is_empty("new")
        found = state.find("new/large")
        assert found is not None
        assert state.size(found) == len(LARGE)

    def test_what_was_found_is_read(self, state: SessionState) -> None:
        want = {"base/b": b"2", "new/large": LARGE, "new/small": b"small"}
        for key, found in state.walk():
            assert bytes(state.read_found(found)) == want[key]
            assert state.size(found) == len(want[key])

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 3), (3, None), (2, 2), (4, 2), (5, None), (99, 120), (0, 99)]
    )
    def test_ranges_are_those_of_slices(
        self, state: SessionState, start: int, end: int | None
    ) -> None:
        assert bytes(state.read("new/small", start, end)) == b"small"[start:end]
        assert bytes(state.read("base/b", start, end)) == b"2"[start:end]

    def test_what_changed_is_told(self, state: SessionState) -> None:
        changed = dict(state.changed())
        assert changed.keys() == {"base/a", "new/small", "new/large"}
        assert changed["new/small"] is not None

    def test_a_session_tells_of_itself(self, repository: Repository, state: SessionState) -> None:
        (info,) = listed(repository)
        assert (info.id, info.branch, info.base) == (state.head.id, "main", state.head.base)
        assert (info.author, info.purpose) == ("Ada <ada@example.org>", "a test")
        assert info.keys == 3
        assert info.problem is None
        assert info.started <= info.last_write
        assert store_of(repository).info(state.head.id).id == info.id

    def test_a_session_is_resumed_with_all_that_it_wrote(
        self, state: SessionState, reopen: Callable[[], Repository]
    ) -> None:
        again = store_of(reopen()).resume(state.head.id)
        assert again.head.id == state.head.id
        again.refresh()
        assert bytes(again.read("new/small")) == b"small"
        assert bytes(again.read("new/large")) == LARGE
        assert sorted(key for key, _ in again.walk()) == ["base/b", "new/large", "new/small"]

    def test_two_that_share_it_see_what_the_other_did(
        self, state: SessionState, reopen: Callable[[], Repository]
    ) -> None:
        state.share()
        other = store_of(reopen()).resume(state.head.id)
        other.write("new/other", b"other")
        other.delete("new/small")
        state.look_again()
        assert bytes(state.read("new/other")) == b"other"
        assert state.find("new/small") is None
        state.write("new/small", b"again")
        assert bytes(other.read("new/small")) == b"again"
        assert dict(state.changed()).keys() == dict(other.changed()).keys()
        assert not [*state.state.rivals()]

    @pytest.mark.parametrize("is_aware", [True, False])
    def test_two_that_wrote_one_key_unaware_of_each_other_are_found(
        self, state: SessionState, reopen: Callable[[], Repository], is_aware: bool
    ) -> None:
        state.share()
        other = store_of(reopen()).resume(state.head.id)
        before = other.position()
        state.write("new/k", b"one")
        assert other.known() == before
        other.write("new/k", b"two", other.position() if is_aware else before)
        values = set()
        for each in (state, other):
            each.look_again()
            values.add(bytes(each.read("new/k")))
            found = [key for key, _ in each.state.rivals()]
            assert found == ([] if is_aware else ["new/k"])
        assert values == {b"two"} or (not is_aware and values == {b"one"})

    def test_while_it_is_frozen_nobody_of_the_process_writes(self, state: SessionState) -> None:
        written = threading.Event()

        def write() -> None:
            state.write("new/later", b"1")
            written.set()

        thread = threading.Thread(target=write)
        with state.frozen():
            thread.start()
            assert not written.wait(0.1)
            assert "new/later" not in dict(state.changed())
        thread.join()
        assert bytes(state.read("new/later")) == b"1"

    def test_a_session_that_was_left_is_resumed(
        self, repository: Repository, state: SessionState
    ) -> None:
        state.end("was left", keep_folder=True)
        with pytest.raises(SessionClosedError, match="was left"):
            state.write("a", b"1")
        again = store_of(repository).resume(state.head.id)
        assert bytes(again.read("new/large")) == LARGE
        again.write("a", b"1")
        assert {"a", "new/large"} <= dict(again.changed()).keys()

    def test_of_a_session_that_is_sound_nothing_is_lost(
        self, repository: Repository, state: SessionState
    ) -> None:
        assert store_of(repository).mend(state.head.id) is None
        assert state.drop_damaged() == []
        assert bytes(state.read("new/large")) == LARGE

    def test_an_overwrite_and_a_cleared_folder_hold(self, state: SessionState) -> None:
        state.write("new/small", b"other")
        assert bytes(state.read("new/small")) == b"other"
        state.clear("new")
        assert sorted(key for key, _ in state.walk()) == ["base/b"]
        assert not state.delete("new/small")

    def test_a_committed_folder_and_value_are_linked_elsewhere(
        self, repository: Repository, state: SessionState, reopen: Callable[[], Repository]
    ) -> None:
        base = link_at(repository, "base")
        state.write("there/old", b"old")
        state.link("copy", base)
        state.link("there", base)
        state.link("value", link_at(repository, "base/b"))
        state.write("copy/a", b"changed")
        want = {"copy/a": b"changed", "copy/b": b"2", "there/a": b"1", "there/b": b"2"}
        want |= {"value": b"2", "base/b": b"2"}
        for each in (state, store_of(reopen()).resume(state.head.id)):
            each.refresh()
            found = {key: bytes(each.read_found(it)) for key, it in each.walk()}
            assert {key: found[key] for key in want} == want
            assert found.keys() == want.keys() | {"new/small", "new/large"}
            assert each.find("there/old") is None
            assert each.list_dir("copy") == ["a", "b"]
            changed = dict(each.changed())
            assert changed.keys() - {"there/old"} == (want.keys() - {"base/b"}) | {
                "base/a",
                "new/small",
                "new/large",
            }

    def test_a_folder_is_not_linked_below_a_value_or_over_one(
        self, repository: Repository, state: SessionState
    ) -> None:
        base = link_at(repository, "base")
        for path in ("new/small", "new/small/below"):
            with pytest.raises(InvalidKeyError, match="'new/small'"):
                state.link(path, base)
        with pytest.raises(InvalidKeyError, match="'new"):
            state.link("new", link_at(repository, "base/b"))
        assert bytes(state.read("new/small")) == b"small"

    def test_what_was_linked_is_committed_and_written_on(
        self, repository: Repository, reopen: Callable[[], Repository]
    ) -> None:
        with repository.session(message="base") as session:
            session.write("base/a", b"1")
            session.write("base/large", LARGE)
        session = repository.session("main")
        session._working.link("copy", link_at(repository, "base"))
        session.commit("copy")
        session.write("copy/a", b"2")
        session.commit("change the copy")
        found = reopen().checkout("main")
        assert {key: bytes(found.read(key)) for key in list(found.keys())} == {
            "base/a": b"1",
            "base/large": LARGE,
            "copy/a": b"2",
            "copy/large": LARGE,
        }

    def test_what_was_linked_is_shared(
        self, repository: Repository, state: SessionState, reopen: Callable[[], Repository]
    ) -> None:
        state.link("copy", link_at(repository, "base"))
        state.share()
        other = store_of(reopen()).resume(state.head.id)
        assert bytes(other.read("copy/a")) == b"1"
        other.link("more", link_at(repository, "base"))
        state.look_again()
        assert [key for key, _ in state.walk("more")] == ["more/a", "more/b"]
        assert not [*state.state.rivals()]

    def test_a_folder_that_was_linked_over_a_deleted_value_is_shared(
        self, repository: Repository, state: SessionState, reopen: Callable[[], Repository]
    ) -> None:
        state.delete("base/b")
        state.link("base/b", link_at(repository, "base"))
        state.share()
        other = store_of(reopen()).resume(state.head.id)
        assert bytes(other.read("base/b/a")) == b"1"
        assert not [*other.state.rivals()]

    def test_what_is_to_be_new_leaves_what_is_there(self, state: SessionState) -> None:
        state.write("new/only", b"1", only_new=True)
        for key in ("new/only", "base/b"):
            state.write(key, b"other", only_new=True)
        assert bytes(state.read("new/only")) == b"1"
        assert bytes(state.read("base/b")) == b"2"
        assert "base/b" not in dict(state.changed())

    def test_a_session_that_has_ended_refuses(
        self, repository: Repository, state: SessionState
    ) -> None:
        state.end("was discarded", keep_folder=False)
        assert state.closed is not None
        for act in (lambda: state.write("a", b"1"), lambda: state.delete("new/small")):
            with pytest.raises(SessionClosedError, match="was discarded"):
                act()
        assert listed(repository) == []

    def test_a_session_that_is_deleted_is_gone(
        self, repository: Repository, state: SessionState, reopen: Callable[[], Repository]
    ) -> None:
        other = begin(repository)
        other.write("a", b"1")
        store_of(repository).delete(state.head.id)
        assert [info.id for info in listed(reopen())] == [other.head.id]
        with pytest.raises(SessionNotFoundError):
            store_of(reopen()).resume(state.head.id)

    @pytest.mark.parametrize("verb", ["resume", "info", "delete"])
    def test_a_session_that_is_not_there_is_told(self, repository: Repository, verb: str) -> None:
        with pytest.raises(SessionNotFoundError):
            getattr(store_of(repository), verb)("20260101T000000-00000000")
