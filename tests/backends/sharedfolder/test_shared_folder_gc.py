"""Gc in a shared folder, with writers of other machines at its calls, and the reverse.

The stories are those of object stores. Here an act comes before a call that opens, creates,
renames or removes a file.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest

import versioned_zarr as vz
from versioned_zarr import location

pytest.importorskip("obstore")

from tests.backends.objectstore.test_object_store_gc import (
    NOW,
    WRITERS,
    Act,
    World,
    collects,
    repacks,
    runs,
)
from versioned_zarr.backends.sharedfolder import folder_calls
from versioned_zarr.backends.sharedfolder.shared_folder_storage import SharedFolderStorage

pytestmark = [pytest.mark.torture, pytest.mark.usefixtures("clients")]

CALLS = ("open_new", "open_for_reading", "link", "replace", "unlink", "revisit")
STRIDE = 40
BACKGROUND = ("vz-tails", "vz-open")
"""Threads that read ahead, perhaps for the other machine, which would wait for itself."""


class Folder(World):
    def place(self) -> tuple[str, dict[str, Any]]:
        return str(self.folder / "shared.vz"), {"shared": True}

    def machine(self) -> vz.Repository:
        # One process shares what it has opened, also with a push that one of its acts makes.
        location._OPEN().clear()
        found = super().machine()
        location._OPEN().clear()
        return found

    def check(self) -> None:
        # A pack that an act wrote on another thread may be left to the gc after the next one.
        self.machine().gc(keep_reflog=NOW)
        super().check()


class Hooked:
    """The calls, with an act of another machine before one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.at = -1
        self.act: Callable[[], object] = lambda: None
        self.is_acting = False
        self._guard = threading.Lock()
        for name in CALLS:
            monkeypatch.setattr(folder_calls, name, self._before(getattr(folder_calls, name)))
        # No power is lost here, and thousands of syncs take minutes.
        monkeypatch.setattr(os, "fsync", lambda fd: None)
        monkeypatch.setattr(os, "fdatasync", lambda fd: None)

    def _before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def hooked(*arguments: Any) -> Any:
            if threading.current_thread().name.startswith(BACKGROUND):
                return call(*arguments)
            with self._guard:
                is_due = self.made == self.at and not self.is_acting
                self.made += not self.is_acting
                self.is_acting |= is_due
            if is_due:
                try:
                    self.act()
                finally:
                    self.is_acting = False
            return call(*arguments)

        return hooked


@pytest.fixture(params=["fresh", "stale"])
def clients(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether a machine sees at once what others did, or remembers names as NFS may."""
    if request.param == "stale":
        remember_names(monkeypatch)
    return str(request.param)


def remember_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each machine remember names for ever, as no NFS does.

    A list of a folder is remembered until the machine itself changes a name in it, whoever opens
    it; a missing name, until the machine opens its folder or tries to make the name.
    """
    lists: WeakKeyDictionary[SharedFolderStorage, dict[str, Any]] = WeakKeyDictionary()
    missing: WeakKeyDictionary[SharedFolderStorage, set[str]] = WeakKeyDictionary()
    entries, read = SharedFolderStorage._entries, SharedFolderStorage._read

    def remembered(self: SharedFolderStorage, folder: str) -> Any:
        known = lists.setdefault(self, {})
        if folder not in known:
            known[folder] = entries(self, folder)
        return known[folder]

    def read_remembered(self: SharedFolderStorage, path: str, full: str, *place: Any) -> Any:
        if full in missing.setdefault(self, set()):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), full)
        try:
            return read(self, path, full, *place)
        except FileNotFoundError:
            missing[self].add(full)
            raise

    revisit = SharedFolderStorage._revisit

    def revisit_and_forget(self: SharedFolderStorage, folder: str) -> None:
        revisit(self, folder)
        found = missing.setdefault(self, set())
        found.difference_update([each for each in found if os.path.dirname(each) == folder])

    monkeypatch.setattr(SharedFolderStorage, "_revisit", revisit_and_forget)
    monkeypatch.setattr(SharedFolderStorage, "_entries", remembered)
    monkeypatch.setattr(SharedFolderStorage, "_read", read_remembered)
    for name in ("create", "put", "delete", "take", "_server_time_s"):
        call = getattr(SharedFolderStorage, name)

        def changing(
            self: SharedFolderStorage, path: str, *more: Any, call: Any = call, **named: Any
        ) -> Any:
            full = self._path(path)
            folder = full if call.__name__ == "_server_time_s" else os.path.dirname(full)
            there = os.path.isdir(folder)
            try:
                return call(self, path, *more, **named)
            finally:
                missing.setdefault(self, set()).discard(full)
                known = lists.setdefault(self, {})
                known.pop(folder, None)
                while not there and len(folder) > len(self.folder):
                    folder = os.path.dirname(folder)
                    known.pop(folder, None)

        monkeypatch.setattr(SharedFolderStorage, name, changing)


@pytest.fixture
def hooked(monkeypatch: pytest.MonkeyPatch) -> Hooked:
    return Hooked(monkeypatch)


def run(hooked: Any, monkeypatch: pytest.MonkeyPatch, folder: Path, pair: tuple[Act, Act]) -> None:
    runs(hooked, monkeypatch, folder, pair, is_mixed=True, make_world=Folder, most=STRIDE)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_acts_at_the_calls_of_gc(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writer: Act
) -> None:
    run(hooked, monkeypatch, tmp_path, (collects, writer))


@pytest.mark.parametrize("writer", WRITERS)
def test_gc_runs_at_the_calls_of_a_writer(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, writer: Act
) -> None:
    run(hooked, monkeypatch, tmp_path, (writer, collects))


@pytest.mark.parametrize("first", [collects, repacks])
def test_a_collector_acts_at_the_calls_of_another(
    hooked: Hooked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: Act
) -> None:
    run(hooked, monkeypatch, tmp_path, (first, collects))
