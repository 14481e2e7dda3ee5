"""Push, fetch, pull and clone: what arrives, what it costs, and what an interruption leaves."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.repository.moving import CutOffError, commit, memory, same, watched
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.engine.backend import StorageBackend
from versioned_zarr.engine.transfer import sender
from versioned_zarr.ipld.cid import from_text
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def ours() -> Repository:
    repository = memory()
    commit(repository, {f"x/c/{number}": os.urandom(40) for number in range(50)})
    return repository


@pytest.fixture(params=["memory", "folder"])
def theirs(ours: Repository, tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    """A clone of ours."""
    target = tmp_path / "theirs.vz" if request.param == "folder" else memory_url()
    return vz.clone(ours.url, target)


def memory_url() -> str:
    return f"memory://{os.urandom(8).hex()}"


# Clone


def test_a_clone_is_equal_and_knows_its_origin(ours: Repository, theirs: Repository) -> None:
    assert same(ours, theirs)
    assert dict(theirs.remotes) == {"origin": ours.url}
    assert theirs.checkout("origin/main") == ours.checkout()
    assert not theirs.fsck().unreferenced


def test_a_clone_of_all_is_no_partial_copy(theirs: Repository) -> None:
    again = vz.open(theirs.url)
    assert isinstance(again._stores.blocks, PackStore)
    assert not any("partial" in stored.path for stored in again._stores.storage.list(""))


def test_a_clone_of_some_refs_has_only_those(ours: Repository) -> None:
    ours.tags.create("v1")
    ours.branches.create("dev")
    commit(ours, {"y": b"1"}, "dev")
    copy = vz.clone(ours.url, memory_url(), refs=["dev", "v1"])
    assert (list(copy.branches), list(copy.tags)) == (["dev"], ["v1"])
    assert list(vz.clone(ours.url, memory_url()).branches) == ["dev", "main"]
    with pytest.raises(vz.InvalidRefError, match="needs a branch"):
        vz.clone(ours.url, memory_url(), refs=["v1"])
    with pytest.raises(vz.RefNotFoundError, match="'mian'"):
        vz.clone(ours.url, memory_url(), refs="mian")


def test_a_clone_needs_a_free_place(ours: Repository, theirs: Repository) -> None:
    with pytest.raises(vz.AlreadyExistsError, match="pull"):
        vz.clone(ours.url, theirs.url)


def test_an_interrupted_clone_goes_on(ours: Repository, tmp_path: Path) -> None:
    place = tmp_path / "copy.vz"

    def interrupt(progress: vz.Progress) -> None:
        raise CutOffError

    with pytest.raises(CutOffError):
        vz.clone(ours.url, place, progress=interrupt)
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(place)
    stored: list[vz.Progress] = []
    assert same(ours, vz.clone(ours.url, place, progress=stored.append))
    assert stored == []


@pytest.mark.parametrize("paths", [None, ["x"]])
def test_a_clone_that_stops_before_there_is_a_repository_goes_on(
    ours: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    paths: list[str] | None,
) -> None:
    place = tmp_path / "copy.vz"

    def stop(self: StorageBackend, marker: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(StorageBackend, "write_marker", stop)
        with pytest.raises(KeyboardInterrupt):
            vz.clone(ours.url, place, paths=paths)
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(place)
    with pytest.raises(vz.AlreadyExistsError, match=ours.url):
        vz.clone(memory().url, place)
    assert same(ours, vz.clone(ours.url, place, paths=paths))


@pytest.mark.parametrize("is_repository", [False, True])
def test_an_unfinished_clone_is_finished_only_as_it_was_begun(
    ours: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_repository: bool
) -> None:
    place = tmp_path / "copy.vz"

    def stop(*_: object) -> None:
        raise CutOffError

    with monkeypatch.context() as patched:
        if not is_repository:
            patched.setattr(StorageBackend, "write_marker", stop)
        with pytest.raises(CutOffError):
            vz.clone(ours.url, place, depth=1, paths=["x"], progress=stop)
    for others in ({}, {"depth": 1}, {"paths": ["x"]}, {"depth": 2, "paths": ["x"]}):
        with pytest.raises(vz.AlreadyExistsError, match=r"depth=1, paths=\['x'\]"):
            vz.clone(ours.url, place, **others)
    assert same(ours, vz.clone(ours.url, place, depth=1, paths=["x"]))


def test_a_clone_keeps_the_hash_function() -> None:
    pytest.importorskip("blake3")
    ours = memory(hash="blake3")
    commit(ours, {"x": b"1"})
    assert same(ours, vz.clone(ours.url, memory_url()))


# Push


def test_a_push_moves_a_branch_and_what_it_reaches(ours: Repository, theirs: Repository) -> None:
    old = ours.branches["main"].cid
    new = commit(ours, {"x/c/7": b"new", "big": bytes(3_000_000)}).cid
    done = ours.push(theirs.url, "main")
    assert done.moves == (vz.RefMove("heads", "main", old, new),)
    assert done.values == 2
    assert same(ours, theirs)
    assert theirs.reflog().__next__().why == f"push from {ours.url}"
    again = ours.push(theirs.url)
    assert (again.moves, again.blocks, again.seen_blocks) == ((), 0, 0)


def test_a_push_gives_other_names_and_makes_branches_and_tags(
    ours: Repository, theirs: Repository
) -> None:
    ours.tags.create("v1")
    ours.push(theirs.url, ["main:copies/main", "main~1:old", "v1", "v1:v2"])
    assert theirs.branches["copies/main"] == ours.branches["main"]
    assert theirs.branches["old"] == ours.checkout("main~1").commit
    assert sorted(theirs.tags) == ["v1", "v2"]
    for refs in ("main:", ":main"):
        with pytest.raises(vz.InvalidRefError, match="SOURCE:TARGET"):
            ours.push(theirs.url, refs)
    with pytest.raises(vz.RefNotFoundError):
        ours.push(theirs.url, "nothing")


def test_nothing_is_sent_where_one_ref_cannot_move(ours: Repository, theirs: Repository) -> None:
    commit(theirs, {"y": b"theirs"})
    commit(ours, {"y": b"ours"})
    ours.branches.create("dev")
    with watched(theirs) as counted, pytest.raises(vz.BranchMovedError, match="pull first") as e:
        ours.push(theirs.url)
    assert counted.put == []
    assert (e.value.branch, e.value.found) == ("main", theirs.branches["main"].cid)
    assert list(theirs.branches) == ["main"]


def test_a_tag_that_is_there_stays(ours: Repository, theirs: Repository) -> None:
    theirs.tags.create("v1", "main~1")
    ours.tags.create("v1")
    with pytest.raises(vz.AlreadyExistsError, match="v1"):
        ours.push(theirs.url, "tags/v1")
    with pytest.raises(vz.InvalidInputError, match="tag 'v1'"):
        ours.push(theirs.url, "tags/v1", force_with_lease=True)
    ours.push(theirs.url, "tags/v1", force_with_lease=theirs.tags["v1"].cid)
    assert theirs.tags["v1"] == ours.tags["v1"]


def test_a_lease_holds_only_while_nobody_else_moved(ours: Repository, theirs: Repository) -> None:
    ours.remotes.add("theirs", theirs.url)
    ours.fetch("theirs")
    seen = theirs.branches["main"].cid
    moved = commit(theirs, {"y": b"theirs"}).cid
    commit(ours, {"y": b"ours"})
    for lease in (True, seen):
        with pytest.raises(vz.BranchMovedError, match="lease") as error:
            ours.push("theirs", "main", force_with_lease=lease)
        assert (error.value.expected, error.value.found) == (seen, moved)
    ours.fetch("theirs")
    ours.push("theirs", "main", force_with_lease=True)
    assert same(ours, theirs)
    assert ours.checkout("theirs/main") == ours.checkout()


def test_another_hash_function_is_refused(ours: Repository) -> None:
    pytest.importorskip("blake3")
    with pytest.raises(vz.InvalidInputError, match=r"blake3.*sha2-256|sha2-256.*blake3"):
        ours.push(memory(hash="blake3").url, "main:other")


def test_a_damaged_block_is_not_sent(ours: Repository, theirs: Repository) -> None:
    new = commit(ours, {"y": b"to be damaged"})
    data = bytearray(b"to be damaged")
    for stored in ours._stores.storage.list("packs"):
        pack = bytearray(ours._stores.storage.read(stored.path))
        if data in pack:
            pack[pack.index(data)] ^= 1
            ours._stores.storage.put(stored.path, [pack])
    with pytest.raises(vz.CorruptBlockError):
        ours.push(theirs.url)
    assert theirs.branches["main"] != new
    assert theirs.fsck().is_clean


# Cost


@pytest.mark.parametrize("layout", ["nested", pytest.param("flat", marks=pytest.mark.slow)])
def test_a_push_costs_what_changed(layout: str) -> None:
    keys = [f"x/c/{n}" if layout == "flat" else f"x/c/{n // 300}/{n}" for n in range(100_000)]
    ours = memory()
    commit(ours, dict.fromkeys(keys, b"chunk"))
    theirs = vz.clone(ours.url, memory_url())
    commit(ours, {keys[4711]: b"other"})
    with watched(ours) as source, watched(theirs) as target:
        done = ours.push(theirs.url, "main")
    assert len(done.moves) == 1
    assert len(source.got | target.got) + done.seen_blocks <= 60
    assert target.put_bytes <= 1 << 20


def test_a_merge_is_walked_beside_both_parents(ours: Repository) -> None:
    theirs = vz.clone(ours.url, memory_url())
    ours.branches.create("dev")
    commit(ours, {f"y/c/{n}": b"%d" % n for n in range(2000)}, "dev")
    commit(ours, {f"z/c/{n}": b"%d" % n for n in range(2000)})
    ours.push(theirs.url)
    ours.merge("dev")
    done = ours.push(theirs.url)
    assert done.seen_blocks < 20


def test_an_interrupted_push_leaves_the_other_side_sound(
    ours: Repository, theirs: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "BATCH_BYTES", 100_000)
    old = theirs.checkout()
    commit(ours, {f"z/c/{number}": os.urandom(30_000) for number in range(40)})
    sent: list[int] = []
    for puts in (1, 3, 6):
        with watched(theirs, puts) as counted, pytest.raises(CutOffError):
            ours.push(theirs.url)
        sent.append(len(counted.put))
        assert theirs.checkout() == old
        assert theirs.fsck().is_clean
    with watched(theirs) as counted:
        done = ours.push(theirs.url)
    assert same(ours, theirs)
    assert 0 < len(counted.put) < 46
    assert len(counted.put) == done.blocks
    assert sum(sent) + len(counted.put) == len({*ours.checkout().keys()}) - 50 + 6


def test_half_a_tree_that_lies_there_is_not_taken_for_a_whole_one(
    ours: Repository, theirs: Repository
) -> None:
    new = commit(ours, {"z/c/0": b"a chunk that stays behind"})
    root = from_text(new.tree)
    blocks = ours._stores.blocks
    # As an interrupted transfer in another order, or gc, could leave it: the tree, not the chunk.
    theirs._stores.blocks.put([(root, blocks.get(root))], root)
    link = ours._stores.trees.subtree(root, "z")
    assert link is not None
    theirs._stores.blocks.put([(link.cid, blocks.get(link.cid))], link.cid)
    with watched(theirs) as counted:
        ours.push(theirs.url)
    assert root not in counted.put
    assert same(ours, theirs)


def test_gc_takes_what_an_interrupted_push_left(ours: Repository, theirs: Repository) -> None:
    commit(ours, {f"z/c/{number}": os.urandom(300_000) for number in range(3)})
    with watched(theirs, 1), pytest.raises(CutOffError):
        ours.push(theirs.url)
    assert theirs.gc(keep_reflog=timedelta(0)).removed_blocks >= 3
    ours.push(theirs.url)
    assert same(ours, theirs)


def test_a_branch_that_moves_meanwhile_is_not_moved_back(
    ours: Repository, theirs: Repository
) -> None:
    commit(ours, {"y": b"ours"})
    moved: list[vz.Commit] = []
    with pytest.raises(vz.BranchMovedError):
        ours.push(
            theirs.url, progress=lambda progress: moved.append(commit(theirs, {"y": b"theirs"}))
        )
    assert theirs.branches["main"] == moved[-1]
    assert theirs.fsck().is_clean


@pytest.mark.parametrize(("size", "packs"), [(100_000, 1), (400_000, 2)])
def test_what_is_little_is_stored_as_one_pack(
    ours: Repository, theirs: Repository, size: int, packs: int
) -> None:
    commit(ours, {"y": os.urandom(size)})
    before = len(theirs._stores.storage.list("packs"))
    ours.push(theirs.url, "main")
    assert len(theirs._stores.storage.list("packs")) == before + packs


def test_others_go_on_committing_while_a_push_is_under_way(
    ours: Repository, theirs: Repository
) -> None:
    commit(ours, {"y": b"ours"})
    theirs.branches.create("dev")

    def work(progress: vz.Progress) -> None:
        for number in range(40):  # enough for packs to be joined
            commit(theirs, {"z": b"%d" % number}, "dev")
            theirs._tidy()

    ours.push(theirs.url, "main", progress=work)
    assert same(ours, theirs)
    assert theirs.checkout("dev").read("z") == b"39"


# Fetch and pull


def test_a_fetch_moves_no_branch_and_can_be_read(ours: Repository, theirs: Repository) -> None:
    mine = theirs.branches["main"]
    new = commit(ours, {"y": b"1"})
    ours.tags.create("v1")
    done = theirs.fetch("origin")
    assert [(move.kind, move.name) for move in done.moves] == [
        ("remotes", "origin/main"),
        ("tags", "v1"),
    ]
    assert theirs.branches["main"] == mine
    for ref in ("origin/main", "remotes/origin/main", "v1", new.cid):
        assert theirs.checkout(ref) == ours.checkout()
    assert theirs.checkout("origin/main~1").commit == mine
    theirs.gc(keep_reflog=timedelta(0))
    assert theirs.checkout("origin/main").read("y") == b"1"
    assert theirs.fetch("origin").moves == ()


def test_a_fetch_from_a_url_without_a_name(ours: Repository) -> None:
    theirs = memory()
    theirs.fetch(ours.url, "main")
    assert theirs.checkout("fetched/main") == ours.checkout()


def test_a_tag_that_is_here_already_stays(ours: Repository, theirs: Repository) -> None:
    ours.tags.create("v1")
    theirs.tags.create("v1", "main~1")
    theirs.fetch("origin")
    assert theirs.tags["v1"] != ours.tags["v1"]
    with pytest.raises(vz.AlreadyExistsError, match="delete it first"):
        theirs.fetch("origin", "v1")


def test_a_pull_goes_forward_merges_and_makes_branches(
    ours: Repository, theirs: Repository
) -> None:
    commit(ours, {"y": b"1"})
    theirs.pull("origin")
    assert same(ours, theirs)
    commit(ours, {"y": b"2"})
    commit(theirs, {"z": b"3"})
    theirs.pull("origin", "main")
    assert theirs.branches["main"].message == f"Merge 'main' of {ours.url} into 'main'"
    assert dict(theirs.checkout().mapping).items() >= {("y", b"2"), ("z", b"3")}
    theirs.pull("origin", "main:copies/main")
    assert theirs.branches["copies/main"] == ours.branches["main"]
    theirs.push("origin", "main")
    assert same(theirs, ours)


def test_a_pull_says_what_is_in_conflict(ours: Repository, theirs: Repository) -> None:
    commit(ours, {"y": b"ours"})
    mine = commit(theirs, {"y": b"theirs"})
    with pytest.raises(vz.ConflictError) as error:
        theirs.pull("origin")
    assert [conflict.path for conflict in error.value.conflicts] == ["y"]
    assert theirs.branches["main"] == mine
    theirs.pull("origin", resolve="theirs")
    assert theirs.checkout().read("y") == b"ours"


def test_a_tag_cannot_be_pulled(ours: Repository, theirs: Repository) -> None:
    ours.tags.create("v1")
    with pytest.raises(vz.InvalidRefError, match="tag"):
        theirs.pull("origin", "v1")


# Remotes


def test_remotes_are_kept_under_names(ours: Repository, theirs: Repository) -> None:
    ours.remotes.add("theirs", theirs.url)
    ours.remotes.add("elsewhere", "memory://nothing-yet")
    assert dict(ours.remotes) == {"theirs": theirs.url, "elsewhere": "memory://nothing-yet"}
    with pytest.raises(vz.AlreadyExistsError):
        ours.remotes.add("theirs", "memory://x")
    with pytest.raises(vz.RepositoryNotFoundError):
        ours.fetch("elsewhere")
    ours.fetch("theirs")
    ours.remotes.delete("theirs")
    assert list(ours.remotes) == ["elsewhere"]
    with pytest.raises(vz.RefNotFoundError):
        ours.checkout("theirs/main")
    with pytest.raises(vz.NotFoundError, match="elsewhere"):
        ours.remotes.delete("theirs")


def test_a_path_means_the_same_in_every_folder(
    ours: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ours.remotes.add("here", "some/where.vz")
    assert ours.remotes["here"] == (tmp_path / "some" / "where.vz").as_uri()


def test_a_multiaddr_is_kept_as_the_url_that_it_stands_for(ours: Repository) -> None:
    ours.remotes.add("node", "ipfs+/ip4/127.0.0.1/tcp/5001/tls/http/x")
    assert ours.remotes["node"] == "ipfs+https://127.0.0.1:5001/x"
    assert ours.remotes.name_of("ipfs+/ip4/127.0.0.1/tcp/5001/https/x") == "node"
    with pytest.raises(vz.InvalidUrlError, match="'/p2p' follows the port"):
        ours.remotes.add("peer", "ipfs+/ip4/127.0.0.1/tcp/4001/p2p/12D3KooW/x")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "fetched", "-x"])
def test_names_of_remotes_are_those_of_branches_without_slashes(
    ours: Repository, name: str
) -> None:
    with pytest.raises(vz.InvalidRefError):
        ours.remotes.add(name, "memory://x")


def test_no_password_is_kept(ours: Repository) -> None:
    with pytest.raises(vz.InvalidUrlError) as error:
        ours.remotes.add("node", "ipfs+http://ada:secret@127.0.0.1:5001/x")
    assert "secret" not in str(error.value)
    assert "secret" not in error.value.url


def test_a_lease_on_what_was_never_seen_is_none(ours: Repository) -> None:
    theirs = memory()
    commit(theirs, {"y": b"2"})
    head = theirs.branches["main"]
    with pytest.raises(vz.InvalidInputError, match=f"force_with_lease='{head.cid}'"):
        ours.push(theirs.url, "main", force_with_lease=True)
    assert theirs.branches["main"] == head
    with pytest.raises(vz.BranchMovedError):
        ours.push(theirs.url, "main", force_with_lease=ours.branches["main"].cid)
    ours.push(theirs.url, "main", force_with_lease=head.cid)
    commit(theirs, {"y": b"3"})
    ours.remotes.add("theirs", theirs.url)
    with pytest.raises(vz.BranchMovedError, match="lease"):
        ours.push("theirs", "main", force_with_lease=True)
    ours.fetch("theirs")
    ours.push(theirs.url, "main", force_with_lease=True)
    assert theirs.branches["main"] == ours.branches["main"]
