"""The blocks of a DAG: all of them, those of a path, those of a range; whoever wrote it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tree.blocks import SHA2, Blocks, build
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError, KeyNotFoundError
from versioned_zarr.ipld import Cid, Link, dag_pb, hamt, unixfs
from versioned_zarr.ipld.identity import inline
from versioned_zarr.ipld.unixfs import UnixFsType
from versioned_zarr.ipld.varint import encode as varint
from versioned_zarr.tree.dag import (
    Block,
    Scope,
    Span,
    blocks_below,
    blocks_of_path,
    resolve,
)
from versioned_zarr.tree.dag_nodes import decode_node, kind_of, pieces, size_of


class Writer:
    """Writes values as other tools may: any leaf size, raw, dag-pb, inlined or CIDv0 leaves."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.blocks = Blocks()

    def put(self, cid: Cid, block: bytes) -> Cid:
        self.blocks.by_cid[cid] = block
        return cid

    def value(self, data: bytes) -> Cid:
        cut = sorted(self.random.randrange(len(data) + 1) for _ in range(len(data) // 3))
        parts = [data[a:b] for a, b in zip([0, *cut], [*cut, len(data)], strict=True)]
        level = [(self.leaf(part), len(part)) for part in parts]
        while len(level) > 1:
            width = self.random.randint(2, 4)
            level = [self.node(level[at : at + width]) for at in range(0, len(level), width)]
        return level[0][0]

    def leaf(self, data: bytes) -> Cid:
        form = self.random.choice(["raw", "file", "raw node", "v0", "identity"])
        if form == "raw":
            return self.put(SHA2.raw(data), data)
        if form == "identity":
            return Cid(b"\x01\x55\x00" + varint(len(data)) + data)
        kind = b"\x08\x00" if form == "raw node" else b"\x08\x02"
        return self.dag_pb(dag_pb.encode([], kind + _field(data) + b"\x18" + varint(len(data))))

    def node(self, parts: Sequence[tuple[Cid, int]]) -> tuple[Cid, int]:
        size = sum(size for _, size in parts)
        sizes = b"".join(b"\x20" + varint(size) for _, size in parts)
        data = b"\x08\x02\x18" + varint(size) + sizes
        return self.dag_pb(dag_pb.encode([("", cid, 9) for cid, _ in parts], data)), size

    def dag_pb(self, block: bytes) -> Cid:
        cid = SHA2.dag_pb(block)
        return self.put(Cid(cid[2:]) if self.random.random() < 0.3 else cid, block)


def _field(data: bytes) -> bytes:
    return b"\x12" + varint(len(data)) + data


def cids_of(blocks: Iterable[Block]) -> list[Cid]:
    return [cid for cid, _ in blocks]


SEEDS = st.integers(0, 1 << 32)
VALUES = st.binary(max_size=60) | st.sampled_from([bytes(50), b"ab" * 30])  # repeated leaves, too
SPANS = st.builds(Span, st.integers(-70, 70), st.none() | st.integers(-70, 70))


@given(SEEDS, VALUES, SPANS)
def test_the_blocks_of_a_span_rebuild_exactly_that_range(
    seed: int, value: bytes, span: Span
) -> None:
    writer = Writer(seed)
    root = writer.value(value)
    held = dict(blocks_of_path(writer.blocks.get, resolve(writer.blocks.get, root, []), span=span))

    def get(cid: Cid) -> bytes | memoryview:
        return held[cid]

    assert size_of(writer.blocks.get, root) == len(value)
    start, stop = span.within(len(value))
    assert b"".join(pieces(get, root, start, stop)) == value[start:stop]
    last = len(value) - 1 if span.last is None else span.last
    stop_said = (len(value) + last if last < 0 else last) + 1
    start_said = max(0, len(value) + span.first) if span.first < 0 else span.first
    assert value[start:stop] == value[start_said : max(0, stop_said)]


@given(SEEDS, VALUES, SPANS)
def test_no_block_of_a_span_can_be_left_out(seed: int, value: bytes, span: Span) -> None:
    writer = Writer(seed)
    root = writer.value(value)
    way = resolve(writer.blocks.get, root, [])
    held = dict(blocks_of_path(writer.blocks.get, way, span=span))
    start, stop = span.within(len(value))
    writer.blocks.forget_counts()
    list(pieces(writer.blocks.get, root, start, stop))
    assert set(held) - {root} == set(writer.blocks.gets) - {root}


@given(SEEDS, VALUES)
def test_all_blocks_come_once_the_parent_first(seed: int, value: bytes) -> None:
    writer = Writer(seed)
    root = writer.value(value)
    for scope in (Scope.ALL, Scope.ENTITY):
        way = resolve(writer.blocks.get, root, [])
        found = cids_of(blocks_of_path(writer.blocks.get, way, scope))
        assert len(set(found)) == len(found)
        assert set(found) == set(writer.blocks.by_cid)
        assert not found or found[0] == root
    again = cids_of(blocks_of_path(writer.blocks.get, way, again=True))
    assert list(dict.fromkeys(again)) == found


KEYS = st.dictionaries(
    st.lists(st.sampled_from("abcde"), min_size=2, max_size=3).map("/".join),
    st.sampled_from([b"", b"1", b"22", b"333"]),
    max_size=12,
)


def tree_of(model: dict[str, bytes]) -> tuple[Blocks, Cid]:
    blocks = Blocks()
    links = {}
    for key, data in model.items():
        if not any(other.startswith(f"{key}/") for other in model):
            links[key] = Link("", SHA2.raw(data), len(data))
            blocks.by_cid[SHA2.raw(data)] = data
    root = build(blocks, links).cid
    blocks.by_cid.setdefault(root, unixfs.EMPTY_DIRECTORY)
    return blocks, root


@given(KEYS)
def test_a_whole_tree_is_exactly_its_blocks(model: dict[str, bytes]) -> None:
    blocks, root = tree_of(model)
    found = dict(blocks_of_path(blocks.get, resolve(blocks.get, root, [])))
    assert {cid: bytes(block) for cid, block in found.items()} == blocks.by_cid
    assert cids_of(blocks_below(blocks.get, [root, root], lambda cid: False)) == list(found)


@given(KEYS)
def test_a_path_brings_the_directories_on_the_way(model: dict[str, bytes]) -> None:
    blocks, root = tree_of(model)
    for key, value in model.items():
        if any(other.startswith(f"{key}/") for other in model):
            continue
        parts = key.split("/")
        way = resolve(blocks.get, root, parts)
        assert way.end == SHA2.raw(value)
        assert way.tsize == len(value)
        assert way.roots == (*way.blocks, way.end)
        held = dict(blocks_of_path(blocks.get, way))
        assert list(held) == list(way.roots)
        assert resolve(held.__getitem__, root, parts) == way


def test_a_path_that_is_not_there_is_named() -> None:
    blocks, root = tree_of({"a/b": b"1"})
    for path in (["x"], ["a", "x"], ["a", "b", "c"]):
        with pytest.raises(KeyNotFoundError) as caught:
            resolve(blocks.get, root, path)
        assert caught.value.key == "/".join(path)


def test_scopes_of_directories() -> None:
    blocks, root = tree_of({"a/b": b"1", "a/c/d": b"2"})
    way = resolve(blocks.get, root, ["a"])
    for scope in (Scope.BLOCK, Scope.ENTITY):
        assert cids_of(blocks_of_path(blocks.get, way, scope)) == [root, way.end]
    spanned = blocks_of_path(blocks.get, way, Scope.ALL, Span(0, 5))
    assert cids_of(spanned) == [root, way.end]  # a directory has no bytes to span
    inner = resolve(blocks.get, root, ["a", "c"]).end
    want = [root, way.end, SHA2.raw(b"1"), inner, SHA2.raw(b"2")]
    assert cids_of(blocks_of_path(blocks.get, way)) == want


def test_what_is_skipped_is_left_out_with_all_below() -> None:
    blocks, root = tree_of({"a/b": b"1", "a/c/d": b"2", "e": b"3"})
    a = resolve(blocks.get, root, ["a"]).end
    blocks.forget_counts()
    found = cids_of(blocks_below(blocks.get, [root], lambda cid: cid == a))
    assert found == [root, SHA2.raw(b"3")] == blocks.gets


def sharded(fanout: int, names: Sequence[str]) -> tuple[Blocks, Cid]:
    """A HAMT of another width, as boxo lays it out."""
    blocks = Blocks()
    bits, digits = fanout.bit_length() - 1, len(f"{fanout - 1:X}")

    def shard(names: Sequence[str], used: int) -> Cid:
        slots: dict[int, list[str]] = {}
        for name in names:
            digest = int.from_bytes(hamt.hash_name(name), "big")
            slots.setdefault(digest >> (64 - used - bits) & (fanout - 1), []).append(name)
        links = []
        field = 0
        for slot, inside in sorted(slots.items()):
            field |= 1 << slot
            label = f"{slot:0{digits}X}"
            if len(inside) == 1:
                leaf = SHA2.raw(inside[0].encode())
                blocks.by_cid[leaf] = inside[0].encode()
                links.append((label + inside[0], leaf, 1))
            else:
                links.append((label, shard(inside, used + bits), 1))
        bitfield = field.to_bytes((field.bit_length() + 7) // 8, "big")
        data = b"\x08\x05" + _field(bitfield) + b"\x28\x22\x30" + varint(fanout)
        block = dag_pb.encode(links, data)
        blocks.by_cid[SHA2.dag_pb(block)] = block
        return SHA2.dag_pb(block)

    return blocks, shard(names, 0)


@pytest.mark.parametrize("fanout", [8, 16, 256, 1024])
def test_a_hamt_of_any_width_is_walked(fanout: int) -> None:
    names = [f"name {number}" for number in range(300)]
    blocks, root = sharded(fanout, names)
    for name in names:
        way = resolve(blocks.get, root, [name])
        assert way.end == SHA2.raw(name.encode())
        held = dict(blocks_of_path(blocks.get, way))
        assert resolve(held.__getitem__, root, [name]) == way
    with pytest.raises(KeyNotFoundError):
        resolve(blocks.get, root, ["another"])
    with pytest.raises(KeyNotFoundError):
        resolve(blocks.get, root, ["\ud800"])
    way = resolve(blocks.get, root, [])
    everything = dict(blocks_of_path(blocks.get, way))
    assert everything == blocks.by_cid
    shards = {cid for cid in blocks.by_cid if cid[1] == 0x70}
    assert set(cids_of(blocks_of_path(blocks.get, way, Scope.ENTITY))) == shards
    assert kind_of(blocks.get, root) is UnixFsType.HAMT


@pytest.mark.parametrize("fanout", [16, 256])
def test_what_a_shard_links_to_as_a_shard_is_one(fanout: int) -> None:
    blocks = Blocks()
    name = "name"
    digits, bits = len(f"{fanout - 1:X}"), fanout.bit_length() - 1
    slot = int.from_bytes(hamt.hash_name(name), "big") >> (64 - bits)
    field = (1 << slot).to_bytes(slot // 8 + 1, "big")
    data = b"\x08\x05" + _field(field) + b"\x28\x22\x30" + varint(fanout)
    other = unixfs.directory([("name", SHA2.raw(b"1"), 1)])
    blocks.by_cid[SHA2.dag_pb(other)] = other
    root = dag_pb.encode([(f"{slot:0{digits}X}", SHA2.dag_pb(other), 1)], data)
    blocks.by_cid[SHA2.dag_pb(root)] = root
    with pytest.raises(CorruptBlockError, match="but is not one"):
        resolve(blocks.get, SHA2.dag_pb(root), [name])


def test_a_value_that_repeats_itself_a_thousand_million_times_is_walked_at_once() -> None:
    writer = Writer(0)
    cid, size = writer.put(SHA2.raw(b"0123456789"), b"0123456789"), 10
    for _ in range(9):
        cid, size = writer.node([(cid, size)] * 10)
    get = writer.blocks.get
    way = resolve(get, cid, [])
    assert size == 10**10
    assert len(cids_of(blocks_of_path(get, way))) == 10
    assert len(cids_of(blocks_of_path(get, way, Scope.ENTITY))) == 10
    assert len(cids_of(blocks_of_path(get, way, span=Span(5, -7)))) == 10
    assert b"".join(pieces(get, cid, 10**9 - 3, 10**9 + 4)) == b"7890123"


def test_identity_cids_are_read_and_never_yielded() -> None:
    assert inline(SHA2.raw(b"x")) is None
    held = Cid(b"\x01\x55\x00\x03abc")
    assert inline(held) == b"abc"
    blocks = Blocks()
    way = resolve(blocks.get, held, [])
    for scope in Scope:
        assert cids_of(blocks_of_path(blocks.get, way, scope, again=True)) == []
    assert b"".join(pieces(blocks.get, held, 1, 3)) == b"bc"


@given(st.binary(max_size=20))
def test_a_raw_block_is_a_node_that_holds_its_bytes(data: bytes) -> None:
    for cid in (SHA2.raw(data), Cid(b"\x01\x55\x00" + bytes([len(data)]) + data)):
        node = decode_node(cid, data)
        assert (node.kind, node.data, node.size) == (UnixFsType.RAW, data, len(data))
        assert (node.links, node.blocksizes) == ([], ())
        assert size_of({cid: data}.__getitem__, cid) == len(data)


def test_a_missing_block_is_an_error_at_its_turn() -> None:
    blocks, root = tree_of({"a": b"1", "b": b"2", "c": b"3"})
    del blocks.by_cid[SHA2.raw(b"2")]
    walk = blocks_of_path(blocks.get, resolve(blocks.get, root, []))
    assert [next(walk)[0], next(walk)[0]] == [root, SHA2.raw(b"1")]
    with pytest.raises(BlockNotFoundError):
        next(walk)


def test_blocks_that_contradict_each_other_are_damage() -> None:
    writer = Writer(0)
    leaf = writer.put(SHA2.raw(b"12"), b"12")
    root, _ = writer.node([(leaf, 5)])
    with pytest.raises(CorruptBlockError):
        list(pieces(writer.blocks.get, root, 0, 5))
    folder = writer.put(SHA2.dag_pb(unixfs.EMPTY_DIRECTORY), unixfs.EMPTY_DIRECTORY)
    root, _ = writer.node([(folder, 5)])
    with pytest.raises(CorruptBlockError):
        list(pieces(writer.blocks.get, root, 0, 5))
    with pytest.raises(CorruptBlockError):
        list(
            blocks_of_path(writer.blocks.get, resolve(writer.blocks.get, root, []), span=Span(0, 3))
        )
