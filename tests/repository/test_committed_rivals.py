"""A write of a process that did not know what another wrote and a commit contains is a conflict."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import versioned_zarr as vz
from versioned_zarr.repository.session import Session


def copies(session: Session, folder: Path) -> Session:
    """A copy of a session, as in a process of its own."""
    known = pickle.loads(pickle.dumps(session))._known
    other = vz.open(folder, verify="always").resume(session.id)
    other._known = known
    return other


def test_a_copy_that_did_not_read_a_committed_value_conflicts(tmp_path: Path) -> None:
    session = vz.create(tmp_path / "r.vz").session()
    session.write("a", b"0")
    session.write("b", b"0")
    other = copies(session, tmp_path / "r.vz")
    session.write("a", b"1")
    session.write("b", b"1")
    session.commit("one")
    other.write("a", b"2")
    other.write("b", b"1")  # the same bytes
    with pytest.raises(vz.ConflictError, match="a: written twice") as caught:
        session.commit("two")
    assert [conflict.path for conflict in caught.value.conflicts] == ["a"]
    session.read("a")
    session.write("a", b"3")
    session.commit("both")
    assert bytes(vz.open(tmp_path / "r.vz").checkout().read("a")) == b"3"


def test_a_copy_that_read_it_does_not(tmp_path: Path) -> None:
    session = vz.create(tmp_path / "r.vz").session()
    session.write("a", b"0")
    other = copies(session, tmp_path / "r.vz")
    session.write("a", b"1")
    session.commit("one")
    assert bytes(other.read("a")) == b"1"
    other.write("a", b"2")
    session.commit("two")
    assert bytes(vz.open(tmp_path / "r.vz").checkout().read("a")) == b"2"
