"""What is kept in memory of stored sessions: batches that no commit contains."""

from __future__ import annotations

from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.backends.objectstore.sessions.session_packs import SessionPacks
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    return vz.create(tmp_path / "r.vz", shared=True)


def packs_of(repository: Repository) -> SessionPacks:
    packs: SessionPacks = repository._open_sessions.store._log._packs  # type: ignore[attr-defined]
    return packs


def test_committed_batches_are_forgotten(repository: Repository) -> None:
    session = repository.session()
    assert session.url
    for number in range(6):
        for chunk in range(5):
            session.write(f"a/{chunk}", b"%d %d" % (number, chunk))
        assert len(packs_of(repository)._known) == 5
        session.commit(f"{number}")
        assert not packs_of(repository)._known
        assert bytes(session.read("a/4")) == b"%d 4" % number


def test_a_list_of_sessions_keeps_nothing_and_takes_nothing(
    repository: Repository, tmp_path: Path
) -> None:
    session = repository.session()
    assert session.url
    session.write("a", b"1" * 300_000)
    (info,) = repository.sessions.values()
    assert info.keys == 1
    assert not packs_of(repository)._known
    assert bytes(session.read("a")) == b"1" * 300_000
    session.write("b", b"2")
    session.commit("both")
    assert sorted(vz.open(tmp_path / "r.vz").checkout().keys()) == ["a", "b"]
