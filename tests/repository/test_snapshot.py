"""What a snapshot is: its tree, wherever it comes from."""

from __future__ import annotations

import pickle
import uuid

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
