"""What is missing in an array: every stored chunk without a value, and no other, in order."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz

_places = itertools.count()


def new_session() -> vz.Session:
    return vz.create(f"memory://missing-{next(_places)}").session()


@st.composite
def arrays(draw: st.DrawFn) -> dict[str, Any]:
    """What `zarr.create_array` is called with: formats 2 and 3, sharded, any keys and depth."""
    shape = tuple(draw(st.lists(st.integers(0, 7), max_size=3)))
    chunks = tuple(draw(st.integers(1, 3)) for _ in shape)
    found: dict[str, Any] = {
        "shape": shape,
        "chunks": chunks,
        "zarr_format": draw(st.sampled_from([2, 3])),
    }
    if found["zarr_format"] == 2:
        separator = draw(st.sampled_from("./"))
        found["chunk_key_encoding"] = {"name": "v2", "separator": separator}
    else:
        name, separator = draw(st.tuples(st.sampled_from(["v2", "default"]), st.sampled_from("./")))
        found["chunk_key_encoding"] = {"name": name, "separator": separator}
        if shape and draw(st.booleans()):
            found["shards"] = tuple(draw(st.integers(1, 2)) * each for each in chunks)
    return found


@given(arrays(), st.sampled_from(["", "air", "a/b/c"]), st.data())
def test_what_is_written_is_not_missing_and_the_rest_is(
    made: dict[str, Any], path: str, data: st.DataObject
) -> None:
    session = new_session()
    array = zarr.create_array(
        session,
        name=path or None,
        dtype="i4",
        fill_value=0,
        config={"write_empty_chunks": True},
        **made,
    )
    before = set(session.keys())
    missing = session.missing(path)
    every = list(missing)
    assert len(missing) == missing.total == len(every)
    assert list(missing.coordinates) == sorted(missing.coordinates)
    written = data.draw(st.sets(st.integers(0, len(every) - 1)) if every else st.just(set()))
    for number in written:
        array[every[number]] = number + 1
    again = session.missing(path)
    rest = [region for number, region in enumerate(every) if number not in written]
    assert list(again) == rest
    assert (len(again), again.written) == (len(rest), len(written))
    keys = list(again.keys)
    assert not set(keys) & set(session.keys())
    for region in again:
        array[region] = -1
    assert not session.missing(path)
    assert set(session.keys()) - before >= set(keys)
    assert set(session.keys()) - before == set(missing.keys)
    if array.size:
        assert np.all(array[...] != 0)


def test_all_arrays_are_listed_by_path() -> None:
    session = new_session()
    root = zarr.create_group(session)
    air = root.create_array("a/air", shape=(4,), chunks=(2,), dtype="i4")
    root.create_array("sea", shape=(4,), chunks=(2,), dtype="i4")[:] = 1
    root.create_array("mask", shape=(), dtype="i4")
    air[:2] = 1
    found = session.missing()
    assert {path: len(chunks) for path, chunks in found.items()} == {"a/air": 1, "mask": 1}
    assert list(found["a/air"].keys) == ["a/air/c/1"]
    commit = session.commit("part")
    snapshot = session.repository.checkout(commit.cid)
    assert {path: len(chunks) for path, chunks in snapshot.missing().items()} == {
        "a/air": 1,
        "mask": 1,
    }
    assert list(snapshot.path("a").missing("air").keys) == ["air/c/1"]


def test_the_regions_end_at_the_edge_and_chunks_outside_the_grid_do_not_count() -> None:
    session = new_session()
    air = zarr.create_array(session, name="air", shape=(5, 3), chunks=(2, 2), dtype="i4")
    air[:] = 1
    session.write("air/c/7/7", b"left of a larger array")
    session.delete("air/c/2/1")
    assert list(session.missing("air")) == [(slice(4, 5), slice(2, 3))]
    assert list(session.missing("air").coordinates) == [(2, 1)]


def test_chunks_of_only_the_fill_value_count_as_missing() -> None:
    session = new_session()
    air = zarr.create_array(session, name="air", shape=(4,), chunks=(2,), dtype="i4", fill_value=7)
    air[:] = 7
    assert len(session.missing("air")) == 2


def test_what_is_no_array_is_an_error() -> None:
    session = new_session()
    root = zarr.create_group(session)
    root.create_array("a/air", shape=(4,), dtype="i4")
    with pytest.raises(vz.InvalidInputError, match="arrays below it: 'a/air'"):
        session.missing("a")
    with pytest.raises(vz.KeyNotFoundError, match="'b'"):
        session.missing("b")
    with pytest.raises(vz.InvalidKeyError):
        session.missing(5)  # type: ignore[call-overload]


def test_a_huge_grid_costs_what_is_written() -> None:
    session = new_session()
    air = zarr.create_array(session, name="air", shape=(10**15,), chunks=(1000,), dtype="i4")
    air[5000:6000] = 1
    missing = session.missing("air")
    assert (len(missing), missing.written) == (10**12 - 1, 1)
    assert list(itertools.islice(missing.keys, 4, 6)) == ["air/c/4", "air/c/6"]


def test_a_session_reads_no_chunk_and_looks_none_up_to_list_what_is_missing() -> None:
    session = new_session()
    air = zarr.create_array(session, name="air", shape=(100,), chunks=(1,), dtype="i4")
    air[:50] = 1
    looked = []
    find = session._working.find

    class Counting:
        """The state of the session, which tells what is looked up."""

        def __getattr__(self, name: str) -> Any:
            return getattr(working, name)

        def find(self, key: str) -> Any:
            looked.append(key)
            return find(key)

    working, session._working = session._working, Counting()
    assert len(session.missing("air")) == 50
    assert looked == ["air/zarr.json"]
