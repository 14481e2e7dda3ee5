"""A tree's CID depends on its keys and values alone, and is the one that Kubo gives."""

from __future__ import annotations

import hashlib
import json
import mmap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tree.blocks import SHA2, Blocks, build, cids, contents, leaf
from versioned_zarr.ipld import Cid, Link, hamt, hash_function, unixfs
from versioned_zarr.ipld.cid import Buffer, to_text
from versioned_zarr.tree import TreeBuilder, Trees, changes

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "unixfs.json").read_text())
CASES = {case["name"]: case for case in VECTORS["cases"]}


def value_of(seed: str, size: int) -> Buffer:
    """The bytes that the vectors' seeds stand for."""
    if seed == "zero" and size:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        return memoryview(mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ))
    hashes = [hashlib.sha256(f"{seed}:{i}".encode()).digest() for i in range(-(-size // 32))]
    return b"".join(hashes)[:size]


def files_of(case: dict) -> list[tuple[str, str, int]]:
    if "expand" not in case:
        return case["files"]
    expand = case["expand"]
    return [
        (expand["path"].format(i), expand["seed"].format(i), expand["size"])
        for i in range(expand["count"])
    ]


@pytest.mark.parametrize("name", [name for name in CASES if name != "empty_subdirectory"])
def test_trees_have_the_cids_that_kubo_gives(name):
    case = CASES[name]
    if case["hash"] == "blake3":
        pytest.importorskip("blake3")
    hashing = hash_function(case["hash"])
    stored: dict[Cid, bytes] = {}
    tree: TreeBuilder[unixfs.File] = TreeBuilder(Trees(stored, hashing))
    for key, seed, size in files_of(case):
        tree.set(key, unixfs.build_file(value_of(seed, size), hashing))
    assert to_text(tree.flush(stored.__setitem__).cid) == case["cid"]


def test_an_empty_directory_within_a_tree_of_kubos_is_read():
    case = CASES["empty_subdirectory"]
    stored: dict[Cid, bytes] = {SHA2.dag_pb(unixfs.EMPTY_DIRECTORY): unixfs.EMPTY_DIRECTORY}
    ((key, seed, size),) = case["files"]
    value = unixfs.build_file(value_of(seed, size), SHA2)
    empty = Trees(stored, SHA2).empty
    block = unixfs.directory([("empty", empty, 4), (key, value.cid, value.tsize)])
    root = SHA2.dag_pb(block)
    stored[root] = block
    trees = Trees(stored, SHA2)
    assert to_text(root) == case["cid"]
    assert trees.list_dir(root) == ["empty", key]
    assert list(contents(trees, root)) == [key]


# Some 930 links of such names fill a block of 256 KiB. A tree that begins there crosses the
# threshold both ways, often, by a few names too.
LONG_NAMES = [f"{i:04d}{'x' * (220 + i * 7 % 31)}" for i in range(1100)]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "delete", "delete", "overwrite"]),
        st.integers(0, len(LONG_NAMES)),
        st.sampled_from([1, 10, 50, 50, 200, 1100]),
        st.integers(0, 3),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


@pytest.mark.slow
@given(
    st.one_of(st.just(0), st.integers(900, 960)),
    STEPS,
    st.sampled_from(["", "a/c/"]),
    st.sampled_from([10, 1000, 1 << 18]),
)
def test_no_history_shows_in_the_cid(begin, steps, directory, max_links):
    blocks = Blocks()
    trees = Trees(blocks, SHA2, max_links)
    tree: TreeBuilder[Link] = TreeBuilder(trees)
    root = trees.empty
    model: dict[str, Link] = {}
    before: dict[str, Link] = {}
    first = ("set", 0, begin, 0, True)
    for number, (action, start, count, size, flush) in enumerate([first, *steps]):
        for name in LONG_NAMES[start : start + count]:
            key = directory + name
            if action == "delete":
                assert tree.delete(key) == (model.pop(key, None) is not None)
            elif action == "set" or key in model:
                # Sizes of 1 to 4 bytes as varints, so that the threshold moves with them too.
                model[key] = leaf(f"{number}{name}")._replace(tsize=1 << 7 * size)
                tree.set(key, model[key])
        assert [key for key, _ in tree.walk()] == sorted(model)
        if not flush and number < len(steps):
            continue
        link = tree.flush(blocks.put)
        afresh = Blocks()
        assert link == build(afresh, model)
        assert contents(trees, link.cid) == cids(model)
        differ = {key for key in before.keys() | model if before.get(key) != model.get(key)}
        assert [change.key for change in changes(trees, root, link.cid)] == sorted(differ)
        before, root, tree = dict(model), link.cid, TreeBuilder(trees, link.cid)


# The name's length and the tsize of a link, by the bytes that it takes in a directory's block.
SIZED_LINKS = {
    unixfs.link_size(("x" * length, leaf(0).cid, tsize)): (length, tsize)
    for length in range(8, 250)
    for tsize in (1, 128)
}


@settings(max_examples=20)
@given(st.integers(1000, 5000))
def test_the_threshold_is_256_kib_of_block_to_the_byte(count):
    """A directory of exactly the threshold's size is plain, of one byte more a HAMT."""
    model = {f"{i}": leaf(i) for i in range(count)}
    room = unixfs.HAMT_THRESHOLD - _block_size(model)
    while room > 0:
        size = room if room in SIZED_LINKS else min(max(SIZED_LINKS), room // 2)
        while size not in SIZED_LINKS:
            size -= 1
        length, tsize = SIZED_LINKS[size]
        model[f"{len(model):08d}".ljust(length, "-")] = leaf(0)._replace(tsize=tsize)
        room -= size
    assert _block_size(model) == unixfs.HAMT_THRESHOLD
    blocks = Blocks()
    trees = Trees(blocks, SHA2)
    exact = build(blocks, model)
    assert not trees.directory(exact.cid).is_sharded
    tree: TreeBuilder[Link] = TreeBuilder(trees, exact.cid)
    tree.set("0", leaf(0)._replace(tsize=128))
    larger = tree.flush(blocks.put)
    assert trees.directory(larger.cid).is_sharded
    tree = TreeBuilder(trees, larger.cid)
    tree.set("0", leaf(0))
    assert tree.flush(blocks.put) == exact


def _block_size(model: dict[str, Link]) -> int:
    links = [(name, link.cid, link.tsize) for name, link in sorted(model.items())]
    return len(unixfs.directory(links))


@given(st.dictionaries(st.text(min_size=1, max_size=30), st.integers(0, 1 << 40), min_size=1))
def test_a_hamt_depends_on_the_names_alone_and_reads_back(sizes):
    entries = [(name, leaf(name).cid, size) for name, size in sizes.items()]
    stored: dict[Cid, bytes] = {}
    link = hamt.build(entries, SHA2, stored.__setitem__)
    again: dict[Cid, bytes] = {}
    assert hamt.build(entries[::-1], SHA2, again.__setitem__) == link
    assert again == stored
    assert link.tsize == sum(map(len, stored.values())) + sum(sizes.values())
    names = sorted(_names_below(stored, link.cid))
    assert names == sorted(sizes)


def _names_below(stored: dict[Cid, bytes], cid: Cid) -> list[str]:
    names: list[str] = []
    for link in hamt.read_shard(unixfs.decode(stored[cid])).values():
        if hamt.is_shard(link):
            names += _names_below(stored, link.cid)
        else:
            names.append(hamt.named(link).name)
    return names
