"""An exception at any point of a write or a commit leaves the session as it was, or was to be.

A tracer raises at each call, line and return of the package's code in turn; real signals come when
they like.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import versioned_zarr as vz
from tests.torture import SEED, TIMES

PACKAGE = str(Path(vz.__file__).parent)
STRIDE = max(1, 17 // TIMES)
SMALL, LARGE = b"s" * 100, random.Random(3).randbytes(1_200_000)
BASE = {"base/a": b"1", "base/b": b"2", "base/large": LARGE[:-1]}
WRITTEN = {"k/0": b"zero", "k/1": LARGE[1:]}

# What is written when an object that nobody holds any more is closed cannot raise to anybody.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


class Stop(BaseException):
    """As an interrupt: nothing of the package catches it."""


class Stopper:
    """Raises at the nth point that is passed in the package's code."""

    def __init__(self, at: int) -> None:
        self.at, self.passed, self.where = at, 0, ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event != "exception":
            self.passed += 1
            if self.passed == self.at:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {event}"
                raise Stop
        return self

    def stops(self, act: Callable[[], object]) -> bool:
        """Whether the action was stopped, as it has so many points."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            act()
        except Stop:
            return True
        finally:
            sys.settrace(before)
        return False


def opened(place: Path) -> vz.Session:
    shutil.rmtree(place, ignore_errors=True)
    repository = vz.create(place)
    with repository.session(message="base") as session:
        for key, value in BASE.items():
            session.write(key, value)
    return repository.session()


def stopped_everywhere(
    place: Path, act: Callable[[vz.Session], object], written: dict[str, bytes]
) -> Iterator[tuple[vz.Session, str]]:
    """Sessions in which the action was stopped, at a later point each time, until it is not."""
    at = 1 + SEED % STRIDE
    while True:
        session = opened(place)
        for key, value in written.items():
            session.write(key, value)
        stopper = Stopper(at)
        if not stopper.stops(lambda: act(session)):  # noqa: B023 - called at once
            assert at > 50
            return
        yield session, stopper.where
        at += STRIDE


def read(view: vz.Session | vz.Snapshot, key: str) -> bytes | None:
    value = view.get(key)
    return None if value is None else bytes(value)


ACTS: dict[str, tuple[Callable[[vz.Session], object], dict[str, list[bytes | None]]]] = {
    "write": (lambda session: session.write("k/2", SMALL), {"k/2": [None, SMALL]}),
    "write a large value": (lambda session: session.write("k/2", LARGE), {"k/2": [None, LARGE]}),
    "overwrite": (lambda session: session.write("k/0", SMALL), {"k/0": [b"zero", SMALL]}),
    "overwrite the base": (
        lambda session: session.write("base/a", SMALL),
        {"base/a": [b"1", SMALL]},
    ),
    "write what is stored": (lambda session: session.write("k/2", b"2"), {"k/2": [None, b"2"]}),
    "delete": (lambda session: session.delete("k/0"), {"k/0": [b"zero", None]}),
    "delete of the base": (lambda session: session.delete("base/a"), {"base/a": [b"1", None]}),
    "clear": (
        lambda session: session.clear("k"),
        {"k/0": [b"zero", None], "k/1": [LARGE[1:], None]},
    ),
    "commit": (lambda session: session.commit("x"), {}),
}


@pytest.mark.torture
@pytest.mark.parametrize("name", ACTS)
def test_a_session_goes_on_wherever_it_is_stopped(tmp_path: Path, name: str) -> None:
    act, allowed = ACTS[name]
    for session, where in stopped_everywhere(tmp_path / "r.vz", act, WRITTEN):
        now: dict[str, bytes | None] = {}
        for key in {**BASE, **WRITTEN, **allowed}:
            now[key] = read(session, key)
            assert now[key] in allowed.get(key, [{**BASE, **WRITTEN}.get(key)]), where
        now |= {"later/small": SMALL, "later/large": LARGE, "k/0": b"again"}
        for key in ("later/small", "later/large", "k/0"):
            session.write(key, now[key] or b"")
        session.commit("after")
        again = vz.open(tmp_path / "r.vz", verify="always")
        assert again.fsck().is_clean, where
        snapshot = again.checkout()
        assert {key: read(snapshot, key) for key in now} == now, where
        session.write("more", b"1")
        session.commit("more")
        assert [commit.message for commit in again.log()].count("after") == 1, where


@pytest.mark.torture
def test_a_first_write_that_was_stopped_can_be_made_again(tmp_path: Path) -> None:
    act = ACTS["write"][0]
    for session, where in stopped_everywhere(tmp_path / "r.vz", act, {}):
        session.write("k/2", SMALL)
        session.commit("after")
        again = vz.open(tmp_path / "r.vz", verify="always")
        assert read(again.checkout(), "k/2") == SMALL, where
        assert again.fsck().is_clean, where
        session.discard()
        assert not again.sessions, where


@pytest.mark.torture
def test_a_discard_that_was_stopped_can_be_made_again(tmp_path: Path) -> None:
    for session, where in stopped_everywhere(tmp_path / "r.vz", vz.Session.discard, WRITTEN):
        session.discard()
        again = vz.open(tmp_path / "r.vz")
        assert not again.sessions, where
        assert again.fsck().is_clean, where


@pytest.mark.torture
def test_a_discard_that_was_stopped_is_done_or_not_done(tmp_path: Path) -> None:
    for session, where in stopped_everywhere(tmp_path / "r.vz", vz.Session.discard, WRITTEN):
        for info in vz.open(tmp_path / "r.vz").sessions.values():
            assert info.keys == len(WRITTEN) or info.problem is not None, where
        with session.repository.session(message="goes on") as other:
            other.write("on", b"1")


def test_what_joins_packs_turns_no_commit_into_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(tmp_path / "r.vz")

    def fail(_: object) -> None:
        raise vz.StorageFullError("no room", where="here")

    monkeypatch.setattr(type(session.repository), "_tidy", fail)
    session.write("a", b"1")
    commit = session.commit("x")
    assert session.repository.branches["main"] == commit
    session.repository.branches.create("dev", "main~1")
    assert session.repository.merge("main", into="dev") == commit


@pytest.mark.torture
def test_signals_leave_no_hole(tmp_path: Path) -> None:
    session = opened(tmp_path / "r.vz")
    chance = random.Random(SEED)
    expected: dict[str, set[bytes]] = {}
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        for number in range(200 * TIMES):
            key, value = f"k/{number % 17}", chance.randbytes(chance.choice([10, 5000, 1_100_000]))
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 3e-3))
                session.write(key, value)
                signal.setitimer(signal.ITIMER_REAL, 0)
                expected[key] = {value}
            except KeyboardInterrupt:
                expected.setdefault(key, {b""}).add(value)
            if number % 40 == 39:
                try:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-4, 2e-2))
                    session.commit("x", allow_empty=True)
                    signal.setitimer(signal.ITIMER_REAL, 0)
                except KeyboardInterrupt:
                    pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    session.commit("all", allow_empty=True)
    again = vz.open(tmp_path / "r.vz", verify="always")
    assert again.fsck().is_clean
    for key, values in expected.items():
        found = read(again.checkout(), key)
        assert (b"" if found is None else found) in values


def test_a_value_that_was_stopped_between_its_room_and_its_bytes_is_stored_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(tmp_path / "r.vz")
    draft_type = type(session.repository._stores.storage.open_draft("x.draft"))
    real = draft_type.write

    def stop(*_: object) -> None:
        monkeypatch.setattr(draft_type, "write", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(draft_type, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        session.write("a", LARGE[:100_000])
    session.write("b", LARGE[:300_000])
    session.commit("what there is")
    os.unlink(tmp_path / "r.vz" / "x.draft")
    again = vz.open(tmp_path / "r.vz", verify="always")
    with again.session(message="again") as other:
        other.write("a", LARGE[:100_000])
    assert bytes(again.checkout().read("a")) == LARGE[:100_000]
    assert again.fsck().is_clean
