"""What a snapshot is: its tree, wherever it comes from."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz

VALUES = st.dictionaries(st.sampled_from("abc"), st.binary(max_size=2), max_size=3)


@given(VALUES, VALUES)
def test_snapshots_are_equal_if_their_values_are(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    snapshots = []
    for values in (one, other):
        repository = vz.create(f"memory://{uuid.uuid4()}")
        with repository.session() as session:
            for key, value in values.items():
                session.write(key, value)
            session.commit("x", allow_empty=True)
        snapshots.append(repository.checkout())
    assert (snapshots[0] == snapshots[1]) == (one == other)
    assert (snapshots[0].cid == snapshots[1].cid) == (one == other)
    assert len(set(snapshots)) == (1 if one == other else 2)
    assert snapshots[0] != snapshots[0].cid
    assert pickle.loads(pickle.dumps(snapshots[0])) == snapshots[0]


LOOK_UPS: dict[str, Callable[[vz.Snapshot | vz.Session, Any], object]] = {
    "find": lambda view, key: view._find(key),
    "read": lambda view, key: view.read(key),
    "get": lambda view, key: view.get(key),
    "size": lambda view, key: view.size(key),
    "keys": lambda view, key: list(view.keys(key)),
    "sizes": lambda view, key: list(view.sizes(key)),
    "list_dir": lambda view, key: view.list_dir(key),
    "is_empty": lambda view, key: view.is_empty(key),
}
CHANGES: dict[str, Callable[[vz.Session, Any], object]] = {
    "write": lambda view, key: view.write(key, b"x"),
    "write_new": lambda view, key: view.write_new(key, b"x"),
    "delete": lambda view, key: view.delete(key),
    "clear": lambda view, key: view.clear(key),
}


@pytest.mark.parametrize("key", [None, 7, b"a", ["a"], ("a",)])
@pytest.mark.parametrize("name", [*LOOK_UPS, *CHANGES])
def test_a_key_that_is_no_text_is_refused_by_its_name(name: str, key: object) -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    with repository.session(message="x") as session:
        session.write("a", b"1")
    session = repository.session()
    session.write("b", b"2")
    views = [session] if name in CHANGES else [session, repository.checkout()]
    for view in views:
        with pytest.raises(vz.InvalidKeyError):
            {**LOOK_UPS, **CHANGES}[name](view, key)
    assert sorted(session.keys()) == ["a", "b"]
    session.discard()
