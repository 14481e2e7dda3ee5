"""A snapshot's name is not ours: Kubo gives the same CID to the same files."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.servers.kubo import Kubo
from versioned_zarr.ipld import cid, unixfs
from versioned_zarr.ipld.address.ipfs_address import read_cid
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder

MIB = 1 << 20
HASHES = ["sha2-256", "blake3"]
# As Zarr has them, hidden, in several alphabets, with what a shell or a URL would escape. Folders
# hold at most 255 bytes a name, and neither "/" nor NUL.
NAMES = st.one_of(
    st.sampled_from(["zarr.json", ".zarray", ".zattrs", ".zgroup", "c", "0", "1", "0.0", "labels"]),
    st.text("abc019._- %+#?\\:é漢🌍\u0301", min_size=1, max_size=12),
).filter(lambda name: name not in {".", ".."})
SEEDED = st.integers(0, 1 << 32)
# Sizes around the leaf of 1 MiB, seldom; a value is drawn from a seed, as hypothesis cannot make
# megabytes.
SIZES = st.one_of(
    st.integers(0, 200),
    st.integers(0, 100_000),
    st.sampled_from([MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17]),
)
VALUES = st.builds(lambda seed, size: random.Random(seed).randbytes(size), SEEDED, SIZES)
FOLDERS = st.recursive(
    VALUES, lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=5), max_leaves=15
).filter(lambda drawn: isinstance(drawn, dict))


class OurBlocks:
    """A source of blocks for a tree built from nothing: there are none to read."""

    def __init__(self) -> None:
        self.blocks: dict[cid.Cid, bytes] = {}

    def get(self, name: cid.Cid) -> bytes:
        return self.blocks[name]


@pytest.fixture(params=HASHES)
def hash_name(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "blake3":
        pytest.importorskip("blake3")
    return name


def flatten(folder: Mapping[str, object], path: str = "") -> Iterator[tuple[str, bytes]]:
    """Every key with its value; a folder that holds nothing has none."""
    for name, inner in folder.items():
        if isinstance(inner, bytes):
            yield path + name, inner
        else:
            yield from flatten(inner, f"{path}{name}/")


def our_cid(values: Mapping[str, bytes], hash_name: str) -> str:
    """The CID of the tree that holds these values, by versioned_zarr."""
    hash_function = cid.hash_function(hash_name)
    blocks = OurBlocks()
    tree: TreeBuilder[unixfs.File] = TreeBuilder(Trees(blocks, hash_function))
    for key, value in values.items():
        tree.set(key, unixfs.build_file(value, hash_function))
    return cid.to_text(tree.flush(blocks.blocks.__setitem__).cid)


def assert_same_name(kubo: Kubo, values: Mapping[str, bytes], hash_name: str) -> None:
    """Kubo and versioned_zarr name these values alike."""
    folder = Path(tempfile.mkdtemp(prefix="identity-"))
    try:
        for key, value in values.items():
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_bytes(value)
        assert our_cid(values, hash_name) == kubo.add_only_hash(folder, hash=hash_name)
    finally:
        shutil.rmtree(folder)


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(folder=FOLDERS)
def test_kubo_names_a_generated_folder_alike(
    kubo: Kubo, hash_name: str, folder: dict[str, object]
) -> None:
    assert_same_name(kubo, dict(flatten(folder)), hash_name)


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 5 * MIB + 3])
def test_kubo_names_values_around_the_leaf_size_alike(
    kubo: Kubo, hash_name: str, size: int
) -> None:
    values = {"c/0": random.Random(size).randbytes(size), "zarr.json": b"{}"}
    assert_same_name(kubo, values, hash_name)


@pytest.mark.slow
def test_kubo_names_a_value_of_more_than_1024_leaves_alike(kubo: Kubo, hash_name: str) -> None:
    assert_same_name(kubo, {"c/0": bytes(1025 * MIB)}, hash_name)


@pytest.mark.parametrize(
    "names",
    [
        [".zgroup", ".zattrs", ".hidden", "..dots", "...", "a."],
        ["é", "e\u0301", "漢字", "🌍", "Ω", "ﬀ"],
        ["a b", " a", "a ", "%2F", "a\\b", "a:b", "*", "?", '"', "'", "\n", "\t"],
        ["A", "a", "B", "aa", "a-", "a.", "a0"],
        ["x" * 255, "é" * 127],
    ],
    ids=["hidden", "unicode", "odd", "sorted by byte", "long"],
)
def test_kubo_names_odd_names_alike(kubo: Kubo, hash_name: str, names: list[str]) -> None:
    values = {f"{name}/{name}": name.encode() for name in names}
    assert_same_name(kubo, values, hash_name)


def flat_directory(block_size: int, hash_name: str) -> dict[str, bytes]:
    """Values whose directory, as one block, has exactly this many bytes."""
    hash_function = cid.hash_function(hash_name)
    empty = unixfs.build_file(b"", hash_function)
    values: dict[str, bytes] = {}
    size = len(unixfs.directory([]))

    def added(name: str) -> int:
        return unixfs.link_size((name, empty.cid, empty.tsize))

    # Room of 60 to 109 bytes is left for a last name whose length makes up the rest.
    for number in range(block_size):
        name = f"{number:06d}"
        if size + added(name) > block_size - 60:
            break
        values[name] = b""
        size += added(name)
    last = "z" * (block_size - size - added(""))
    values[last] = b""
    assert size + added(last) == block_size
    return values


@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_kubo_shards_a_directory_at_the_same_size(kubo: Kubo, hash_name: str, beyond: int) -> None:
    values = flat_directory(unixfs.HAMT_THRESHOLD + beyond, hash_name)
    assert_same_name(kubo, values, hash_name)


@pytest.mark.parametrize("count", [257, 10_000])
def test_kubo_names_many_chunks_alike(kubo: Kubo, hash_name: str, count: int) -> None:
    values = {f"temperature/c/{i}": b"%d" % i for i in range(count)}
    assert_same_name(kubo, values, hash_name)


def test_a_cid_is_read_in_every_base_that_kubo_writes(kubo: Kubo) -> None:
    tree = cid.hash_function("sha2-256").dag_pb(b"")
    bases = kubo.run("cid", "bases").decode().split()
    assert {"base2", "base16upper", "base36", "base58btc", "base64url"} <= set(bases)
    for base in set(bases) - {"identity", "base256emoji"}:
        text = kubo.run("cid", "format", "-b", base, cid.to_text(tree)).decode().strip()
        assert read_cid(text) == tree
    version_0 = kubo.run("cid", "format", "-v", "0", "-b", "base58btc", cid.to_text(tree))
    assert read_cid(version_0.decode().strip()) == tree
