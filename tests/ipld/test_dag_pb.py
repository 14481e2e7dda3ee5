import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.errors import CorruptBlockError
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.dag_pb import Link

CIDS = st.one_of(st.binary(min_size=36, max_size=36), st.binary(min_size=1, max_size=300))
NAMES = st.one_of(st.text(max_size=20), st.integers(0, 400).map("x".__mul__))
SIZES = st.one_of(
    st.integers(0, 2**64 - 1),
    st.sampled_from([2**bits + more for bits in range(7, 64, 7) for more in (-1, 0)]),
)
LINKS = st.lists(st.builds(Link, NAMES, CIDS, SIZES), max_size=6)
BLOCKS = st.builds(dag_pb.encode, LINKS, st.binary(max_size=40))


@given(LINKS, st.one_of(st.binary(max_size=20), st.integers(0, 400).map(bytes)))
def test_what_is_encoded_is_decoded(links, data):
    block = dag_pb.encode(links, data)
    assert dag_pb.decode(block) == (links, data)
    assert dag_pb.decode(memoryview(block)) == (links, data)
    assert all(type(link) is Link for link in dag_pb.decode(block)[0])


def test_the_bytes_are_those_of_the_specification():
    link = Link("b", bytes(range(36)), 300)
    block = bytes.fromhex("122c 0a24") + bytes(range(36)) + bytes.fromhex("120162 18ac02 0a020801")
    assert dag_pb.encode([link], b"\x08\x01") == block


@given(BLOCKS, st.data())
def test_a_damaged_block_reads_or_is_corrupt(block, data):
    """No other error than CorruptBlockError comes out of decode, whatever comes in."""
    damaged = bytearray(block)
    for _ in range(data.draw(st.integers(0, 3))):
        if damaged:
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    _decode_or_corrupt(bytes(damaged))


@given(st.binary(max_size=200))
def test_any_bytes_read_or_are_corrupt(block):
    _decode_or_corrupt(block)


def _decode_or_corrupt(block):
    try:
        links, data = dag_pb.decode(block)
    except CorruptBlockError:
        return
    again = dag_pb.decode(dag_pb.encode(links, data))
    assert again == (links, data)


@given(st.lists(st.builds(Link, st.text("ab\x12\x01\x18", max_size=4), CIDS, SIZES)), st.data())
def test_a_name_is_found_where_a_link_has_it_and_nowhere_else(links, data):
    """Names, CIDs and sizes may hold the bytes that begin and end a name."""
    content = b"\x08\x01"
    block = dag_pb.encode(links, content)
    starts = dag_pb.scan(block, content)
    if starts is None:
        assert any(len(dag_pb.encode([link], b"")) >= 130 for link in links)
        return
    assert len(starts) == len(links)
    name = data.draw(st.text("ab\x12\x01\x18", max_size=4))
    first = next((link for link in links if link.name == name), None)
    assert dag_pb.find(block, starts, name) == first


def test_the_bytes_of_a_name_within_a_cid_are_no_name():
    cid = (b"-" * 10 + b"\x12\x01b\x18").ljust(36, b"-")
    links = [Link("a", cid, 0), Link("b", bytes(36), 0), Link("a\x12\x01c\x18", cid, 0)]
    block = dag_pb.encode(links, b"\x08\x01")
    starts = dag_pb.scan(block, b"\x08\x01")
    assert dag_pb.find(block, starts, "b") == links[1]
    assert dag_pb.find(block, starts, "c") is None
    assert dag_pb.find(block, starts, "x" * 200) is None
    assert dag_pb.scan(block[:-1], b"\x08\x01") is None
    assert dag_pb.scan(dag_pb.encode([Link("x" * 200, cid, 0)], b"\x08\x01"), b"\x08\x01") is None


@given(BLOCKS, st.binary(max_size=3))
def test_a_scan_of_any_block_agrees_with_decode(block, data):
    starts = dag_pb.scan(block, data)
    if starts is not None:
        assert block.endswith(data)


@given(
    st.lists(
        st.builds(
            Link,
            st.text("abcé", max_size=60).filter(lambda name: len(name.encode()) <= 60),
            st.binary(min_size=36, max_size=36),
            SIZES,
        ),
        min_size=1,
        max_size=6,
    )
)
def test_links_of_the_usual_form_are_all_read_the_quick_way(links):
    block = dag_pb.encode(links, bytes(120))
    assert dag_pb._decode_usual(block) == (links, len(dag_pb.encode(links, b"")))


def test_links_after_the_data_are_read_too():
    link = Link("name", bytes(36), 5)
    block = dag_pb.encode([], b"data") + dag_pb.encode([link], b"")
    assert dag_pb.decode(block) == ([link], b"data")


def test_a_link_without_name_and_size_is_read():
    assert dag_pb.decode(b"\x12\x04\x0a\x02ab") == ([Link("", b"ab", 0)], b"")


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (b"\x12", "truncated"),
        (b"\x12\x05\x0a\x02ab", "truncated"),
        (b"\x0a\x01a\x0a\x01b", "instead of links or data"),
        (b"\x1a\x01a", "instead of links or data"),
        (b"\x12\x03\x12\x01a", "no CID"),
        (b"\x12\x06\x12\x01a\x0a\x01b", "out of order"),
        (b"\x12\x06\x0a\x01b\x12\x01\xff", "UTF-8"),
        (b"\x12\x2c\x0a\x24" + bytes(36) + b"\x12\x02\xc3\xff\x18\x01", "UTF-8"),
        (b"\x12" + b"\xff" * 10, "64 bits"),
        (b"\x12" + b"\xff" * 9 + b"\x02", "64 bits"),
        (b"\x12\x03\x0a\x05a", "a link is truncated"),
        (b"\x12\x06\x0a\x01b\x1a\x01x", "unknown field 0x1a"),
        (b"\x12\x80", "truncated"),
    ],
)
def test_a_malformed_block_says_why(block, why):
    with pytest.raises(CorruptBlockError, match=why):
        dag_pb.decode(block)


def test_messages_are_read_field_by_field():
    message = b"\x08\x05" + b"\x12\x01x" + b"\x19" + bytes(8) + b"\x25" + bytes(4)
    assert dag_pb.read_fields(message) == [(1, 5), (2, b"x"), (3, bytes(8)), (4, bytes(4))]
    assert dag_pb.read_varints(b"\x05\x80\x01") == [5, 128]


@pytest.mark.parametrize("message", [b"\x08", b"\x08\x80", b"\x12\x05x", b"\x19123", b"\x0b"])
def test_a_malformed_message_says_why(message):
    with pytest.raises(CorruptBlockError, match=r"truncated|unknown kind"):
        dag_pb.read_fields(message)
