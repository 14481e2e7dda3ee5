from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from versioned_zarr.errors import CorruptBlockError
from versioned_zarr.ipld import dag_pb, hash_function, unixfs, varint
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.unixfs import LEAF_SIZE, UnixFsType

SHA2 = hash_function("sha2-256")


def read(blocks, cid) -> bytes:
    """Put a value together again, as whoever reads it does."""
    block = blocks[cid]
    if cid[1] == 0x55:
        return bytes(block)
    node = unixfs.decode(block)
    parts = [read(blocks, link.cid) for link in node.links]
    assert [len(part) for part in parts] == list(node.blocksizes)
    assert node.size == len(node.data) + sum(node.blocksizes)
    return node.data + b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, LEAF_SIZE - 1, LEAF_SIZE, LEAF_SIZE + 1, 3 * LEAF_SIZE + 5])
def test_a_value_reads_back_from_its_blocks(size):
    data = (b"0123456789" * (size // 10 + 1))[:size]
    file = unixfs.build_file(data, SHA2)
    assert file.blocks[0][0] == file.cid
    assert file.size == size
    assert file.tsize == sum(len(block) for _, block in file.blocks)
    assert all(SHA2.digest(block) == cid[4:] for cid, block in file.blocks)
    assert read(dict(file.blocks), file.cid) == data


def test_a_value_of_more_than_1024_leaves_has_its_leaves_side_by_side():
    data = memoryview(bytes(1025 * LEAF_SIZE))
    file = unixfs.build_file(data, SHA2)
    kinds = ["leaf" if cid[1] == 0x55 else "node" for cid, _ in file.blocks]
    assert kinds == ["node", "node", "node", *["leaf"] * 1025]
    assert unixfs.decode(file.blocks[0][1]).blocksizes == (1024 * LEAF_SIZE, LEAF_SIZE)
    assert file.tsize == sum(len(block) for _, block in file.blocks)


def test_leaves_are_views_of_the_value_and_hashed_where_one_likes():
    data = bytearray(2 * LEAF_SIZE + 1)
    with ThreadPoolExecutor(2) as threads:
        file = unixfs.build_file(data, SHA2, threads.map)
    assert file == unixfs.build_file(data, SHA2)
    leaves = [block for cid, block in file.blocks if cid[1] == 0x55]
    data[0] = data[LEAF_SIZE] = 7
    assert [leaf[0] for leaf in leaves] == [7, 7, 0]


def test_buffers_of_any_type_and_shape_are_values():
    numbers = memoryview(bytes(range(48))).cast("i", (3, 4))
    assert unixfs.build_file(numbers, SHA2).cid == SHA2.raw(bytes(range(48)))


@given(
    st.text(max_size=255),
    st.one_of(st.binary(min_size=36, max_size=36), st.binary(min_size=1, max_size=200)),
    st.integers(0, 2**64 - 1),
)
def test_link_size_is_what_a_link_adds_to_a_directory(name, cid, tsize):
    link = Link(name, cid, tsize)
    block = unixfs.directory([link])
    assert len(block) == len(unixfs.EMPTY_DIRECTORY) + unixfs.link_size(link)


@given(st.dictionaries(st.integers(0, 255), st.text(max_size=5), min_size=1))
def test_a_shard_reads_back(slots):
    links = [Link(f"{slot:02X}{name}", bytes(36), 1) for slot, name in sorted(slots.items())]
    node = unixfs.decode(unixfs.shard(links, sum(1 << slot for slot in slots)))
    assert (node.kind, node.fanout, node.hash_type) == (UnixFsType.HAMT, 256, 0x22)
    assert node.links == links
    assert node.bitfield == sum(1 << slot for slot in slots)


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint.encode(number << 3) + varint.encode(value)
    return varint.encode(number << 3 | 2) + varint.encode(len(value)) + value


def node(*fields, links=()) -> unixfs.UnixFsNode:
    return unixfs.decode(dag_pb.encode(links, b"".join(field(*each) for each in fields)))


def test_what_other_tools_write_is_read():
    links = [Link("", bytes(36), 5), Link("", bytes(34), 6)]
    inline = node((1, 2), (2, b"hello"), (3, 5))
    assert (inline.kind, inline.data, inline.size) == (UnixFsType.FILE, b"hello", 5)
    raw = node((1, 0), (2, b"hello"))
    assert (raw.kind, raw.data, raw.size) == (UnixFsType.RAW, b"hello", 5)
    both = node((1, 2), (2, b"head"), (3, 4 + 11), (4, 5), (4, 6), links=links)
    assert (both.size, both.blocksizes, both.links) == (15, (5, 6), links)
    packed = node((1, 2), (4, b"\x05\x06"), links=links)
    assert (packed.size, packed.blocksizes) == (11, (5, 6))
    dated = node((1, 1), (7, 0o755), (8, field(1, 1700000000)))
    assert dated.kind == UnixFsType.DIRECTORY
    wide = node((1, 5), (2, b"\x00\x01"), (5, 0x22), (6, 1024))
    assert (wide.fanout, wide.bitfield) == (1024, 1)
    assert node((1, 4), (2, b"target")).kind == UnixFsType.SYMLINK


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([], "no type"),
        ([(2, b"x")], "no type"),
        ([(1, 9)], "field 1"),
        ([(1, b"x")], "field 1"),
        ([(1, 2), (2, 5)], "field 2"),
        ([(1, 2), (3, 5)], "says that it holds 5 bytes, but holds 0"),
        ([(1, 2), (4, 5)], "0 links but sizes for 1"),
        ([(1, 2), (4, b"\x80")], "truncated"),
    ],
)
def test_a_node_that_makes_no_sense_says_why(fields, why):
    with pytest.raises(CorruptBlockError, match=why):
        node(*fields)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 9), st.one_of(st.integers(0, 300), st.binary()))))
def test_any_fields_read_or_are_corrupt(fields):
    try:
        node(*fields)
    except CorruptBlockError:
        return


@example(b"\x08\x05\x12")
@given(st.one_of(st.binary(max_size=60), st.binary(max_size=9).map(b"\x08\x05\x12".__add__)))
def test_any_bytes_read_or_are_corrupt(data):
    for block in (data, dag_pb.encode((), data)):
        try:
            unixfs.decode(block)
        except CorruptBlockError:
            continue
