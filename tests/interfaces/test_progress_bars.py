"""Progress bars in notebooks: they appear after two seconds, and say how much is done."""

from __future__ import annotations

import io
import sys
import types
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import zarr

import versioned_zarr as vz
from versioned_zarr.engine.progress import Progress
from versioned_zarr.interfaces.display import progress_bar

HALF = Progress("keys", 1000, 2000, 5_000_000, 10_000_000)


class Handle:
    def __init__(self, shown: list[str]) -> None:
        self.shown = shown

    def update(self, picture: Any) -> None:
        self.shown.append(picture.data)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook would show: IPython with a kernel, whose bars need not wait."""
    import IPython.display

    pictures: list[str] = []

    def display(picture: Any, display_id: bool) -> Handle:
        assert display_id
        pictures.append(picture.data)
        return Handle(pictures)

    monkeypatch.setattr(IPython, "get_ipython", lambda: types.SimpleNamespace(kernel=1))
    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(progress_bar, "SILENT_S", 0)
    monkeypatch.setattr(progress_bar, "_EVERY_S", 0)
    return pictures


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="data") as session:
        zarr.create_array(session, name="t", shape=(400,), chunks=(10,), dtype="i4")[:] = 1
    return repository


def words(picture: str) -> str:
    return "".join(ET.fromstring(picture).itertext())


def failing() -> None:
    with progress_bar.shown_progress("pushing") as bar:
        assert bar is not None
        bar(HALF)
        raise vz.InvalidInputError("the reason")


def test_every_long_operation_shows_a_bar_in_a_notebook(
    repository: vz.Repository, tmp_path: Path, shown: list[str]
) -> None:
    other = str(tmp_path / "other.vz")
    snapshot, car = repository.checkout(), str(tmp_path / "a.car")
    operations = {
        "checking": repository.fsck,
        "collecting": repository.gc,
        "exporting": lambda: snapshot.to_folder(str(tmp_path / "out.zarr")),
        "hashing": lambda: vz.cid_of_folder(tmp_path / "out.zarr"),
        "importing": lambda: vz.import_zarr(repository, tmp_path / "out.zarr", path="in"),
        "cloning": lambda: vz.clone(repository.url, other),
        "pushing": lambda: vz.open(other).push(repository.url, "main:pushed"),
        "exporting ": lambda: repository.export_car("main", car),
        "importing ": lambda: vz.create(tmp_path / "third.vz").import_car(car),
    }
    for label, act in operations.items():
        shown.clear()
        act()
        if label == "pushing":  # nothing was sent
            continue
        assert shown, label
        assert words(shown[-1]).startswith(label.strip()), label
        assert ", done in 0:00" in words(shown[-1]), label


def test_a_bar_says_how_much_of_how_much(shown: list[str]) -> None:
    with progress_bar.shown_progress("pushing") as bar:
        bar(HALF)
        bar(Progress("bytes", 5, None, 5))
        bar(Progress("keys", 5, 20))
    assert "1,000 of 2,000 keys, 5.0 MB of 10.0 MB, 0:00 left" in words(shown[0])
    assert "width:50.0%" in shown[0]
    assert words(shown[1]).endswith("5 B")
    assert "5 of 20 keys" in words(shown[2])
    assert "done in 0:00" in words(shown[3])


def test_an_interrupted_bar_says_so(shown: list[str]) -> None:
    def interrupted() -> None:
        with progress_bar.shown_progress("pushing") as bar:
            bar(HALF)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "interrupted; run it again to resume" in words(shown[-1])


def test_the_bar_of_what_failed_says_so(shown: list[str]) -> None:
    with pytest.raises(vz.InvalidInputError):
        failing()
    assert words(shown[-1]).endswith(", failed")


def test_what_takes_less_than_two_seconds_shows_nothing(
    repository: vz.Repository, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_bar, "SILENT_S", 2.0)
    repository.fsck()
    assert shown == []


def test_a_progress_of_ones_own_takes_the_place_of_the_bar(
    repository: vz.Repository, shown: list[str]
) -> None:
    told: list[Progress] = []
    repository.fsck(progress=told.append)
    assert told
    assert shown == []


def test_scripts_show_nothing(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "SILENT_S", 0)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    repository.fsck()
    assert capsys.readouterr() == ("", "")


def test_ipython_in_a_terminal_draws_one_line(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", types.SimpleNamespace)
    monkeypatch.setattr(progress_bar, "SILENT_S", 0)
    monkeypatch.setattr(progress_bar, "_EVERY_S", 0)
    repository.fsck()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "checking ████████████████████████ " in said


class GoneStream(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(text)


@pytest.mark.parametrize(
    "stream", [None, GoneStream(), io.TextIOWrapper(io.BytesIO(), encoding="ascii")]
)
def test_an_operation_continues_if_its_terminal_is_gone(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, shown: list[str], stream: Any
) -> None:
    import IPython

    monkeypatch.setattr(IPython, "get_ipython", types.SimpleNamespace)
    monkeypatch.setattr(sys, "stderr", stream)
    clone = vz.clone(repository.url, f"memory://clone-{uuid.uuid4()}")
    assert clone.branches["main"] == repository.branches["main"]
    with pytest.raises(vz.InvalidInputError):
        failing()
    assert not shown


def test_an_operation_continues_if_the_notebook_is_gone(
    repository: vz.Repository, monkeypatch: pytest.MonkeyPatch, shown: list[str]
) -> None:
    import IPython.display

    def display(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("no connection")

    monkeypatch.setattr(IPython.display, "display", display)
    clone = vz.clone(repository.url, f"memory://clone-{uuid.uuid4()}")
    assert clone.branches["main"] == repository.branches["main"]
    assert not shown
