"""Trees that others made to do harm: they are refused in time, and nothing is written elsewhere."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz
from versioned_zarr.blocks import file_reader
from versioned_zarr.interfaces.files import zarr_export
from versioned_zarr.interfaces.files.zarr_export import to_folder
from versioned_zarr.ipld import dag_pb, hamt, unixfs
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.varint import encode as varint
from versioned_zarr.repository.repository import Repository

pytest.importorskip("click")
from versioned_zarr.cli.app import run


class Forge:
    """Makes blocks that no tree of ours has, in a repository."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._hash = repository._stores.hash
        self._blocks: list[tuple[Cid, bytes]] = []

    def leaf(self, data: bytes) -> Link:
        return self._add(self._hash.raw(data), data, len(data))

    def folder(self, links: Sequence[tuple[str, Link]]) -> Link:
        named = sorted(Link(name, link.cid, link.tsize) for name, link in links)
        return self._node(unixfs.directory(named))

    def shard(self, links: Sequence[tuple[str, Link]], bitfield: int) -> Link:
        named = [Link(name, link.cid, link.tsize) for name, link in links]
        return self._node(unixfs.shard(named, bitfield))

    def file(self, parts: Sequence[tuple[Link, int]], data: bytes = b"") -> Link:
        """A value of parts, each with the size that is told of it."""
        inner = b"\x12" + varint(len(data)) + data if data else b""
        size = len(data) + sum(told for _, told in parts)
        told = b"".join(b"\x20" + varint(told) for _, told in parts)
        message = b"\x08\x02" + inner + b"\x18" + varint(size) + told
        return self._node(dag_pb.encode([("", link.cid, link.tsize) for link, _ in parts], message))

    def _node(self, block: bytes) -> Link:
        return self._add(self._hash.dag_pb(block), block, len(block))

    def _add(self, cid: Cid, block: bytes, tsize: int) -> Link:
        self._blocks.append((cid, block))
        return Link("", cid, tsize)

    def snapshot(self, root: Link) -> vz.Snapshot:
        self.repository._stores.blocks.put(list(dict(self._blocks).items()), root.cid)
        return self.repository.checkout(to_text(root.cid))


@pytest.fixture(params=["memory", "folder", "verified folder"])
def forge(tmp_path: Path, request: pytest.FixtureRequest) -> Forge:
    place = tmp_path / "r.vz"
    if request.param == "memory":
        return Forge(vz.create(f"memory://forge-{uuid.uuid4().hex}"))
    return Forge(vz.create(place, verify="always" if "verified" in request.param else "network"))


def bomb(forge: Forge, leaf: Link, levels: int, width: int = 2) -> Link:
    """Directories that link to the next one several times: width ** levels keys."""
    link = forge.folder([("v", leaf)] if leaf is not None else [])
    for _ in range(levels):
        link = forge.folder([(str(number), link) for number in range(width)])
    return link


# Many keys


@pytest.mark.parametrize("levels", [40, 250])
def test_a_tree_of_shared_folders_is_refused_before_it_is_written(
    forge: Forge, tmp_path: Path, levels: int
) -> None:
    snapshot = forge.snapshot(bomb(forge, forge.leaf(b"x"), levels))
    with pytest.raises(vz.InvalidInputError, match=r"keys and folders.*max_keys=") as info:
        snapshot.to_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    if levels == 40:
        assert f"{2**40 + 2**41 - 2:,}" in str(info.value)
    assert next(iter(snapshot.keys())).endswith("/v")
    assert str(snapshot)
    assert snapshot._repr_html_()


def test_a_tree_of_empty_shared_folders_is_refused(forge: Forge, tmp_path: Path) -> None:
    snapshot = forge.snapshot(bomb(forge, None, 40))  # type: ignore[arg-type]  # no leaf at all
    with pytest.raises(vz.InvalidInputError, match="max_keys"):
        snapshot.to_folder(tmp_path / "out")


def test_the_limit_can_be_said(
    forge: Forge, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    snapshot = forge.snapshot(bomb(forge, forge.leaf(b"x"), 3))
    with pytest.raises(vz.InvalidInputError, match="22 keys and folders"):
        to_folder(snapshot, tmp_path / "out", max_keys=21)
    to_folder(snapshot, tmp_path / "out", max_keys=22)
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 8
    with pytest.raises(vz.InvalidInputError, match=r"8 bytes long.*max_bytes=8"):
        to_folder(snapshot, tmp_path / "out2", max_bytes=7)
    to_folder(snapshot, tmp_path / "out2", max_bytes=8)
    words = ["-C", forge.repository.url, "export", snapshot.cid, str(tmp_path / "out3")]
    if forge.repository.url.startswith("file:"):
        with pytest.raises(SystemExit):
            run([*words, "--max-keys", "21"])
        assert "pass --max-keys 22" in capfd.readouterr().err
        run([*words, "--max-keys", "22"])
        assert vz.cid_of_folder(tmp_path / "out3") == vz.cid_of_folder(tmp_path / "out")


def test_listing_a_bomb_as_json_is_refused(forge: Forge, capfd: pytest.CaptureFixture[str]) -> None:
    snapshot = forge.snapshot(bomb(forge, forge.leaf(b"x"), 40))
    with pytest.raises(SystemExit):
        run(["-C", forge.repository.url, "ls", snapshot.cid, "-r", "--json"])
    out, err = capfd.readouterr()
    assert out == ""
    assert "keys and folders" in err


def test_a_hamt_of_shared_shards_is_refused(forge: Forge, tmp_path: Path) -> None:
    """Eight levels of 256 slots would be 2^64 names."""
    slots = [f"{number:02X}" for number in range(256)]
    link = forge.shard([(f"{slot}v{slot}", forge.leaf(b"x")) for slot in slots], (1 << 256) - 1)
    for _ in range(hamt.MAX_DEPTH - 1):
        link = forge.shard([(slot, link) for slot in slots], (1 << 256) - 1)
    snapshot = forge.snapshot(link)
    for work in (
        snapshot.list_dir,
        lambda: list(snapshot.keys()),
        lambda: snapshot.to_folder(tmp_path / "out"),
    ):
        with pytest.raises(vz.CorruptBlockError, match="twice in one HAMT"):
            work()


def test_a_tree_that_is_too_deep_is_refused(forge: Forge, tmp_path: Path) -> None:
    link = forge.folder([("v", forge.leaf(b"x"))])
    for _ in range(5000):
        link = forge.folder([("d", link)])
    snapshot = forge.snapshot(link)
    with pytest.raises(vz.CorruptBlockError, match="255 deep"):
        snapshot.to_folder(tmp_path / "out")
    with pytest.raises(vz.CorruptBlockError, match="255 deep"):
        list(snapshot.keys())


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\0b", "../../x"])
@pytest.mark.parametrize("is_large", [False, True])
def test_a_name_that_leads_elsewhere_is_refused(
    forge: Forge, tmp_path: Path, name: str, is_large: bool
) -> None:
    leaf = forge.leaf(b"x")
    others = [(f"k{number}", leaf) for number in range(500 if is_large else 0)]
    snapshot = forge.snapshot(forge.folder([("a", forge.folder([(name, leaf), *others]))]))
    with pytest.raises(vz.CorruptBlockError):
        snapshot.to_folder(tmp_path / "out")
    with pytest.raises(vz.CorruptBlockError):
        list(snapshot.keys())
    assert {path.name for path in tmp_path.iterdir()} <= {"r.vz"}


# Large values


def huge(forge: Forge, leaf: Link, size: int, levels: int) -> tuple[Link, int]:
    """A value that holds a leaf 2 ** levels times."""
    link = leaf
    for _ in range(levels):
        link = forge.file([(link, size), (link, size)])
        size *= 2
    return link, size


def test_a_value_by_repetition_is_read_in_ranges_and_not_as_a_whole(
    forge: Forge, tmp_path: Path
) -> None:
    link, size = huge(forge, forge.leaf(b"0123456789"), 10, 50)
    snapshot = forge.snapshot(forge.folder([("v", link)]))
    assert snapshot.size("v") == size == 10 * 2**50
    assert bytes(snapshot.read("v", size - 15, size)) == b"567890123456789"[-15:]
    assert bytes(snapshot.read("v", 8, 22)) == b"89012345678901"
    assert bytes(snapshot.read("v", -3)) == b"789"
    for work in (
        lambda: snapshot.read("v"),
        lambda: snapshot.read("v", 1),
        lambda: snapshot.mapping["v"],
    ):
        with pytest.raises(vz.InvalidInputError, match="memory"):
            work()
    with pytest.raises(vz.StorageError, match=r"max_bytes=11258999068426240"):
        snapshot.to_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_document_by_repetition_is_not_read_to_show_a_snapshot(forge: Forge) -> None:
    link, size = huge(forge, forge.leaf(b" " * (1 << 20)), 1 << 20, 12)
    snapshot = forge.snapshot(forge.folder([("zarr.json", link)]))
    assert size <= file_reader.memory_bytes()
    asked: list[int] = []
    read_found = snapshot._read_found
    # On this object alone, as below.
    snapshot._read_found = lambda *args: asked.append(1) or read_found(*args)  # type: ignore[method-assign]
    assert "zarr.json" in str(snapshot)
    assert "zarr.json" in snapshot._repr_html_()
    assert asked == []


def test_cat_writes_a_large_value_in_pieces(
    forge: Forge, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versioned_zarr.cli.value_commands._READ_AT_ONCE", 7)
    snapshot = forge.snapshot(
        forge.folder(
            [("v", huge(forge, forge.leaf(b"0123456789"), 10, 3)[0]), ("e", forge.leaf(b""))]
        )
    )
    run(["-C", forge.repository.url, "cat", snapshot.cid, "v"])
    run(["-C", forge.repository.url, "cat", snapshot.cid, "e"])
    assert capfdbinary.readouterr().out == b"0123456789" * 8


def test_many_small_pieces_take_no_more_than_their_bytes(forge: Forge) -> None:
    link, size = huge(forge, forge.leaf(b"ab"), 2, 12)
    snapshot = forge.snapshot(forge.folder([("v", link)]))
    assert bytes(snapshot.read("v")) == b"ab" * (size // 2)
    assert bytes(snapshot.read("v", 1, size - 1)) == (b"ab" * (size // 2))[1:-1]


def test_empty_parts_are_not_followed(forge: Forge) -> None:
    """2^60 of them; each would be looked at."""
    empty, _ = huge(forge, forge.leaf(b""), 0, 60)
    link = forge.file([(empty, 0), (forge.leaf(b"x"), 1), (empty, 0)])
    snapshot = forge.snapshot(forge.folder([("v", link), ("e", empty)]))
    assert bytes(snapshot.read("v")) == b"x"
    assert bytes(snapshot.read("e")) == b""


@given(
    st.lists(st.binary(max_size=5), min_size=1, max_size=4),
    st.lists(st.integers(-2, 3) | st.just(2**45), min_size=4, max_size=4),
    st.booleans(),
    st.integers(0, 30),
    st.none() | st.integers(0, 30),
)
def test_a_value_that_tells_wrong_sizes_is_told_or_right(
    parts: list[bytes], wrong: list[int], is_nested: bool, start: int, end: int | None
) -> None:
    forge = Forge(vz.create(f"memory://forge-{uuid.uuid4().hex}"))
    told = [max(0, len(part) + more) for part, more in zip(parts, wrong, strict=False)]
    link = forge.file([(forge.leaf(part), size) for part, size in zip(parts, told, strict=True)])
    if is_nested:
        link = forge.file([(link, sum(told)), (forge.leaf(b"end"), 3)])
    snapshot = forge.snapshot(forge.folder([("v", link)]))
    whole = b"".join(parts) + (b"end" if is_nested else b"")
    is_right = told == [len(part) for part in parts]
    try:
        found = bytes(snapshot.read("v", start, end))
    except (vz.CorruptBlockError, vz.InvalidInputError):
        assert not is_right
    else:
        if is_right:
            assert found == whole[start:end]
        if (start, end) == (0, None):  # a node that is told to be empty is not opened
            assert is_right or (is_nested and not sum(told))


@pytest.mark.parametrize("told", [(5, 5), (1000, 5), (5, 1000), (2, 5), (0, 10), (6, 4)])
def test_wrong_sizes_are_told_by_a_partial_copy(tmp_path: Path, told: tuple[int, int]) -> None:
    forge = Forge(vz.create(tmp_path / "whole.vz"))
    with forge.repository.session(message="x") as session:
        session.write("x", b"1")
    parts = [(forge.leaf(b"12345"), told[0]), (forge.leaf(b"67890"), told[1])]
    there = forge.snapshot(forge.folder([("v", forge.file(parts))]))
    copy = vz.clone(forge.repository.url, tmp_path / "part.vz", paths=["x"])
    for _ in range(2):  # once it is fetched, too
        snapshot = vz.Snapshot(copy, there._tree)
        if told == (5, 5):
            assert bytes(snapshot.read("v")) == b"1234567890"
        else:
            with pytest.raises(vz.CorruptBlockError):
                snapshot.read("v")


def test_what_a_node_claims_is_not_allocated(
    forge: Forge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The leaf is 5 bytes long, whatever is told of it."""
    asked: list[int] = []
    take = file_reader.np.empty
    monkeypatch.setattr(
        file_reader.np, "empty", lambda size, *rest: asked.append(size) or take(size, *rest)
    )
    claimed = 1 << 60
    leaf = forge.leaf(b"12345")
    folder = forge.folder([
        ("flat", forge.file([(leaf, claimed)])),
        ("nested", forge.file([(forge.file([(leaf, claimed)]), claimed)])),
        ("short", forge.file([(leaf, 1000), (leaf, 1000)])),
        ("deep", forge.file([(forge.file([(leaf, 5)]), 1000)])),
        ("folder", forge.file([(forge.folder([]), 1000)])),
    ])  # fmt: skip
    snapshot = forge.snapshot(folder)
    for name in ("flat", "nested", "short", "deep", "folder"):
        with pytest.raises((vz.CorruptBlockError, vz.InvalidInputError)):
            snapshot.read(name)
        with pytest.raises((vz.CorruptBlockError, vz.InvalidInputError)):
            snapshot.read(name, 3, 100)
    assert all(size <= 2000 for size in asked)


def test_a_nest_of_nodes_needs_no_stack(forge: Forge) -> None:
    link = forge.leaf(b"12345")
    for _ in range(3000):
        link = forge.file([(link, 5)])
    snapshot = forge.snapshot(forge.folder([("v", link)]))
    assert bytes(snapshot.read("v")) == b"12345"
    assert len(file_reader.leaves_of(forge.repository._stores.blocks.get, link.cid)) == 3000


# Links in the target


@pytest.fixture
def snapshot(tmp_path: Path) -> vz.Snapshot:
    repository = vz.create(tmp_path / "air.vz")
    with repository.session(message="air") as session:
        session.write("air/c/0", b"1")
        session.write("air/zarr.json", b"{}")
        session.write("top", b"2")
    return repository.checkout()


@pytest.mark.parametrize("link", ["air", "air/c", "air/zarr.json", "top", "air/c/0", "other"])
@pytest.mark.parametrize("is_dangling", [False, True])
def test_nothing_is_written_through_a_link_in_the_target(
    snapshot: vz.Snapshot, tmp_path: Path, link: str, is_dangling: bool
) -> None:
    outside = tmp_path / "outside"
    is_file = link.endswith(("json", "top", "0"))
    if not is_dangling:
        if is_file:
            outside.write_bytes(b"mine")
        else:
            outside.mkdir()
            (outside / "zarr.json").write_bytes(b"mine")
    out = tmp_path / "out"
    (out / link).parent.mkdir(parents=True)
    (out / link).symlink_to(outside)
    with pytest.raises(vz.AlreadyExistsError, match=rf"symbolic link '{link}'.*remove it"):
        snapshot.to_folder(out)
    if is_dangling:
        assert not outside.exists()
    elif is_file:
        assert outside.read_bytes() == b"mine"
    else:
        assert {path.name: path.read_bytes() for path in outside.iterdir()} == {
            "zarr.json": b"mine"
        }
    assert (out / link).is_symlink()


@pytest.mark.parametrize("link", ["air", "air/c", "top"])
def test_nothing_is_written_through_a_link_that_comes_later(
    snapshot: vz.Snapshot, tmp_path: Path, link: str
) -> None:
    """Put there after the target was looked through, while the export runs."""
    outside = tmp_path / "outside"
    outside.mkdir()
    out = tmp_path / "out"

    def swap(progress: vz.Progress) -> None:
        if progress.done == 0:
            (out / link).parent.mkdir(parents=True, exist_ok=True)
            (out / link).symlink_to(outside / "new" if link == "top" else outside)

    try:
        to_folder(snapshot, out, workers=1, progress=swap)
    except vz.AlreadyExistsError as error:
        assert "symbolic link" in str(error)  # noqa: PT017 - or the link was replaced
    assert list(outside.iterdir()) == []


def test_the_target_itself_may_be_a_link(snapshot: vz.Snapshot, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    snapshot.to_folder(tmp_path / "out")
    assert (tmp_path / "real" / "air" / "c" / "0").read_bytes() == b"1"
    snapshot.to_folder(str(tmp_path / "out"))
    assert vz.cid_of_folder(tmp_path / "real") == snapshot.cid


def test_other_things_in_the_way_are_told(snapshot: vz.Snapshot, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "air").write_bytes(b"mine")
    with pytest.raises(vz.AlreadyExistsError, match="'air'"):
        snapshot.to_folder(out)
    (out / "air").unlink()
    (out / "top").mkdir()
    with pytest.raises(vz.StorageError, match="cannot write"):
        snapshot.to_folder(out)
    (out / "top").rmdir()
    os.mkfifo(out / "top")  # opening it would wait for a writer
    snapshot.to_folder(out)
    assert vz.cid_of_folder(out) == snapshot.cid


def test_a_disk_without_room_is_told_before(
    snapshot: vz.Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs
    monkeypatch.setattr(
        os, "statvfs", lambda path: os.statvfs_result((1, 1, 1, 1, 3, *real(path)[5:]))
    )
    with pytest.raises(vz.StorageFullError, match=r"4 bytes.*3 bytes are free.*max_bytes=4"):
        snapshot.to_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    to_folder(snapshot, tmp_path / "out", max_bytes=4)
    snapshot.to_folder(tmp_path / "out")  # what is there needs no more room
    assert vz.cid_of_folder(tmp_path / "out") == snapshot.cid


def test_a_bomb_is_counted_in_its_own_blocks(forge: Forge) -> None:
    snapshot = forge.snapshot(bomb(forge, forge.leaf(b"x"), 40))
    trees = snapshot.repository._stores.trees
    read: list[Cid] = []
    directory = trees.directory
    # On this object alone, as above.
    trees.directory = lambda cid: read.append(cid) or directory(cid)  # type: ignore[method-assign]
    counted = zarr_export.totals(trees, snapshot._tree)
    assert (counted.keys, counted.size_bytes, counted.levels) == (2**40, 2**40, 41)
    assert len(read) == len(set(read)) == 41
    assert json.loads(json.dumps(counted))
