"""What differs is said in Zarr's terms, for both formats, and costs what the change costs."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.core.sync import sync

import versioned_zarr as vz
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session

# format, chunk key encoding, shards; and the key of the chunk (or shard) at the origin
LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "v2, dots": ({"zarr_format": 2}, "0.0"),
    "v2, slashes": (
        {"zarr_format": 2, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        "0/0",
    ),
    "v3, default": ({"zarr_format": 3}, "c/0/0"),
    "v3, default with dots": (
        {"zarr_format": 3, "chunk_key_encoding": {"name": "default", "separator": "."}},
        "c.0.0",
    ),
    "v3, as v2": (
        {"zarr_format": 3, "chunk_key_encoding": {"name": "v2", "separator": "."}},
        "0.0",
    ),
    "v3, as v2 with slashes": (
        {"zarr_format": 3, "chunk_key_encoding": {"name": "v2", "separator": "/"}},
        "0/0",
    ),
    "v3, shards": ({"zarr_format": 3, "shards": (4, 4)}, "c/0/0"),
}


@pytest.fixture
def repository() -> Repository:
    return vz.create(f"memory://{uuid.uuid4()}")


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> tuple[dict[str, Any], str]:
    return LAYOUTS[request.param]


def make(session: Session, path: str = "g/x", **layout: Any) -> Any:
    """An array of 8 x 8 zeros in stored chunks of 4 x 4, which hold nothing yet."""
    chunks = (2, 2) if layout.get("shards") else (4, 4)
    return zarr.create_array(
        session.store, name=path, shape=(8, 8), chunks=chunks, dtype="i4", fill_value=0, **layout
    )


def chunks(diff: vz.Diff, path: str = "g/x") -> dict[tuple[int, ...], str]:
    return {chunk.coordinates: chunk.how for chunk in diff.nodes[path].chunks}


def test_chunks_have_coordinates(
    repository: Repository, layout: tuple[dict[str, Any], str]
) -> None:
    arguments, first = layout
    session = repository.session()
    array = make(session, **arguments)
    array[:4, :4] = 1
    array[4:, 4:] = 1
    session.commit("made")
    array[0, 0] = 2
    array[0, 4:] = 3
    array[4:, 4:] = 0  # zarr deletes a chunk of nothing but the fill value
    session.commit("changed")
    diff = repository.diff("main")
    assert chunks(diff) == {(0, 0): "changed", (0, 1): "added", (1, 1): "removed"}
    node = diff.nodes["g/x"]
    assert (node.is_array, node.how, node.fields, node.grid_shape) == (True, "changed", {}, (2, 2))
    assert node.chunks_changed[0].key == f"g/x/{first}"
    assert [len(node.chunks_added), len(node.chunks_removed)] == [1, 1]
    assert diff.nodes_changed == ["g/x"]
    assert diff.other_keys == []


def test_the_status_of_a_session_is_such_a_diff(
    repository: Repository, layout: tuple[dict[str, Any], str]
) -> None:
    session = repository.session()
    array = make(session, **layout[0])
    array[:] = 1
    session.commit("made")
    assert not session.status()
    array[0, 0] = 2
    array.attrs["units"] = "K"
    status = session.status()
    assert chunks(status) == {(0, 0): "changed"}
    assert status.nodes["g/x"].fields == {"attributes.units": (None, "K")}
    commit = session.commit("changed")
    assert repository.diff(commit.cid).to_dict()["nodes"] == status.to_dict()["nodes"]


def test_fields_go_from_old_to_new(
    repository: Repository, layout: tuple[dict[str, Any], str]
) -> None:
    arguments, _ = layout
    session = repository.session()
    array = make(session, **arguments)
    array.attrs.update({"units": "K", "title": "t"})
    session.commit("made")
    array.resize((12, 8))
    array.attrs.put({"units": "degC", "source": {"a": [1]}})
    session.commit("changed")
    node = repository.diff("main").nodes["g/x"]
    assert node.fields == {
        "shape": ([8, 8], [12, 8]),
        "attributes.units": ("K", "degC"),
        "attributes.title": ("t", None),
        "attributes.source": (None, {"a": [1]}),
    }
    assert node.grid_shape == (3, 2)
    assert node.chunks == []


@pytest.mark.parametrize(
    ("zarr_format", "expected"),
    [
        (2, {"shape", "chunks", "dtype", "compressor"}),
        (3, {"shape", "chunks", "dtype", "codecs"}),
    ],
)
def test_a_rewritten_array_names_shape_chunks_dtype_and_codecs(
    repository: Repository, zarr_format: Any, expected: set[str]
) -> None:
    session = repository.session()
    group = zarr.open_group(session.store, zarr_format=zarr_format)
    group.create_array("x", shape=(8,), chunks=(4,), dtype="i4")[:] = 1
    session.commit("made")
    new = group.create_array(
        "x", shape=(6,), chunks=(2,), dtype="f8", compressors=None, overwrite=True
    )
    new[:] = 1.0
    session.commit("made again")
    node = repository.diff("main").nodes["x"]
    assert node.how == "changed"
    assert expected <= node.fields.keys()
    assert node.fields["shape"] == ([8], [6])
    assert node.fields["chunks"] == ([4], [2])
    assert {chunk.coordinates: chunk.how for chunk in node.chunks} == {
        (0,): "changed", (1,): "changed", (2,): "added",
    }  # fmt: skip


def test_shards_and_their_inner_chunks_are_told_apart(repository: Repository) -> None:
    session = repository.session()
    make(session, zarr_format=3, shards=(4, 4))
    session.commit("made")
    make(session, zarr_format=3, shards=(8, 8), overwrite=True)
    session.commit("made again")
    fields = repository.diff("main").nodes["g/x"].fields
    assert fields == {"shards": ([4, 4], [8, 8])}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_scalar_array_has_one_chunk_without_coordinates(
    repository: Repository, zarr_format: Any
) -> None:
    session = repository.session()
    array = zarr.create_array(
        session.store, name="s", shape=(), dtype="f8", zarr_format=zarr_format
    )
    session.commit("made")
    array[...] = 1.5
    session.commit("set")
    assert chunks(repository.diff("main"), "s") == {(): "added"}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_nodes_are_added_and_removed(repository: Repository, zarr_format: Any) -> None:
    session = repository.session()
    group = zarr.open_group(session.store, zarr_format=zarr_format)
    group.create_array("old", shape=(4,), chunks=(2,), dtype="i4")[:] = 7
    session.commit("made")
    inner = group.create_group("new", attributes={"a": 1})
    inner.create_array("x", shape=(4,), chunks=(2,), dtype="f8")[:] = 8
    del group["old"]
    session.commit("changed")
    diff = repository.diff("main")
    assert diff.nodes_added == ["new", "new/x"]
    assert diff.nodes_removed == ["old"]
    assert diff.nodes_moved == []
    assert not diff.nodes["new"].is_array
    assert diff.nodes["new"].fields["attributes.a"] == (None, 1)
    assert diff.nodes["old"].fields["shape"] == ([4], None)
    assert {chunk.how for chunk in diff.nodes["old"].chunks} == {"removed"}
    assert set(diff.arrays) == {"new/x", "old"}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_moved_node_is_no_news(repository: Repository, zarr_format: Any) -> None:
    session = repository.session()
    group = zarr.open_group(session.store, zarr_format=zarr_format)
    inner = group.create_group("here")
    inner.create_array("x", shape=(4,), chunks=(2,), dtype="i4")[:] = 7
    group.create_array("stays", shape=(4,), chunks=(2,), dtype="i4")[:] = 7
    session.commit("made")
    for key, value in dict(session.mapping).items():
        if key.startswith("here/"):
            session.write(f"there/deep/{key.removeprefix('here/')}", value)
    session.clear("here")
    session.commit("moved")
    diff = repository.diff("main")
    assert diff.nodes_moved == [("here", "there/deep")]
    assert diff.nodes_added == diff.nodes_removed == diff.nodes_changed == []
    assert diff.to_dict()["moved"] == [["here", "there/deep"]]
    assert "here -> there/deep: moved" in str(diff)


def move(session: Session, old: str, new: str) -> None:
    """Write what lies in one folder into another instead."""
    for key in list(session.keys(old)):
        session.write(f"{new}{key.removeprefix(old)}", session.read(key))
    session.clear(old)


def filled(session: Session, *paths: str) -> None:
    """Groups named `g…` and arrays, each array with values of its own."""
    for number, path in enumerate(paths, 1):
        if path.rpartition("/")[2].startswith("g"):
            zarr.create_group(session.store, path=path, attributes={"number": number})
        else:
            make(session, path, zarr_format=3)[:] = number


def test_a_node_that_moved_into_a_new_group_is_shown_as_moved(repository: Repository) -> None:
    session = repository.session()
    filled(session, "x", "y")
    session.commit("made")
    filled(session, "g", "g/z")
    move(session, "x", "g/x")
    move(session, "y", "g/deep/why")
    session.commit("moved")
    diff = repository.diff("main")
    assert diff.nodes_moved == [("x", "g/x"), ("y", "g/deep/why")]
    assert diff.nodes_added == ["g", "g/z"]
    assert diff.nodes_removed == diff.nodes_changed == []
    back = repository.diff("main", "main~1")
    assert back.nodes_moved == [("g/deep/why", "y"), ("g/x", "x")]
    assert back.nodes_removed == ["g", "g/z"]
    assert back.nodes_added == []


def test_a_group_that_moved_and_changed_is_new_and_what_is_in_it_moved(
    repository: Repository,
) -> None:
    session = repository.session()
    filled(session, "g1", "g1/a", "g1/b", "g1/g", "g1/g/c")
    session.commit("made")
    move(session, "g1", "g2")
    session.write("g2/more", b"1")
    session.commit("moved")
    diff = repository.diff("main")
    assert (diff.nodes_added, diff.nodes_removed) == (["g2"], ["g1"])
    assert diff.nodes_moved == [("g1/a", "g2/a"), ("g1/b", "g2/b"), ("g1/g", "g2/g")]


def test_nodes_that_hold_the_same_are_paired_by_name(repository: Repository) -> None:
    session = repository.session()
    for path in ("g/a", "g/b", "g/c"):
        make(session, path, zarr_format=3)
    session.commit("made")
    move(session, "g/c", "g3/a")
    move(session, "g/b", "g2/b")
    move(session, "g/a", "g1/c")
    session.commit("moved")
    diff = repository.diff("main")
    assert [pair for pair in diff.nodes_moved if pair[0] == "g/b"] == [("g/b", "g2/b")]
    assert len(diff.nodes_moved) == 3


def test_a_node_that_changed_below_one_that_moved_is_shown(repository: Repository) -> None:
    session = repository.session()
    filled(session, "g", "g/x")
    session.commit("made")
    document = session.read("g/zarr.json")
    session.delete("g/zarr.json")
    session.write("new/zarr.json", document)
    zarr.open_array(session.store, path="g/x", mode="r+")[0, 0] = 9
    session.commit("changed")
    diff = repository.diff("main")
    assert diff.nodes_moved == [("g", "new")]
    assert diff.nodes_changed == ["g/x"]


def test_keys_that_belong_to_no_node_are_named(repository: Repository) -> None:
    session = repository.session()
    make(session, zarr_format=3)
    session.commit("made")
    session.write("README.md", b"text")
    session.write("g/x/notes.txt", b"text")
    session.write("g/x/c/7", b"too few coordinates")
    session.write("g/x/c/a/b", b"no numbers")
    session.commit("foreign")
    diff = repository.diff("main")
    assert [change.key for change in diff.other_keys] == [
        "README.md", "g/x/c/7", "g/x/c/a/b", "g/x/notes.txt",
    ]  # fmt: skip
    assert diff.nodes == {}
    assert "added key README.md" in str(diff)


def test_consolidated_metadata_is_no_field_of_the_arrays_in_it(repository: Repository) -> None:
    session = repository.session()
    group = zarr.open_group(session.store, zarr_format=2)
    array = group.create_array("x", shape=(4,), dtype="i4")
    zarr.consolidate_metadata(session.store.with_consolidated_metadata())
    session.commit("made")
    array.attrs["a"] = 1
    zarr.consolidate_metadata(session.store.with_consolidated_metadata())
    session.commit("changed")
    diff = repository.diff("main")
    assert diff.nodes["x"].fields == {"attributes.a": (None, 1)}
    assert {change.key for change in diff} == {".zmetadata", "x/.zattrs"}


def test_one_argument_compares_with_the_first_parent(repository: Repository) -> None:
    session = repository.session()
    make(session, zarr_format=3)
    session.commit("made")
    assert repository.diff("main").nodes_added == repository.diff("main~1", "main").nodes_added
    root = repository.diff("main~1")
    assert root.is_empty
    assert not root
    assert str(root) == "no differences"
    with pytest.raises(vz.InvalidRefError):
        repository.diff(repository.checkout().cid)


def test_refs_that_went_apart_are_compared_with_each_other(repository: Repository) -> None:
    session = repository.session()
    array = make(session, zarr_format=3)
    session.commit("made")
    repository.branches.create("other")
    array[:4, :4] = 1
    session.commit("ours")
    theirs = repository.session("other")
    zarr.open_array(theirs.store, path="g/x")[4:, 4:] = 1
    theirs.commit("theirs")
    assert chunks(repository.diff("main", "other")) == {(0, 0): "removed", (1, 1): "added"}
    assert chunks(repository.diff("other", "main")) == {(0, 0): "added", (1, 1): "removed"}
    tree = repository.checkout("other").cid
    assert chunks(repository.diff("main", tree)) == chunks(repository.diff("main", "other"))


def test_unrelated_refs_are_compared_too(repository: Repository) -> None:
    session = repository.session()
    make(session, "a", zarr_format=3)
    session.commit("one")
    repository.branches.create("apart", "main~1")
    other = repository.session("apart")
    make(other, "b", zarr_format=2)
    other.commit("two")
    diff = repository.diff("main", "apart")
    assert (diff.nodes_added, diff.nodes_removed) == (["b"], ["a"])


def test_a_diff_is_json(repository: Repository) -> None:
    session = repository.session()
    array = make(session, zarr_format=3)
    session.commit("made")
    array[:4, :4] = 1
    array.attrs["a"] = [1, None, "é"]
    session.write("foreign", b"")
    session.commit("changed")
    diff = repository.diff("main")
    document = json.loads(json.dumps(diff.to_dict()))
    (node,) = document["nodes"]
    assert node["path"] == "g/x"
    assert node["fields"] == {"attributes.a": {"old": None, "new": [1, None, "é"], "how": "added"}}
    assert node["chunks"] == [{"key": "g/x/c/0/0", "coordinates": [0, 0], "how": "added"}]
    assert document["other_keys"][0]["key"] == "foreign"
    text = str(diff)
    assert "changed array g/x; chunks: 1 added" in text
    assert "attributes.a: nothing ->" in text


def test_documents_that_are_no_json_are_keys(repository: Repository) -> None:
    session = repository.session()
    session.write("a/zarr.json", b"{")
    session.write("b/.zarray", b"[1]")
    session.write("c/zarr.json", b'{"node_type": "array", "shape": "x", "codecs": 3}')
    session.write("c/c/0", b"")
    session.commit("odd")
    diff = repository.diff("main")
    assert {change.key for change in diff} == {"a/zarr.json", "b/.zarray", "c/zarr.json", "c/c/0"}
    assert {change.key for change in diff.other_keys} >= {"a/zarr.json"}
    assert diff.nodes["c"].grid_shape is None
    assert str(diff)


@pytest.mark.parametrize("is_inline", [True, False])
def test_a_session_shows_what_its_commit_shows(repository: vz.Repository, is_inline: bool) -> None:
    """The sizes and inner chunks of what is not stored yet are those of what is."""
    length = 64 if is_inline else 1 << 20
    with repository.session(message="made") as session:
        array = zarr.create_array(
            session.store, name="x", shape=(length,), chunks=(length // 8,), shards=(length,),
            dtype="u2", compressors=None,
        )  # fmt: skip
        array[:] = 1
    session = repository.session()
    zarr.open_array(session.store, path="x")[: length // 8] = 2
    session.write("note", b"n")
    status = session.status()
    shown = (status.to_dict(), str(status), [*status.nodes["x"].chunks])
    inner = [chunk.inner_coordinates for chunk in status.nodes["x"].chunks]
    session.commit("changed")
    diff = repository.diff("main")
    assert [chunk.inner_coordinates for chunk in diff.nodes["x"].chunks] == inner == [((0,),)]
    told = diff.to_dict()
    names = {"old", "new", "base", "other"}
    assert {name: told[name] for name in told if name not in names} == {
        name: shown[0][name] for name in shown[0] if name not in names
    }


# What it costs


class Counting:
    """A block source that counts what is read."""

    def __init__(self, blocks: Any) -> None:
        self._blocks = blocks
        self.count = 0

    def get(self, cid: Cid) -> memoryview:
        self.count += 1
        found: memoryview = self._blocks.get(cid)
        return found

    def __contains__(self, cid: Cid) -> bool:
        return cid in self._blocks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._blocks, name)


def reopened_counting(repository: Repository) -> tuple[Repository, Counting]:
    """The repository with nothing in memory, and what counts its reads."""
    from versioned_zarr.engine.context import RepositoryContext
    from versioned_zarr.tree.lookup import Trees

    stores = repository._stores
    counting = Counting(stores.blocks)
    blocks: Any = counting
    trees = Trees(blocks, stores.hash)
    fresh = RepositoryContext(
        stores.storage, blocks, stores.refs, trees, stores.read_marker, stores.open_other
    )
    return Repository(fresh, lambda: repository), counting


@pytest.mark.slow
def test_a_diff_reads_what_changed_and_not_the_rest(repository: Repository) -> None:
    session = repository.session()
    for group in range(40):
        for array in range(20):
            path = f"{group}/{array}"
            session.write(f"{path}/zarr.json", json.dumps({"n": path}).encode())
            for chunk in range(5):
                session.write(f"{path}/c/{chunk}", f"{path} {chunk}".encode())
    array = zarr.create_array(session.store, name="big", shape=(20_000,), chunks=(1,), dtype="u2")
    array[:] = np.arange(20_000)
    session.commit("made")
    array[777] = 1
    session.write("7/7/c/3", b"other")
    session.commit("two chunks")
    fresh, counting = reopened_counting(repository)
    diff = fresh.diff("main~1", "main")
    before = counting.count
    assert [change.key for change in diff] == ["7/7/c/3", "big/c/777"]
    # Twice the way down: the root, 7, 7/7, 7/7/c; big, big/c and two levels of its shards.
    assert counting.count - before <= 20
    assert chunks(diff, "big") == {(777,): "changed"}
    assert counting.count - before <= 40


def test_is_empty_looks_no_further_than_the_first_key(repository: Repository) -> None:
    session = repository.session()
    for number in range(300):
        session.write(f"{number}/a/b", str(number).encode())
    session.commit("made")
    fresh, counting = reopened_counting(repository)
    diff = fresh.diff("main")
    before = counting.count
    assert diff
    assert counting.count - before <= 8
    assert len(diff.keys) == 300
    assert counting.count - before >= 600


def test_equal_trees_cost_nothing(repository: Repository) -> None:
    session = repository.session()
    sync(session.store.set("a/b", zarr.core.buffer.cpu.Buffer.from_bytes(b"1")))
    session.commit("made")
    repository.branches.create("same")
    fresh, counting = reopened_counting(repository)
    diff = fresh.diff("main", "same")
    before = counting.count
    assert not diff
    assert counting.count == before


def test_dots_mean_what_they_mean_in_git(repository: Repository) -> None:
    def commit(branch: str, key: str) -> str:
        with repository.session(branch, message=key) as session:
            session.mapping[key] = b"x"
        return repository.branches[branch].cid

    left = commit("main", "a")
    repository.branches.create("dev")
    commit("main", "b")
    commit("dev", "c")

    def keys(*sides: str) -> dict[str, str]:
        changes = repository.diff(*sides).keys
        return {change.key: "added" if change.old is None else "removed" for change in changes}

    assert keys("main..dev") == keys("main", "dev") == {"b": "removed", "c": "added"}
    assert keys("main...dev") == {"c": "added"}
    assert keys("dev...main") == {"b": "added"}
    assert keys("main...main~1") == {}
    assert str(repository.diff("main...dev")) == str(repository.diff(left, "dev"))
    for nothing in ("main...", "..dev", "...", "main...gone"):
        with pytest.raises((vz.InvalidRefError, vz.RefNotFoundError)):
            repository.diff(nothing)


def test_shards_are_read_when_their_inner_chunks_are_asked_for(repository: Repository) -> None:
    session = repository.session()
    array = zarr.create_array(
        session.store, name="x", shape=(1 << 21,), chunks=(1 << 16,), shards=(1 << 21,), dtype="u2",
        compressors=None, fill_value=0,
    )  # fmt: skip
    array[: 1 << 20] = np.arange(1 << 20) % 999 + 1
    session.commit("made")
    array[1 << 20 :] = np.arange(1 << 20) % 777 + 1
    session.commit("half of it")
    fresh, counting = reopened_counting(repository)
    diff = fresh.diff("main~1", "main")
    (chunk,) = diff.nodes["x"].chunks
    assert str(diff)
    assert diff.to_dict()
    before = counting.count
    assert chunk.inner_coordinates == tuple((number,) for number in range(16, 32))
    # Each state's root, and once each leaf: of the index, and of the half that is equally long.
    asked = counting.count - before
    assert 0 < asked <= 12
    assert chunk.inner_coordinates is not None
    assert counting.count - before == asked


def test_long_values_are_shown_from_their_first_difference_on() -> None:
    repository = vz.create("memory://long-values")
    text = "PROJCS[" + "a" * 500
    values = [{"crs": f"{text} zone 32N{'b' * 500}"}, {"crs": f"{text} zone 33N{'b' * 500}"}]
    for attributes in values:
        with repository.session(message="next") as session:
            document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
            session.write("zarr.json", json.dumps(document).encode())
    (line,) = [line for line in str(repository.diff("main")).splitlines() if "crs" in line]
    assert "zone 32N" in line
    assert "zone 33N" in line
    assert len(line) < 300
    assert repository.diff("main").nodes[""].fields["attributes.crs"] == tuple(
        value["crs"] for value in values
    )
