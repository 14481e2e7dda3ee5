"""Processes that write the same key of a stored session without knowing of each other."""

from __future__ import annotations

from pathlib import Path

import pytest

import versioned_zarr as vz


@pytest.mark.parametrize("values", [(b"A", b"B"), (b"B", b"A")])
@pytest.mark.parametrize("committer", [0, 1])
def test_an_equal_value_is_not_replaced_by_who_did_not_know_it(
    tmp_path: Path, values: tuple[bytes, bytes], committer: int
) -> None:
    session = vz.create(tmp_path / "r.vz", shared=True).session()
    assert session.id in session.url
    other = vz.open(tmp_path / "r.vz", verify="always").resume(session.id)
    first, second = values
    session.write("a", first)
    other.write("a", first)
    session.write("a", second)
    with pytest.raises(vz.ConflictError):
        (session, other)[committer].commit("both")
    other.read("a")
    other.write("a", first)
    session.commit("resolved")
    assert bytes(vz.open(tmp_path / "r.vz").checkout().read("a")) == first
