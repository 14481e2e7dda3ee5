import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tree.blocks import SHA2, Blocks, build, cids, contents, leaf
from versioned_zarr.blocks.file_reader import read_value
from versioned_zarr.errors import (
    BlockNotFoundError,
    CorruptBlockError,
    InvalidCidError,
    InvalidInputError,
)
from versioned_zarr.ipld import Cid, Link, dag_pb, unixfs
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.ipld.varint import encode as varint
from versioned_zarr.tree import Trees

MODEL = {
    "zarr.json": leaf("root"),
    "a/zarr.json": leaf("a"),
    "a/c/0/0": leaf(0),
    "a/c/0/1": leaf(1),
    "a-b": leaf("sorts between a and a/"),
    "a.b/x": leaf("so does this"),
    "é/温度": leaf("unicode"),
}
LARGE = {f"c/{i}": leaf(i) for i in range(6000)}


@pytest.fixture
def blocks():
    return Blocks()


def open_tree(blocks, model):
    root = build(blocks, model).cid
    blocks.forget_counts()
    return Trees(blocks, SHA2), root


PLAIN = {f"c/{i}": leaf(i) for i in range(3000)}


@pytest.mark.parametrize(
    "model", [MODEL, PLAIN, LARGE, {}], ids=["small", "large", "sharded", "empty"]
)
def test_all_keys_are_found_and_no_others(blocks, model):
    trees, root = open_tree(blocks, model)
    assert contents(trees, root) == cids(model)
    for key, link in model.items():
        found = trees.find(root, key)
        assert found == link._replace(name=key.rpartition("/")[2])
        assert trees.size(found) == link.tsize
    for key in [
        "",
        "/zarr.json",
        "/c/0",
        "a",
        "a/c",
        "a/c/0",
        "b",
        "zarr.json/x",
        "a/c/0/2",
        "a//c",
        "/a",
        "c/x",
        "c",
    ]:
        assert trees.find(root, key) is None


def test_names_are_found_in_a_block_before_and_after_it_is_decoded(blocks):
    trees, root = open_tree(blocks, PLAIN)
    for key, link in PLAIN.items():
        assert trees.find(root, key).cid == link.cid
        assert trees.find(root, f"{key}x") is None
    assert len(blocks.gets) == 2


def test_a_malformed_link_in_a_large_directory_is_told_of(blocks):
    link = b"\x12\x2e" + b"\x0a\x24" + bytes(36) + b"\x12\x02ab\x18\x01\x19\x00"
    directory = store(blocks, link * 300 + b"\x0a\x02\x08\x01")
    root = store(blocks, unixfs.directory([("d", directory, 1)]))
    trees = Trees(blocks, SHA2)
    for look in (lambda: trees.find(root, "d/ab"), lambda: trees.list_dir(root, "d")):
        with pytest.raises(CorruptBlockError) as caught:
            look()
        assert caught.value.cid == to_text(directory)


def test_directories_are_listed_and_walked_by_path(blocks):
    trees, root = open_tree(blocks, MODEL)
    assert trees.list_dir(root) == ["a", "a-b", "a.b", "zarr.json", "é"]
    assert trees.list_dir(root, "a/c/0") == ["0", "1"]
    assert trees.list_dir(root, "zarr.json") == []
    assert trees.list_dir(root, "none/at/all") == []
    assert list(contents(trees, root, "a")) == ["a/c/0/0", "a/c/0/1", "a/zarr.json"]
    assert list(contents(trees, root, "zarr.json")) == []
    assert list(contents(trees, root, "none")) == []


def test_a_subtree_is_what_a_tree_of_its_keys_would_be(blocks):
    trees, root = open_tree(blocks, MODEL)
    alone = build(Blocks(), {k[2:]: v for k, v in MODEL.items() if k.startswith("a/")})
    assert trees.subtree(root, "a") == alone._replace(name="a")
    assert trees.subtree(root, "") == build(Blocks(), MODEL)
    assert trees.subtree(root, "zarr.json").cid == MODEL["zarr.json"].cid
    assert trees.subtree(root, "zarr.json/x") is None
    assert trees.is_directory(trees.subtree(root, "a"))
    assert not trees.is_directory(trees.subtree(root, "zarr.json"))


@pytest.mark.slow
def test_finding_a_name_reads_the_shards_on_the_way_only(blocks):
    model = {f"{i}": leaf(i) for i in range(100_000)}
    trees, root = open_tree(blocks, model)
    trees.find(root, "12345")
    assert len(blocks.gets) <= 4
    trees.find(root, "12345")
    assert len(blocks.gets) <= 4


def test_many_paths_are_found_one_after_the_other(blocks):
    model = {f"{i}/x": leaf(i) for i in range(4200)}
    trees, root = open_tree(blocks, model)
    assert all(trees.find(root, key).cid == link.cid for key, link in model.items())
    assert len(trees._paths) < 4200


def test_what_is_remembered_is_bounded(blocks):
    model = {f"{i}": leaf(i) for i in range(20_000)}
    root = build(blocks, model).cid
    trees = Trees(blocks, SHA2, max_links=1000)
    assert contents(trees, root) == cids(model)
    kept = [*trees._recent._young.values(), *trees._recent._old.values()]
    assert 0 < sum(weight for _, weight in kept) <= 1000
    blocks.forget_counts()
    assert contents(trees, root) == cids(model)
    assert blocks.gets


def test_a_large_value_is_told_from_a_directory(blocks):
    file = unixfs.build_file(bytes(2_500_000), SHA2)
    blocks.by_cid.update({cid: bytes(block) for cid, block in file.blocks})
    trees, root = open_tree(blocks, {"a/0": Link("", file.cid, file.tsize)})
    found = trees.find(root, "a/0")
    assert trees.size(found) == 2_500_000
    assert found.tsize == file.tsize > 2_500_000
    assert trees.find(root, "a/0/0") is None
    assert trees.list_dir(root, "a/0") == []
    assert list(contents(trees, root)) == ["a/0"]
    with pytest.raises(InvalidInputError, match="'a' is a directory"):
        trees.size(trees.subtree(root, "a"))
    with pytest.raises(InvalidCidError, match="CID of a value"):
        trees.directory(file.cid)


def test_the_cid_of_a_leaf_names_no_tree(blocks):
    with pytest.raises(InvalidCidError, match="CID of a value"):
        Trees(blocks, SHA2).directory(leaf(0).cid)


def test_a_missing_block_is_named(blocks):
    trees, root = open_tree(blocks, LARGE)
    for cid in blocks.by_cid.keys() - {root}:
        del blocks.by_cid[cid]
    with pytest.raises(BlockNotFoundError):
        trees.find(root, "c/17")


def store(blocks, block):
    cid = SHA2.dag_pb(block)
    blocks.by_cid[cid] = block
    return cid


def shard(links, bitfield):
    return unixfs.shard([Link(name, cid, 0) for name, cid in links], bitfield)


LEAF = leaf("x").cid


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([".."], "a key cannot have"),
        (["."], "a key cannot have"),
        (["a/b"], "a key cannot have"),
        (["a\0"], "a key cannot have"),
        ([""], "empty or repeated name"),
        (["a", "a"], "empty or repeated name"),
    ],
)
def test_names_that_would_lead_elsewhere_are_refused(blocks, names, why):
    cid = store(blocks, unixfs.directory([(name, LEAF, 1) for name in names]))
    with pytest.raises(CorruptBlockError, match=why) as caught:
        Trees(blocks, SHA2).directory(cid)
    assert caught.value.cid.startswith("bafy")
    slots = [(f"{i:02X}{name}", LEAF) for i, name in enumerate(names) if name]
    if slots and names != ["a", "a"]:
        cid = store(blocks, shard(slots, 1))
        with pytest.raises(CorruptBlockError, match=why):
            Trees(blocks, SHA2).directory(cid)


def test_links_that_others_left_unsorted_are_sorted(blocks):
    cid = store(blocks, unixfs.directory([("b", LEAF, 1), ("a", LEAF, 1)]))
    assert Trees(blocks, SHA2).list_dir(cid) == ["a", "b"]


def test_a_symlink_is_a_value_that_names_a_path(blocks):
    target = store(blocks, dag_pb.encode((), b"\x08\x04\x12\x03x/y"))
    root = store(blocks, unixfs.directory([("a", target, 1)]))
    trees = Trees(blocks, SHA2)
    found = trees.find(root, "a")
    assert trees.size(found) == 3
    assert read_value(blocks.get, found.cid) == b"x/y"
    assert list(trees.walk(root)) == [("a", found)]


def test_a_link_to_a_block_of_another_codec_is_refused(blocks):
    dag_cbor = Cid(b"\x01\x71" + LEAF[2:])
    root = store(blocks, unixfs.directory([("a", dag_cbor, 1), ("b", Cid(b"x"), 1)]))
    for key in "ab":
        with pytest.raises(CorruptBlockError, match="not dag-pb"):
            Trees(blocks, SHA2).find(root, key)


def test_a_shard_must_be_one_and_lie_at_most_eight_deep(blocks):
    trees = Trees(blocks, SHA2)
    plain = store(blocks, unixfs.EMPTY_DIRECTORY)
    root = store(blocks, shard([("00", plain)], 1))
    with pytest.raises(CorruptBlockError, match="but is not one"):
        trees.list_dir(root)
    below = store(blocks, shard([("00x", LEAF)], 1))
    for _ in range(8):
        below = store(blocks, shard([("00", below)], 1))
    with pytest.raises(CorruptBlockError, match="too deep"):
        trees.list_dir(below)


def wide_shard(fanout, links, bitfield):
    """A shard of another width than the profile's."""
    bits = bitfield.to_bytes((bitfield.bit_length() + 7) // 8, "big")
    field = b"\x12" + varint(len(bits)) + bits
    return dag_pb.encode(
        [Link(name, cid, 0) for name, cid in links],
        b"\x08\x05" + field + b"\x28\x22\x30" + varint(fanout),
    )


@pytest.mark.parametrize("fanout", [2, 8, 16, 32, 1024])
def test_a_slot_beyond_the_fanout_or_written_otherwise_is_refused(blocks, fanout):
    trees = Trees(blocks, SHA2)
    digits = len(f"{fanout - 1:X}")
    last = f"{fanout - 1:0{digits}X}"
    sound = store(blocks, wide_shard(fanout, [(f"{last}x", LEAF)], 1 << (fanout - 1)))
    assert trees.list_dir(sound) == ["x"]
    wrong = [("g" * digits, 1), ("-" * digits, 1), ("0" * (digits - 1), 1)]
    if last.lower() != last:
        wrong.append((last.lower(), 1 << (fanout - 1)))
    beyond = f"{fanout:0{digits}X}"
    if len(beyond) == digits:
        wrong.append((beyond, 1 << fanout))
    for slot, bitfield in wrong:
        name = f"{slot}x" if len(slot) == digits else slot
        with pytest.raises(CorruptBlockError):
            trees.list_dir(store(blocks, wide_shard(fanout, [(name, LEAF)], bitfield)))
    for bitfield in (0, 1, 3 << (fanout - 2)):
        if bitfield != 1 << (fanout - 1):
            with pytest.raises(CorruptBlockError, match="bitfield"):
                trees.list_dir(store(blocks, wide_shard(fanout, [(f"{last}x", LEAF)], bitfield)))


@pytest.mark.parametrize("fanout", [0, 1, 3, 100, 1 << 17])
def test_a_hamt_of_no_width_is_refused(blocks, fanout):
    with pytest.raises(CorruptBlockError, match="not a power of two"):
        Trees(blocks, SHA2).list_dir(store(blocks, wide_shard(fanout, [("0x", LEAF)], 1)))


def test_a_tree_deeper_than_any_key_is_refused(blocks):
    below = store(blocks, unixfs.directory([("x", LEAF, 1)]))
    for _ in range(255):
        below = store(blocks, unixfs.directory([("d", below, 1)]))
    with pytest.raises(CorruptBlockError, match="more than 255 deep"):
        list(Trees(blocks, SHA2).walk(below))


@given(st.lists(st.tuples(st.text("/.\0a", max_size=4), st.booleans())), st.integers(0, 3))
def test_any_directory_reads_or_is_corrupt(names, bitfield):
    blocks = Blocks()
    empty = store(blocks, unixfs.EMPTY_DIRECTORY)
    links = [(name, empty if is_dir else LEAF, 1) for name, is_dir in names]
    for block in (
        unixfs.directory(links),
        unixfs.shard([(f"{i:02X}{name}", cid, 1) for i, (name, cid, _) in enumerate(links)], 3),
        unixfs.shard(links, bitfield),
    ):
        trees = Trees(blocks, SHA2)
        try:
            keys = [key for key, _ in trees.walk(store(blocks, block))]
        except CorruptBlockError:
            continue
        assert keys == sorted(keys)
        assert not any(part in {"", ".", ".."} for key in keys for part in key.split("/"))


def test_threads_share_trees(blocks):
    model = {f"{i % 30}/{i}": leaf(i) for i in range(8000)} | {
        f"{i}": leaf(i) for i in range(30, 9000)
    }
    root = build(blocks, model).cid
    trees = Trees(blocks, SHA2, max_links=2000)
    wrong = []

    def look(start):
        for key in list(model)[start::8]:
            found = trees.find(root, key)
            if found is None or found.cid != model[key].cid:
                wrong.append(key)

    threads = [threading.Thread(target=look, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
