"""Two processes that draw the same writer number do not take each other for themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.engine.stored_sessions import batch_writer


def test_a_writer_number_that_another_process_drew_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    session = vz.create(tmp_path / "r.vz", shared=True).session()
    drawn = iter([7, 7, 8])
    monkeypatch.setattr(batch_writer, "new_writer", lambda: next(drawn))
    assert session.url
    session.write("a", b"one")
    monkeypatch.setattr(batch_writer.platform, "node", lambda: "another machine")
    other = vz.open(tmp_path / "r.vz", verify="always").resume(session.id)
    other.write("a", b"two")
    other.write("b", b"2")
    with pytest.raises(vz.ConflictError, match="another machine"):
        session.commit("both")
    session.read("a")
    session.write("a", b"three")
    session.commit("three")
    assert bytes(vz.open(tmp_path / "r.vz").checkout().read("b")) == b"2"
