"""Gc in a shared folder, with writers of other machines at its calls, and the reverse.

The stories are those of object stores. Here an act comes before a call that opens, creates,
renames or removes a file.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from versioned_zarr import location

pytest.importorskip("obstore")

from tests.backends.objectstore.test_object_store_gc import (
    WRITERS,
    Act,
    World,
    collects,
    repacks,
    runs,
)
from versioned_zarr.backends.sharedfolder import folder_calls

pytestmark = pytest.mark.torture

CALLS = ("open_new", "open_for_reading", "link", "replace", "unlink", "revisit")
STRIDE = 40
BACKGROUND = ("vz-tails", "vz-open")
"""Threads that read ahead, perhaps for the other machine, which would wait for itself."""


class Folder(World):
    def place(self) -> tuple[str, dict[str, Any]]:
        return str(self.folder / "shared.vz"), {"shared": True}

    def machine(self) -> vz.Repository:
        location._OPEN().clear()  # one process shares what it has opened
        return super().machine()


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
