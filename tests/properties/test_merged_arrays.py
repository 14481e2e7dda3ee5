"""Whatever two branches wrote into an array: what a merge without conflicts makes of it is both."""

from __future__ import annotations

import uuid
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import zarr
from hypothesis import given

import versioned_zarr as vz
from versioned_zarr.repository.session import Session

LAYOUTS: list[dict[str, Any]] = [
    {"zarr_format": 2, "chunks": (2, 3)},
    {"zarr_format": 3, "chunks": (2, 3)},
    {"zarr_format": 3, "chunks": (1, 2), "shards": (2, 4)},
    {"zarr_format": 3, "chunks": (2, 1), "shards": {"shape": (4, 3), "index_location": "start"}},
]
REGIONS = st.tuples(st.integers(0, 7), st.integers(1, 3), st.integers(0, 7), st.integers(1, 3))
GROWTH = st.tuples(st.integers(0, 3), st.integers(0, 3))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), REGIONS, st.integers(0, 3)),
        st.tuples(st.just("grow"), GROWTH),
    ),
    max_size=4,
)
Steps = list[tuple[Any, ...]]


def apply(session: Session, steps: Steps, start: int) -> np.ndarray[Any, Any]:
    array = zarr.open_array(session.store, path="x")
    for step in steps:
        if step[0] == "grow":
            array.resize(
                tuple(size + more for size, more in zip(array.shape, step[1], strict=True))
            )
        else:
            row, height, column, width = step[1]
            # Values of this side's own, and the fill value, which removes chunks.
            value = step[2] and start + step[2]
            array[row : row + height, column : column + width] = value
    session.write(f"of {start}", b"")
    found: np.ndarray[Any, Any] = array[:]
    return found


def padded(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    sizes = [(0, size - own) for size, own in zip(shape, array.shape, strict=True)]
    return np.pad(array, sizes)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(base=STEPS, ours=STEPS, theirs=STEPS, as_sessions=st.booleans())
def test_a_merged_array_is_what_both_wrote(
    layout: dict[str, Any], base: Steps, ours: Steps, theirs: Steps, as_sessions: bool
) -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    with repository.session(message="base") as session:
        zarr.create_array(session.store, name="x", shape=(5, 7), dtype="i2", fill_value=0, **layout)
        before = apply(session, base, 10)
    repository.branches.create("dev")
    one, other = repository.session(), repository.session("main" if as_sessions else "dev")
    mine, others = apply(one, ours, 20), apply(other, theirs, 30)
    one.commit("ours")
    try:
        other.commit("theirs")
        if not as_sessions:
            repository.merge("dev")
    except vz.ConflictError as error:
        for conflict in error.conflicts:
            assert str(conflict)
            assert conflict.path in ("x", "x/zarr.json", "x/.zarray")
        return
    found = zarr.open_array(repository.checkout().store, path="x", mode="r")[:]
    shape = mine.shape if mine.shape != before.shape else others.shape
    assert found.shape == shape
    before, mine, others = (padded(each, shape) for each in (before, mine, others))
    wanted = np.where(mine == before, others, mine)
    assert (found == wanted).all()
    assert repository.fsck().is_clean
