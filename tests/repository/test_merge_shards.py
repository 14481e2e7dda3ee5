"""Shards merge inner chunk by inner chunk, byte for byte, and a diff names those that differ."""

from __future__ import annotations

import json
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import zarr
from hypothesis import given
from zarr.abc.store import Store
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)

import versioned_zarr as vz
from tests.repository.test_merge_nodes import forked, values
from versioned_zarr.engine.hierarchy.merge.shard_merge import merge_shards
from versioned_zarr.engine.hierarchy.shards import (
    ShardLayout,
    assemble,
    changed_inner,
    inner_chunks,
    layout_of,
    order_of,
)
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session

Change = Callable[[Store], object]
SHAPE = (8, 12)
SHARD = (4, 6)
INNER = (2, 2)

LITTLE = BytesCodec(endian="little")
KINDS: dict[str, dict[str, Any]] = {
    "end": {},
    "start": {"index_location": "start"},
    "no checksum": {"index_codecs": [LITTLE]},
    "big": {"index_codecs": [BytesCodec(endian="big"), Crc32cCodec()]},
    "zstd": {"codecs": [LITTLE, ZstdCodec()]},
    "blosc, start": {"codecs": [LITTLE, BloscCodec(cname="zstd")], "index_location": "start"},
    "nested": {"codecs": [ShardingCodec(chunk_shape=(1, 1), codecs=[LITTLE])]},
}


def make(
    store: Store,
    kind: str = "end",
    before: tuple[Any, ...] = (),
    inner: tuple[int, int] = INNER,
) -> None:
    """The array `x` of 8 x 12 numbers; its shards have 2 x 3 inner chunks of 2 x 2."""
    sharding = ShardingCodec(chunk_shape=inner, **{"codecs": [LITTLE], **KINDS[kind]})
    zarr.create_group(store)
    metadata_of(store, [*before, sharding])


def metadata_of(store: Store, codecs: list[Any]) -> None:
    codec = [each.to_dict() if hasattr(each, "to_dict") else each for each in codecs]
    document = {
        "zarr_format": 3, "node_type": "array", "shape": list(SHAPE), "data_type": "int32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(SHARD)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": codec, "attributes": {}, "storage_transformers": [],
    }  # fmt: skip
    store._view.mapping["x/zarr.json"] = json.dumps(document).encode()


def opened(store: Store) -> Any:
    return zarr.open_array(store, path="x")


def write(rows: slice, columns: slice, value: Any) -> Change:
    def change(store: Store) -> None:
        opened(store)[rows, columns] = value

    return change


def numbers(store: Store) -> None:
    opened(store)[:] = np.arange(1, 97).reshape(SHAPE)


def both(*changes: Change) -> Change:
    def change(store: Store) -> None:
        for each in changes:
            each(store)

    return change


def sequence(*changes: Change) -> Repository:
    """What one writer makes of all changes in turn."""
    repository = vz.create(f"memory://{uuid.uuid4()}")
    with repository.session(message="all") as session:
        for change in changes:
            change(session.store)
    return repository


def merged(base: Change, ours: Change, theirs: Change) -> Repository:
    """The repository once merged, which has the same tree whichever side is ours."""
    repository = forked(base, ours, theirs)
    repository.branches.create("turned", "dev")
    repository.merge("main", into="turned")
    repository.merge("dev")
    assert repository.checkout().cid == repository.checkout("turned").cid
    assert repository.fsck().is_clean
    return repository


TOP_LEFT = write(slice(0, 2), slice(0, 2), 100)
BOTTOM_RIGHT = write(slice(2, 4), slice(4, 6), 200)
ACROSS = write(slice(1, 7), slice(9, 11), 300)


@pytest.mark.parametrize("kind", KINDS)
def test_inner_chunks_of_one_shard_merge_as_one_writer_makes_them(kind: str) -> None:
    def base(store: Store) -> None:
        make(store, kind)
        numbers(store)

    repository = merged(base, both(TOP_LEFT, ACROSS), BOTTOM_RIGHT)
    alone = sequence(base, TOP_LEFT, ACROSS, BOTTOM_RIGHT)
    assert (values(repository) == values(alone)).all()
    assert repository.checkout().cid == alone.checkout().cid


@pytest.mark.parametrize("kind", KINDS)
def test_shards_that_both_sides_added_merge(kind: str) -> None:
    repository = merged(lambda store: make(store, kind), TOP_LEFT, BOTTOM_RIGHT)
    alone = sequence(lambda store: make(store, kind), TOP_LEFT, BOTTOM_RIGHT)
    assert repository.checkout().cid == alone.checkout().cid
    assert (values(repository) == values(alone)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_inner_chunks_that_were_removed_stay_so(kind: str) -> None:
    def base(store: Store) -> None:
        make(store, kind)
        both(TOP_LEFT, BOTTOM_RIGHT)(store)

    no_top = write(slice(0, 2), slice(0, 2), 0)
    no_bottom = write(slice(2, 4), slice(4, 6), 0)
    repository = merged(base, no_top, no_bottom)
    assert "x/c/0/0" not in set(repository.checkout().mapping)
    assert (values(repository) == 0).all()
    middle = write(slice(0, 2), slice(2, 4), 7)
    repository = merged(base, both(no_top, no_bottom), middle)
    assert repository.checkout().cid == sequence(base, no_top, no_bottom, middle).checkout().cid


def test_an_inner_chunk_that_both_changed_is_a_conflict_and_the_others_merge() -> None:
    def base(store: Store) -> None:
        make(store)
        numbers(store)

    ours = both(write(slice(0, 2), slice(0, 4), 100), ACROSS)
    theirs = both(write(slice(0, 4), slice(2, 4), 200), BOTTOM_RIGHT)
    for side, value in (("ours", 100), ("theirs", 200), ("base", 3)):
        repository = forked(base, ours, theirs)
        with pytest.raises(vz.ConflictError) as caught:
            repository.merge("dev")
        (conflict,) = caught.value.conflicts
        (chunk,) = conflict.chunks
        assert (conflict.path, chunk.key, chunk.coordinates) == ("x", "x/c/0/0", (0, 0))
        assert chunk.inner == ((0, 1),)
        assert "x/c/0/0 inner chunk [0, 1]" in str(conflict)
        assert json.loads(json.dumps(conflict.to_dict()))["chunks"][0]["inner"] == [[0, 1]]
        repository.merge("dev", resolve=lambda conflict, side=side: side)
        found = values(repository)
        assert found[0, 2] == value
        assert (found[:2, :2] == 100).all()
        assert (found[2:4, 2:6] == 200).all()
        assert (found[1:7, 9:11] == 300).all()


def test_inner_chunks_of_nested_shards_merge() -> None:
    def base(store: Store) -> None:
        make(store, "nested")
        numbers(store)

    one, other = (write(slice(0, 1), slice(at, at + 1), 50) for at in (0, 1))
    repository = merged(base, one, other)
    assert repository.checkout().cid == sequence(base, one, other).checkout().cid


@pytest.mark.filterwarnings("ignore:Combining a `sharding_indexed` codec")
def test_transposed_shards_merge_and_their_inner_chunks_have_their_places() -> None:
    def base(store: Store) -> None:
        make(store, before=(TransposeCodec(order=(1, 0)),))
        numbers(store)

    repository = merged(base, TOP_LEFT, BOTTOM_RIGHT)
    alone = sequence(base, TOP_LEFT, BOTTOM_RIGHT)
    assert (values(repository) == values(alone)).all()
    assert repository.checkout().cid == alone.checkout().cid
    repository = forked(base, BOTTOM_RIGHT, write(slice(2, 4), slice(4, 6), 8))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert caught.value.conflicts[0].chunks[0].inner == ((1, 2),)


@given(
    grid=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    location=st.sampled_from(["start", "end"]),
    data=st.data(),
)
def test_a_shard_is_put_together_as_zarr_does(
    grid: list[int], location: Any, data: st.DataObject
) -> None:
    store = zarr.storage.MemoryStore()
    codec = ShardingCodec(chunk_shape=[1] * len(grid), codecs=[LITTLE], index_location=location)
    array = zarr.create_array(
        store, shape=grid, chunks=grid, dtype="u2", serializer=codec, fill_value=0, filters=None,
        compressors=None,
    )  # fmt: skip
    size = int(np.prod(grid))
    wanted = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    array[:] = np.array(wanted, "u2").reshape(grid)
    documents = {key: value.to_bytes() for key, value in store._store_dict.items()}
    layout = layout_of(json.loads(documents.pop("zarr.json")))
    assert layout is not None
    [shard] = documents.values() or [None]
    chunks = inner_chunks(layout, shard)
    assert chunks is not None
    assert [0 if chunk is None else int.from_bytes(chunk, "little") for chunk in chunks] == wanted
    order = order_of(layout, [shard])
    assert assemble(layout, chunks, order) == shard
    if sum(map(bool, wanted)) == size:
        assert order is layout.orders[0]


@given(st.data())
def test_what_differs_is_found_whatever_the_order_and_the_lengths(data: st.DataObject) -> None:
    layout = ShardLayout(
        (2, 3), (0, 1), data.draw(st.booleans()), byte_order="<", has_checksum=True
    )
    chunks = st.one_of(st.none(), st.binary(min_size=1, max_size=2))
    states = []
    for _ in range(2):
        parts = data.draw(st.lists(chunks, min_size=6, max_size=6))
        shard = assemble(layout, parts, data.draw(st.sampled_from(layout.orders)))
        states.append((parts, shard))
    reads = [
        None if shard is None else (len(shard), lambda start, end, of=shard: of[start:end])
        for _, shard in states
    ]
    (before, _), (after, _) = states
    wanted = [at for at in range(6) if before[at] != after[at]]
    assert changed_inner(layout, *reads) == wanted


@given(st.integers(0, 2), st.lists(st.integers(0, 2), min_size=24, max_size=24))
def test_inner_chunks_stay_in_the_order_of_their_writer(number: int, owners: list[int]) -> None:
    layout = ShardLayout((4, 6), (0, 1), is_at_start=False, byte_order="<", has_checksum=True)
    order = layout.orders[number]

    def changed(*sides: int) -> list[bytes | None]:
        return [
            b"side%d" % who if who in sides else b"base%d" % at for at, who in enumerate(owners)
        ]

    states = [assemble(layout, changed(*sides), order) for sides in ((), (1,), (2,))]
    found = merge_shards(layout, *states, may_agree=True)
    assert found is not None
    wanted = changed(1, 2)
    assert found.conflicts == []
    assert found.settled(1) == assemble(layout, wanted, order)


def test_shards_in_two_orders_merge_alike_whichever_is_ours() -> None:
    layout = ShardLayout((4, 6), (0, 1), is_at_start=True, byte_order=">", has_checksum=False)
    chunks: list[bytes | None] = [b"base%d" % at for at in range(24)]
    base = assemble(layout, chunks, layout.orders[0])
    ours = assemble(layout, [b"ours", *chunks[1:]], layout.orders[1])
    theirs = assemble(layout, [*chunks[:-1], b"theirs"], layout.orders[0])
    found = [
        merge_shards(layout, base, *sides, may_agree=True)
        for sides in ((ours, theirs), (theirs, ours))
    ]
    wanted = assemble(layout, [b"ours", *chunks[1:-1], b"theirs"], layout.orders[0])
    assert [each and each.settled(1) for each in found] == [wanted, wanted]


@pytest.mark.slow
def test_shards_that_are_large_together_are_stored_while_they_are_merged() -> None:
    size = 40 << 20

    def base(store: Store) -> None:
        array = zarr.create_array(
            store, name="x", shape=(2 * size,), chunks=(size // 4,), shards=(size,), dtype="u1",
            compressors=None, fill_value=0,
        )  # fmt: skip
        array[:] = 1

    def change(number: int) -> Change:
        def step(store: Store) -> None:
            array = zarr.open_array(store, path="x")
            for shard in (0, size):
                array[shard + number * (size // 4)] = 7 + number

        return step

    repository = forked(base, change(0), change(3))
    repository.merge("dev")
    found = values(repository)
    for shard in (0, size):
        assert (found[shard], found[shard + 3 * (size // 4)]) == (7, 10)
    assert int(found.sum(dtype="u8")) == 2 * size + 2 * (6 + 9)
    report = repository.fsck()
    assert report.is_clean
    assert not report.unreferenced


# What cannot be looked into


def damaged(at: int) -> Change:
    def change(store: Store) -> None:
        mapping = store._view.mapping
        data = bytearray(mapping["x/c/0/0"])
        data[at] ^= 1
        mapping["x/c/0/0"] = bytes(data)

    return change


@pytest.mark.parametrize(
    "change",
    [
        damaged(-1),
        damaged(-20),
        lambda store: store._view.mapping.__setitem__("x/c/0/0", b""),
        lambda store: store._view.mapping.__setitem__("x/c/0/0", b"garbage"),
        lambda store: store._view.mapping.__setitem__("x/c/0/0", b"\xff" * 400),
    ],
    ids=["checksum", "index", "empty", "short", "random"],
)
def test_a_shard_whose_index_is_damaged_conflicts_as_a_whole(change: Change) -> None:
    def base(store: Store) -> None:
        make(store)
        numbers(store)

    repository = forked(base, TOP_LEFT, change)
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    assert [(chunk.key, chunk.inner) for chunk in conflict.chunks] == [("x/c/0/0", ())]
    (diffed,) = repository.diff("main~1", "dev").nodes["x"].chunks
    assert diffed.inner_coordinates is None
    wanted = bytes(repository.checkout("dev").mapping["x/c/0/0"])
    repository.merge("dev", resolve="theirs")
    assert bytes(repository.checkout().mapping["x/c/0/0"]) == wanted


def test_an_index_that_leads_out_of_its_shard_is_none() -> None:
    def base(store: Store) -> None:
        make(store, "no checksum")
        numbers(store)

    for number in (2**63, 2**64 - 1, 2**64 - 2, 90):

        def lead_out(store: Store, number: int = number) -> None:
            mapping = store._view.mapping
            data = bytes(mapping["x/c/0/0"])
            mapping["x/c/0/0"] = data[:-96] + number.to_bytes(8, "little") + data[-88:]

        repository = forked(base, TOP_LEFT, lead_out)
        with pytest.raises(vz.ConflictError) as caught:
            repository.merge("dev")
        assert caught.value.conflicts[0].chunks[0].inner == ()


def test_an_index_that_leads_into_itself_is_none() -> None:
    layout = ShardLayout((2,), (0,), is_at_start=True, byte_order="<", has_checksum=False)
    shard = assemble(layout, [b"one", b"two"], layout.orders[1])
    assert shard is not None
    assert inner_chunks(layout, shard) == [b"one", b"two"]
    assert inner_chunks(layout, bytes(8) + shard[8:]) is None
    assert inner_chunks(layout, shard[:31]) is None


def test_shards_that_both_sides_laid_out_anew_conflict_as_a_whole() -> None:
    def anew(change: Change) -> Change:
        def step(store: Store) -> None:
            for key in list(store._view.mapping):
                del store._view.mapping[key]
            # As many inner chunks of as many bytes, in another form.
            make(store, inner=(4, 1))
            numbers(store)
            change(store)

        return step

    def base(store: Store) -> None:
        make(store)
        numbers(store)

    repository = forked(base, anew(TOP_LEFT), anew(BOTTOM_RIGHT))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    (conflict,) = caught.value.conflicts
    assert [(chunk.key, chunk.inner) for chunk in conflict.chunks] == [("x/c/0/0", ())]


@pytest.mark.parametrize(
    "codecs",
    [
        [{"name": "sharding_indexed", "configuration": {"chunk_shape": [2, 2]}}],
        [{"name": "sharding_indexed"}],
        ["sharding_indexed"],
        [],
        None,
        7,
        [{"name": "sharding_indexed", "configuration": 3}],
        [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [3, 2],
                    "index_codecs": [{"name": "bytes"}],
                    "codecs": [],
                },
            }
        ],
        [
            {
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": [2, 2],
                    "index_codecs": [{"name": "bytes"}, {"name": "gzip"}],
                    "codecs": [],
                },
            }
        ],
        [
            {"name": "transpose", "configuration": {"order": [0, 0]}},
            {
                "name": "sharding_indexed",
                "configuration": {"chunk_shape": [2, 2], "index_codecs": [{"name": "bytes"}]},
            },
        ],
    ],
)
def test_odd_codecs_make_chunks_that_are_one_value(codecs: Any) -> None:
    def base(store: Store) -> None:
        make(store)
        numbers(store)
        mapping = store._view.mapping
        document = {**json.loads(mapping["x/zarr.json"]), "codecs": codecs}
        mapping["x/zarr.json"] = json.dumps(document).encode()

    def put(value: bytes) -> Change:
        return lambda store: store._view.mapping.__setitem__("x/c/0/0", value)

    repository = forked(base, put(b"1" * 300), put(b"2" * 300))
    with pytest.raises(vz.ConflictError) as caught:
        repository.merge("dev")
    assert caught.value.conflicts[0].chunks[0].inner == ()
    (chunk,) = repository.diff("main").nodes["x"].chunks
    assert chunk.inner_coordinates is None


def test_an_array_without_dimensions_has_no_layout() -> None:
    index = {"index_codecs": [{"name": "bytes"}], "codecs": []}
    for shape, is_known in (([], False), ([2], True)):
        sharding = {"name": "sharding_indexed", "configuration": {"chunk_shape": shape, **index}}
        grid = {"name": "regular", "configuration": {"chunk_shape": shape}}
        document = {"chunk_grid": grid, "codecs": [sharding]}
        assert (layout_of(document) is not None) == is_known


# Sessions


def two_sessions() -> tuple[Repository, Session, Session]:
    repository = sequence(make, numbers)
    return repository, repository.session(), repository.session()


def test_sessions_that_wrote_other_inner_chunks_merge() -> None:
    repository, one, other = two_sessions()
    TOP_LEFT(one.store)
    BOTTOM_RIGHT(other.store)
    one.commit("one")
    other.commit("other")
    assert (values(repository)[:2, :2] == 100).all()
    assert (values(repository)[2:4, 4:6] == 200).all()


def test_an_inner_chunk_that_two_sessions_changed_alike_is_a_conflict() -> None:
    repository, one, other = two_sessions()
    TOP_LEFT(one.store)
    both(TOP_LEFT, BOTTOM_RIGHT)(other.store)
    one.commit("one")
    with pytest.raises(vz.ConflictError) as caught:
        other.commit("other")
    (conflict,) = caught.value.conflicts
    assert conflict.chunks[0].inner == ((0, 0),)
    assert conflict.kind is vz.ConflictKind.ALIKE
    assert "resolve={'x': 'ours'}" in str(conflict)
    other.commit("other", resolve={"x": "ours"})
    assert (values(repository)[2:4, 4:6] == 200).all()
    repository, one, other = two_sessions()
    TOP_LEFT(one.store)
    TOP_LEFT(other.store)
    one.commit("one")
    with pytest.raises(vz.ConflictError) as caught:
        other.commit("other")
    assert caught.value.conflicts[0].kind is vz.ConflictKind.ALIKE
    assert caught.value.conflicts[0].chunks[0].inner == ((0, 0),)


def test_branches_that_changed_an_inner_chunk_alike_agree() -> None:
    def base(store: Store) -> None:
        make(store)
        numbers(store)

    repository = merged(base, TOP_LEFT, both(TOP_LEFT, BOTTOM_RIGHT))
    assert repository.checkout().cid == sequence(base, TOP_LEFT, BOTTOM_RIGHT).checkout().cid


def test_a_change_of_an_inner_chunk_is_reverted_and_picked() -> None:
    repository = sequence(make, numbers)
    with repository.session(message="wrong") as session:
        TOP_LEFT(session.store)
    wrong = repository.branches["main"].cid
    with repository.session(message="later") as session:
        BOTTOM_RIGHT(session.store)
    repository.revert(wrong)
    assert repository.checkout().cid == sequence(make, numbers, BOTTOM_RIGHT).checkout().cid
    repository.cherry_pick(wrong)
    wanted = sequence(make, numbers, BOTTOM_RIGHT, TOP_LEFT).checkout().cid
    assert repository.checkout().cid == wanted


# What a diff says


@pytest.mark.parametrize("kind", KINDS)
def test_a_diff_names_the_inner_chunks_that_differ(kind: str) -> None:
    repository = sequence(lambda store: make(store, kind), numbers)
    with repository.session(message="change") as session:
        both(BOTTOM_RIGHT, write(slice(0, 2), slice(0, 2), 0), ACROSS)(session.store)
    diff = repository.diff("main")
    found = {chunk.coordinates: chunk.inner_coordinates for chunk in diff.nodes["x"].chunks}
    assert found == {
        (0, 0): ((0, 0), (1, 2)),
        (0, 1): ((0, 4), (0, 5), (1, 4), (1, 5)),
        (1, 1): ((2, 4), (2, 5), (3, 4), (3, 5)),
    }
    told = json.loads(json.dumps(diff.to_dict(inner_chunks=True)))
    assert told["nodes"][0]["chunks"][0]["inner_coordinates"] == [[0, 0], [1, 2]]
    assert "inner_coordinates" not in json.dumps(diff.to_dict())
    chunk = diff.nodes["x"].chunks[0]
    assert pickle.loads(pickle.dumps(chunk)).inner_coordinates == chunk.inner_coordinates
    backwards = repository.diff("main", "main~1").nodes["x"].chunks
    assert {chunk.coordinates: chunk.inner_coordinates for chunk in backwards} == found


def test_a_diff_names_the_inner_chunks_of_shards_that_come_and_go() -> None:
    repository = sequence(make, write(slice(0, 2), slice(0, 2), 1))
    with repository.session(message="change") as session:
        write(slice(0, 2), slice(0, 2), 0)(session.store)
        write(slice(4, 6), slice(6, 8), 2)(session.store)
        status = {
            chunk.how: chunk.inner_coordinates for chunk in session.status().nodes["x"].chunks
        }
    found = repository.diff("main").nodes["x"].chunks
    assert {chunk.how: chunk.inner_coordinates for chunk in found} == status
    assert status == {"removed": ((0, 0),), "added": ((2, 3),)}


def test_the_chunks_of_arrays_without_shards_have_no_inner_ones() -> None:
    for version in (2, 3):
        repository = vz.create(f"memory://{uuid.uuid4()}")
        with repository.session(message="made") as session:
            array = zarr.create_array(
                session.store, name="x", shape=(4,), chunks=(2,), dtype="i4", zarr_format=version
            )
            array[:] = 1
        chunks = repository.diff("main").nodes["x"].chunks
        assert {chunk.inner_coordinates for chunk in chunks} == {None}
