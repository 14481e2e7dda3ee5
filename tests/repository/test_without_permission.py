"""Who may read a repository and not write to it: sees all, sessions too, and changes nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.cli.app import run

NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody reaches; the one of `tmp_path` is its owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder) / "r.vz"


@contextmanager
def reading_only(place: Path) -> Iterator[None]:
    """Take away the permission to write: as nobody, or where that is not allowed by the modes."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    for path in [*place.rglob("*"), place]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        yield
    finally:
        for path in [place, *place.rglob("*")]:
            path.chmod(0o755)


@pytest.mark.parametrize("is_alive", [True, False])
def test_a_session_is_seen(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    session = vz.create(place).session()
    session.write("a", b"1" * 3_000)
    if not is_alive:
        session._working.end("died", keep_folder=True)
    repository = vz.open(place)
    str(repository), repository._repr_html_()  # whatever they import is imported
    with reading_only(place):
        (info,) = repository.sessions.values()
        assert (info.id, info.keys, info.is_alive) == (session.id, 1, is_alive)
        assert session.id in str(repository)
        assert session.id in repository._repr_html_()
        assert repository.resume(session.id).read("a") == b"1" * 3_000
        monkeypatch.setenv("VERSIONED_ZARR_REPO", str(place))
        for command in ("status", "sessions"):
            run([command])
            assert session.id in capfd.readouterr().out
            run([command, "--json"])
            assert session.id in capfd.readouterr().out


def test_a_session_that_was_left_behind_is_not_finished_or_dropped(place: Path) -> None:
    session = vz.create(place).session()
    session.write("a", b"1")
    session._working.end("died", keep_folder=True)
    repository = vz.open(place)
    with reading_only(place):
        for refuse in (
            lambda: repository.resume(session.id).write("b", b"2"),
            lambda: repository.resume(session.id).commit("one"),
            lambda: repository.sessions.delete(session.id),
        ):
            with pytest.raises(vz.ReadOnlyError, match="no permission"):
                refuse()
    assert repository.resume(session.id).commit("one") == repository.branches["main"]


def test_all_is_read_and_nothing_is_changed(place: Path) -> None:
    with vz.create(place).session(message="one") as session:
        session.write("a", b"1" * 3_000)
    with reading_only(place):
        repository = vz.open(place, verify="always")
        assert dict(repository.checkout().mapping) == {"a": b"1" * 3_000}
        assert next(repository.log()).message == "one"
        for refuse in (
            lambda: repository.session().write("b", b"2"),
            lambda: repository.branches.create("dev"),
            lambda: repository.tags.create("v1"),
            lambda: repository.branches.rename("main", "dev"),
        ):
            with pytest.raises(vz.ReadOnlyError, match="no permission"):
                refuse()
    assert dict(repository.checkout().mapping) == {"a": b"1" * 3_000}
    assert (list(repository.branches), list(repository.tags)) == (["main"], [])
