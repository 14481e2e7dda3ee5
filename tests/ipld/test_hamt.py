import pytest

from versioned_zarr.errors import CorruptBlockError, InvalidInputError
from versioned_zarr.ipld import dag_pb, hamt, hash_function, unixfs
from versioned_zarr.ipld.dag_pb import Link

SHA2 = hash_function("sha2-256")
CID = SHA2.raw(b"")


def build(names):
    stored = {}
    entries = [(name, CID, 0) for name in names]
    return hamt.build(entries, SHA2, stored.__setitem__), stored


def test_hashes_of_one_and_of_many_names_agree():
    names = [f"{i}é" for i in range(20_000)]
    many = hamt.hash_names(names).astype(">u8").tobytes()
    assert [many[8 * i : 8 * i + 8] for i in range(0, 20_000, 777)] == [
        hamt.hash_name(names[i]) for i in range(0, 20_000, 777)
    ]


def test_a_lone_surrogate_has_no_hash():
    """Given to mmh3 as it is, it ends the process."""
    with pytest.raises(UnicodeEncodeError):
        hamt.hash_name("\ud800")
    with pytest.raises(UnicodeEncodeError):
        hamt.hash_names(["a", "\ud800"])


def test_few_and_many_entries_are_built_alike():
    """Below 100 entries another way of sorting is taken."""
    names = [f"{i}" for i in range(5000)]
    few = sorted(names, key=hamt.hash_name)[:99]
    link, stored = build(few)
    shard = hamt.read_shard(unixfs.decode(stored[link.cid]))
    found = {hamt.named(each).name for each in shard.values() if not hamt.is_shard(each)}
    assert found <= set(few)
    more, more_stored = build(names)
    for slot, each in shard.items():
        same_slot = [name for name in names if hamt.SLOTS[hamt.hash_name(name)[0]] == slot]
        if set(same_slot) <= set(few):
            assert hamt.read_shard(unixfs.decode(more_stored[more.cid]))[slot] == each


def test_names_that_share_first_bytes_of_their_hashes_lie_deeper():
    by_start: dict[bytes, str] = {}
    for i in range(100_000):
        start = hamt.hash_name(f"{i}")[:3]
        if start in by_start:
            names = [by_start[start], f"{i}"]
            break
        by_start[start] = f"{i}"
    link, stored = build(names)
    assert len(stored) == 4
    shard = hamt.read_shard(unixfs.decode(stored[link.cid]))
    for _ in range(3):
        (only,) = shard.values()
        assert hamt.is_shard(only)
        shard = hamt.read_shard(unixfs.decode(stored[only.cid]))
    assert {hamt.named(each).name for each in shard.values()} == set(names)


def test_names_of_one_hash_are_refused():
    with pytest.raises(InvalidInputError, match="same murmur3 hash"):
        build(["twice", "twice"])


def shard_of(names, bitfield, tail=b"\x28\x22\x30\x80\x02"):
    bits = bitfield.to_bytes(32, "big").lstrip(b"\0")
    data = b"\x08\x05\x12" + bytes([len(bits)]) + bits + tail
    return unixfs.decode(dag_pb.encode([Link(name, CID, 0) for name in names], data))


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (
            unixfs.UnixFsNode(unixfs.UnixFsType.FILE, []),
            "not a directory or a HAMT shard but a file",
        ),
        (shard_of(["0"], 1, b"\x28\x22\x30\x10"), "fanout 16"),
        (shard_of(["00"], 1, b"\x28\x12\x30\x80\x02"), "hash function 0x12"),
        (shard_of(["0"], 1), "no slot '0'"),
        (shard_of(["0g"], 1), "no slot '0g'"),
        (shard_of(["0a"], 1 << 10), "no slot '0a'"),
        (shard_of(["0A"], 1 << 11), "do not match its bitfield"),
        (shard_of(["0Ax", "0Ay"], 1 << 10), "do not match its bitfield"),
    ],
)
def test_a_shard_that_makes_no_sense_says_why(node, why):
    with pytest.raises(CorruptBlockError, match=why):
        hamt.read_shard(node)
