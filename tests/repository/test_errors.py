"""Bad input, bad places and bad luck: what is said, and that nothing is lost."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from versioned_zarr import errors
from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.engine.backend import StorageBackend
from versioned_zarr.history.log_refs import LogRefs
from versioned_zarr.history.refs import HEADS, RefEntry, create_or_explain
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.cid import from_text as cid_from_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot

LEAF = "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
ABSENT = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


@pytest.fixture
def repository() -> Repository:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    session = repository.session()
    session.write("a/b", b"1")
    session.commit("one")
    return repository


# Refs

UNREADABLE = [
    "", "a b", "main~x", "main^x", "main@{x}", "main@{2026-13-01}", "main~1main", "~1", "@{1}",
    "main@{\u00b2}", "main~\u00b2", "main~" + "9" * 5000, None, 3, b"main",
]  # fmt: skip
UNKNOWN = ["nope", "main~9", "main~99999999999", "main^2", "main@{9}", "\0", "\ud800", "x" * 5000]
REF_CALLS: dict[str, Callable[[Repository, Any], object]] = {
    "checkout": lambda repo, ref: repo.checkout(ref),
    "log": lambda repo, ref: repo.log(ref),
    "diff, old": lambda repo, ref: repo.diff(ref),
    "diff, old of two": lambda repo, ref: repo.diff(ref, "main"),
    "diff, new": lambda repo, ref: repo.diff("main", ref or ""),
    "merge": lambda repo, ref: repo.merge(ref),
    "revert": lambda repo, ref: repo.revert(ref),
    "cherry_pick": lambda repo, ref: repo.cherry_pick(ref),
    "squash": lambda repo, ref: repo.squash(ref),
    "branches.create": lambda repo, ref: repo.branches.create("new", ref),
    "branches.move": lambda repo, ref: repo.branches.move("main", ref),
    "branches.move, expect": lambda repo, ref: repo.branches.move("main", "main", ref or ""),
    "tags.create": lambda repo, ref: repo.tags.create("new", ref),
}


@pytest.mark.parametrize("id", [3, None, b"x", ["x"]])
def test_a_session_that_is_no_text_is_refused(repository: Repository, id: Any) -> None:
    for call in (
        repository.resume,
        repository.sessions.delete,
        repository.sessions.__getitem__,
    ):
        with pytest.raises(vz.InvalidInputError, match="session's id is a string"):
            call(id)


@pytest.mark.parametrize("call", REF_CALLS)
@pytest.mark.parametrize("ref", UNREADABLE, ids=lambda ref: repr(ref)[:20])
def test_a_ref_that_cannot_be_read_is_refused(repository: Repository, call: str, ref: Any) -> None:
    with pytest.raises((vz.InvalidRefError, vz.RefNotFoundError)):
        REF_CALLS[call](repository, ref)


@pytest.mark.parametrize("call", REF_CALLS)
@pytest.mark.parametrize("ref", UNKNOWN, ids=lambda ref: repr(ref)[:20])
def test_a_ref_that_nothing_answers_to_is_named(
    repository: Repository, call: str, ref: str
) -> None:
    with pytest.raises(vz.RefNotFoundError) as caught:
        REF_CALLS[call](repository, ref)
    assert caught.value.ref == ref


@pytest.mark.parametrize("call", sorted(REF_CALLS.keys() - {"checkout", "log"}))
@pytest.mark.parametrize("cid", [LEAF, ABSENT])
def test_a_cid_that_is_no_version_here_is_not_found(
    repository: Repository, call: str, cid: str
) -> None:
    with pytest.raises(vz.RefNotFoundError):
        REF_CALLS[call](repository, cid)


@pytest.mark.parametrize("call", ["log", "merge", "revert", "branches.create", "tags.create"])
def test_a_bare_tree_is_no_commit(repository: Repository, call: str) -> None:
    with pytest.raises(vz.InvalidRefError, match="is a tree"):
        REF_CALLS[call](repository, repository.checkout().cid)


NAME_CALLS: dict[str, Callable[[Repository, Any], object]] = {
    "session": lambda repo, name: repo.session(name),
    "merge, into": lambda repo, name: repo.merge("main", into=name),
    "revert, into": lambda repo, name: repo.revert("main", name),
    "cherry_pick, into": lambda repo, name: repo.cherry_pick("main", name),
    "squash, into": lambda repo, name: repo.squash("main~1", name),
    "branches[]": lambda repo, name: repo.branches[name],
    "branches.delete": lambda repo, name: repo.branches.delete(name),
    "branches.rename": lambda repo, name: repo.branches.rename(name, "new"),
    "branches.move": lambda repo, name: repo.branches.move(name, "main"),
    "tags[]": lambda repo, name: repo.tags[name],
    "tags.delete": lambda repo, name: repo.tags.delete(name),
    "tags.rename": lambda repo, name: repo.tags.rename(name, "new"),
}
NEW_NAME_CALLS: dict[str, Callable[[Repository, Any], object]] = {
    "branches.create": lambda repo, name: repo.branches.create(name),
    "branches.rename, new": lambda repo, name: repo.branches.rename("main", name),
    "tags.create": lambda repo, name: repo.tags.create(name),
    "reflog": lambda repo, name: list(repo.reflog(name)),
}
NO_NAMES = ["", "a b", "a..b", "-a", "a.lock", "/a", "@", "\ud800", "x" * 300, None, 3, b"main"]


@pytest.mark.parametrize("call", [*NAME_CALLS, *NEW_NAME_CALLS])
@pytest.mark.parametrize("name", NO_NAMES, ids=lambda name: repr(name)[:20])
def test_what_git_would_not_call_a_branch_is_refused(
    repository: Repository, call: str, name: Any
) -> None:
    with pytest.raises(vz.InvalidRefError):
        {**NAME_CALLS, **NEW_NAME_CALLS}[call](repository, name)
    assert list(repository.branches) == ["main"]


@pytest.mark.parametrize("call", NAME_CALLS)
def test_a_branch_or_tag_that_is_not_there_is_named(repository: Repository, call: str) -> None:
    with pytest.raises(vz.RefNotFoundError, match="'mian'") as caught:
        NAME_CALLS[call](repository, "mian")
    assert caught.value.ref == "mian"


def test_a_name_that_is_taken_is_refused(repository: Repository) -> None:
    repository.branches.create("b")
    repository.tags.create("t")
    for refuse in (
        lambda: repository.branches.create("b"),
        lambda: repository.branches.rename("b", "main"),
        lambda: repository.tags.create("t"),
    ):
        with pytest.raises(vz.AlreadyExistsError, match="already exists"):
            refuse()


# Keys, paths and values

KEYS = ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a\0b", "x" * 300, "\ud800", "a/b/c", "a"]
READS: dict[str, Callable[[Session | Snapshot, Any], object]] = {
    "read": lambda view, key: view.read(key),
    "mapping[]": lambda view, key: view.mapping[key],
}


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize("key", KEYS, ids=lambda key: repr(key)[:20])
def test_a_key_without_a_value_is_not_found(repository: Repository, call: str, key: str) -> None:
    for view in (repository.checkout(), repository.session()):
        with pytest.raises(vz.KeyNotFoundError) as caught:
            READS[call](view, key)
        assert caught.value.key == key
        assert view.get(key) is None
        assert view.size(key) is None
        assert key not in view.mapping


@pytest.mark.parametrize("key", [*KEYS, None, 3, b"a"], ids=lambda key: repr(key)[:20])
def test_a_key_that_cannot_be_is_not_written(repository: Repository, key: Any) -> None:
    session = repository.session()
    for write in (session.write, session.write_new, session.mapping.__setitem__):
        with pytest.raises(vz.InvalidKeyError):
            write(key, b"")
    assert not session.status()


LOOK_UPS: dict[str, Callable[[Snapshot | Session, Any], object]] = {
    "read": lambda view, key: view.read(key),
    "get": lambda view, key: view.get(key),
    "find": lambda view, key: view._find(key),
    "size": lambda view, key: view.size(key),
    "keys": lambda view, key: view.keys(key),
    "sizes": lambda view, key: view.sizes(key),
    "list_dir": lambda view, key: view.list_dir(key),
    "is_empty": lambda view, key: view.is_empty(key),
    "mapping.listdir": lambda view, key: view.mapping.listdir(key),
}
SNAPSHOT_LOOK_UPS: dict[str, Callable[[Snapshot, Any], object]] = {
    **LOOK_UPS,
    "links": lambda view, key: view._links(key),
    "path": lambda view, key: view.path(key),
}
SESSION_LOOK_UPS: dict[str, Callable[[Session, Any], object]] = {
    **LOOK_UPS,
    "delete": lambda view, key: view.delete(key),
    "clear": lambda view, key: view.clear(key),
}
NO_TEXTS = [None, 3, b"a/b", Path("a/b"), ("a", "b")]


@pytest.mark.parametrize("call", SNAPSHOT_LOOK_UPS)
@pytest.mark.parametrize("key", NO_TEXTS, ids=repr)
def test_a_snapshot_does_not_look_for_a_key_that_is_no_text(
    repository: Repository, call: str, key: Any
) -> None:
    with pytest.raises(vz.InvalidKeyError, match=type(key).__name__):
        SNAPSHOT_LOOK_UPS[call](repository.checkout(), key)


@pytest.mark.parametrize("call", SESSION_LOOK_UPS)
@pytest.mark.parametrize("key", NO_TEXTS, ids=repr)
def test_a_session_does_not_look_for_a_key_that_is_no_text(
    repository: Repository, call: str, key: Any
) -> None:
    session = repository.session()
    session.write("c", b"2")
    with pytest.raises(vz.InvalidKeyError, match=type(key).__name__):
        SESSION_LOOK_UPS[call](session, key)
    assert dict(session.mapping) == {"a/b": b"1", "c": b"2"}


@pytest.mark.parametrize("key", [None, 3, b"a/b"], ids=repr)
def test_a_mapping_holds_nothing_under_what_is_no_text(repository: Repository, key: Any) -> None:
    session = repository.session()
    for mapping in (repository.checkout().mapping, session.mapping):
        assert key not in mapping
        assert mapping.get(key) is None
        with pytest.raises(KeyError):
            mapping[key]
    with pytest.raises(KeyError):
        del session.mapping[key]
    with pytest.raises(vz.InvalidKeyError):
        session.mapping.rmdir(key)


@pytest.mark.parametrize("path", [".", "..", "a//b", "\0", "zz", "a/b/c", "a/b"])
def test_a_path_where_nothing_lies_has_no_snapshot(repository: Repository, path: str) -> None:
    with pytest.raises((vz.KeyNotFoundError, vz.InvalidKeyError)):
        repository.checkout().path(path)


@pytest.mark.parametrize("value", [None, 3, "text", [1]], ids=repr)
def test_a_value_that_is_no_bytes_is_refused(repository: Repository, value: Any) -> None:
    session = repository.session()
    with pytest.raises(vz.InvalidInputError, match="bytes"):
        session.write("key", value)
    assert session.get("key") is None


def test_a_snapshot_is_not_written_to(repository: Repository) -> None:
    mapping: Any = repository.checkout().mapping
    with pytest.raises(vz.ReadOnlyError, match="never changes"):
        mapping["a"] = b""
    with pytest.raises(vz.ReadOnlyError, match="never changes"):
        del mapping["a/b"]


# What goes into a commit, and how it is asked for


def nested(levels: int) -> dict[str, Any]:
    """Metadata that is nested so deep."""
    found: dict[str, Any] = {}
    for _ in range(levels - 1):
        found = {"a": found}
    return found


COMMITS: dict[str, dict[str, Any]] = {
    "message is None": {"message": None},
    "message is bytes": {"message": b"m"},
    "message is no Unicode": {"message": "\ud800"},
    "message of 2 MiB": {"message": "m" * (2 << 20)},
    "author is bytes": {"message": "m", "author": b"a"},
    "metadata is a list": {"message": "m", "metadata": [1]},
    "metadata is text": {"message": "m", "metadata": "abc"},
    "metadata holds NaN": {"message": "m", "metadata": {"a": float("nan")}},
    "metadata holds bytes": {"message": "m", "metadata": {"a": b""}},
    "metadata is no Unicode": {"message": "m", "metadata": {"a": "\ud800"}},
    "on_moved": {"message": "m", "on_moved": "rebase"},
    "metadata of 201 levels": {"message": "m", "metadata": nested(201)},
    "metadata of 99999 levels": {"message": "m", "metadata": nested(99_999)},
}


@pytest.mark.parametrize("case", COMMITS)
def test_a_commit_that_cannot_be_is_refused_and_the_session_goes_on(
    repository: Repository, case: str
) -> None:
    session = repository.session()
    session.write("c", b"2")
    with pytest.raises(vz.InvalidInputError):
        session.commit(**COMMITS[case])
    assert session.commit("right").parents == (repository.checkout("main~1").commit.cid,)
    assert repository.checkout().mapping["c"] == b"2"
    assert repository.fsck().is_clean


@pytest.mark.parametrize(
    "resolve",
    ["mine", 3, {"a/*": "mine"}, lambda conflict: "mine", lambda conflict: 3],
    ids=lambda resolve: "function" if callable(resolve) else str(resolve),
)
def test_a_decision_that_is_none_is_refused(repository: Repository, resolve: Any) -> None:
    repository.branches.create("other")
    for branch, value in (("main", b"2"), ("other", b"3")):
        session = repository.session(branch)
        session.write("a/b", value)
        session.commit("change")
    with pytest.raises(vz.InvalidInputError):
        repository.merge("other", resolve=resolve)
    assert repository.checkout().mapping["a/b"] == b"2"


NO_DECISIONS = [
    "mine", "", 3, b"ours", ["ours"], {"a/*": "mine"}, {"a/*": None}, {"a/*": b"1"}, {3: "ours"},
]  # fmt: skip
RESOLVING: dict[str, Callable[[Repository, Any], object]] = {
    "merge, nothing to do": lambda repo, resolve: repo.merge("main", resolve=resolve),
    "merge, fast-forward": lambda repo, resolve: repo.merge("ahead", resolve=resolve),
    "revert": lambda repo, resolve: repo.revert("main", resolve=resolve),
    "cherry_pick": lambda repo, resolve: repo.cherry_pick("ahead", resolve=resolve),
    "commit": lambda repo, resolve: changed(repo).commit("m", resolve=resolve),
    "commit, nothing to do": lambda repo, resolve: repo.session().commit("m", resolve=resolve),
}


def changed(repository: Repository, branch: str = "main") -> Session:
    session = repository.session(branch)
    session.write("new", b"1")
    return session


@pytest.mark.parametrize("call", RESOLVING)
@pytest.mark.parametrize("resolve", NO_DECISIONS, ids=repr)
def test_a_way_to_decide_that_is_none_is_refused_where_nothing_is_to_decide(
    repository: Repository, call: str, resolve: Any
) -> None:
    repository.branches.create("ahead")
    changed(repository, "ahead").commit("change")
    before = repository.branches["main"]
    with pytest.raises(vz.InvalidInputError, match=r"resolve|settled"):
        RESOLVING[call](repository, resolve)
    assert repository.branches["main"] == before


@pytest.mark.parametrize("name", ["", "nope", "..", "../refs", "a/b", "\0"], ids=repr)
def test_a_session_that_is_not_there_is_named(repository: Repository, name: str) -> None:
    sessions = repository.sessions
    for call in (repository.resume, sessions.delete, sessions.__getitem__):
        with pytest.raises(vz.SessionNotFoundError):
            call(name)
    assert name not in sessions
    assert list(repository.branches) == ["main"]


@pytest.mark.parametrize("ending", ["discard", "leave"])
def test_an_ended_session_is_not_written_to(repository: Repository, ending: str) -> None:
    session = repository.session()
    if ending == "discard":
        session.discard()
    else:
        with session:
            pass
    for refuse in (
        lambda: session.write("c", b""),
        lambda: session.delete("a/b"),
        session.clear,
        lambda: session.commit("m"),
        lambda: pickle.dumps(session),
    ):
        with pytest.raises(vz.SessionClosedError, match=session.id):
            refuse()


# Places

OPENERS = [vz.open, vz.create, vz.open_or_create]


@pytest.mark.parametrize("opener", OPENERS)
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "path or a URL"),
        (b"bytes", "path or a URL"),
        ("a\0b", "NUL"),
        ("memory://", "name.*memory://scratch"),
        ("memory:", "name.*memory://scratch"),
        ("memory:///", "name.*memory://scratch"),
        ("foo://x", "unknown scheme 'foo'.*file://.*memory://"),
        ("file://host/p", "three slashes"),
        ("s3:///prefix", r"s3://BUCKET/PREFIX"),
        ("http://host/r?x", r"must have the form http://BUCKET/PREFIX"),
        ("ipfs://name", r"vz\.open_snapshot"),
    ],
)
def test_a_url_that_leads_nowhere_is_explained(
    opener: Callable[[Any], object], url: Any, says: str
) -> None:
    with pytest.raises(vz.InvalidUrlError, match=says):
        opener(url)


@pytest.mark.parametrize("opener", OPENERS)
def test_what_is_no_place_at_all_is_a_type_error(opener: Callable[[Any], object]) -> None:
    for place in (None, 3):
        with pytest.raises(TypeError):
            opener(place)


def test_schemes_are_read_in_any_case() -> None:
    name = uuid.uuid4()
    assert vz.create(f"MEMORY://{name}") is vz.open(f"memory://{name}")


@pytest.mark.parametrize("opener", OPENERS)
def test_verify_has_three_values(opener: Callable[..., object], tmp_path: Path) -> None:
    with pytest.raises(vz.InvalidInputError, match=r"always.*network.*never"):
        opener(tmp_path / "r", verify="sometimes")
    assert not (tmp_path / "r" / "versioned-zarr.json").exists()


@pytest.mark.parametrize("name", ["md5", "", "SHA2-256"])
def test_an_unknown_hash_names_the_known(name: str, tmp_path: Path) -> None:
    with pytest.raises(vz.InvalidInputError, match=r"sha2-256.*blake3|blake3.*sha2-256"):
        vz.create(tmp_path / "r", hash=name)
    assert not (tmp_path / "r").exists()


def test_a_folder_that_is_no_repository_is_not_opened_and_not_filled(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("mine")
    with pytest.raises(vz.RepositoryNotFoundError, match=r"vz\.create"):
        vz.open(tmp_path)
    with pytest.raises(vz.AlreadyExistsError, match="not empty"):
        vz.create(tmp_path)
    with pytest.raises(vz.AlreadyExistsError):
        vz.open_or_create(tmp_path)
    assert not (tmp_path / "versioned-zarr.json").exists()
    assert (tmp_path / "data.txt").read_text() == "mine"


@pytest.mark.parametrize("where", ["put", "swap", "write_marker"])
def test_a_creation_that_was_stopped_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    kinds = {"put": PackStore, "swap": LogRefs, "write_marker": StorageBackend}
    with monkeypatch.context() as patched:
        patched.setattr(kinds[where], where, stop)
        with pytest.raises(KeyboardInterrupt):
            vz.create(tmp_path / "r.vz")
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(tmp_path / "r.vz")
    with pytest.raises(vz.AlreadyExistsError):
        vz.create(tmp_path / "r.vz", hash="blake3")
    repository = vz.open_or_create(tmp_path / "r.vz")
    assert len(list(repository.log())) == 1
    assert repository.fsck().is_clean
    with pytest.raises(vz.AlreadyExistsError):
        vz.create(tmp_path / "r.vz")


def stop(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_repository_is_not_created_twice(tmp_path: Path) -> None:
    vz.create(tmp_path / "r")
    with pytest.raises(vz.AlreadyExistsError, match=r"vz\.open"):
        vz.create(tmp_path / "r")


def test_a_file_is_no_repository(tmp_path: Path) -> None:
    file = tmp_path / "data.nc"
    file.write_text("mine")
    for place in (file, file / "below"):
        with pytest.raises(vz.RepositoryNotFoundError):
            vz.open(place)
        with pytest.raises(vz.StorageError):
            vz.create(place)
    assert file.read_text() == "mine"


def marker(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, sort_keys=True).encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (marker({"format": 3, "hash": "sha2-256"}), "upgrade"),
        (marker({"format": 3, "hash": "sha3", "more": [1]}), "upgrade"),
        (marker({"format": 1, "hash": "sha2-256"}), "before the first release"),
        (marker({"format": 0, "hash": "sha2-256"}), "damaged"),
        (marker({"format": "2", "hash": "sha2-256"}), "damaged"),
        (marker({"format": 2, "hash": "sha2-256"})[:-3], "damaged"),
        (marker({"format": 2, "hash": "sha2-256"}).replace(b"sha2", b"sha3"), "damaged"),
        (marker({"format": 2}), "damaged"),
        (b"[1]", "damaged"),
        (b"\xff\xfe", "damaged"),
        (b"", "damaged"),
    ],
)
def test_other_formats_and_a_damaged_marker_are_told_apart(
    tmp_path: Path, data: bytes, says: str
) -> None:
    vz.create(tmp_path / "r")
    (tmp_path / "r" / "versioned-zarr.json").write_bytes(data)
    with pytest.raises(vz.FormatError, match=says):
        vz.open(tmp_path / "r")
    with pytest.raises(vz.FormatError, match=says):
        vz.open_or_create(tmp_path / "r")


@pytest.mark.parametrize("span", [3, 0, 30.0, None, "30", timedelta(-1)], ids=repr)
def test_gc_takes_a_time_span(repository: Repository, span: Any) -> None:
    with pytest.raises(vz.InvalidInputError, match="timedelta"):
        repository.gc(keep_reflog=span)


def test_gc_takes_the_longest_time_span_and_the_shortest(repository: Repository) -> None:
    repository.branches.create("gone")
    changed(repository, "gone").commit("change")
    repository.branches.delete("gone")
    assert repository.gc(keep_reflog=timedelta.max).removed_blocks == 0
    assert len(list(repository.reflog("gone"))) == 3
    assert repository.gc(keep_reflog=timedelta(0)).removed_blocks > 0
    assert repository.gc(keep_reflog=timedelta(0), dry_run=True).removed_blocks == 0


def test_a_damaged_commit_says_which_and_where(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r")
    session = repository.session()
    session.write("a", b"1")
    commit = session.commit("a message to be damaged")
    (pack,) = [
        pack
        for pack in (tmp_path / "r" / "packs").iterdir()
        if b"a message to be damaged" in pack.read_bytes()
    ]
    pack.write_bytes(pack.read_bytes().replace(b'"message"', b'"massage"'))
    again = vz.open(tmp_path / "r", verify="always")
    with pytest.raises(vz.CorruptBlockError, match="damaged"):
        again.checkout()
    unverified = vz.open(tmp_path / "r", verify="never")
    with pytest.raises(vz.CorruptBlockError, match=commit.cid):
        list(unverified.log())
    assert unverified.checkout(commit.tree).mapping["a"] == b"1"
    report = unverified.fsck()
    assert not report.is_clean
    assert commit.cid in str(report)


def test_commit_metadata_may_be_200_levels_deep(repository: Repository) -> None:
    metadata = nested(200)
    commit = repository.session().commit("deep", metadata=metadata, allow_empty=True)
    assert commit.metadata == metadata
    assert next(repository.log()).metadata == metadata
    assert repository.fsck().is_clean


@pytest.mark.parametrize("levels", [201, 5_000, 99_999])
def test_a_commit_whose_metadata_is_too_deep_is_damaged(
    repository: Repository, levels: int
) -> None:
    text = '{"author":"a","format":1,"message":"m","metadata":%s,"time":"2026-01-01T00:00:00.0Z"}'
    metadata = '{"a":' * levels + "1" + "}" * levels
    stores = repository._stores
    file = unixfs.build_file((text % metadata).encode(), stores.hash)
    tree = Link("tree", cid_from_text(repository.checkout().cid), 0)
    block = unixfs.directory([Link("commit.json", file.cid, file.tsize), tree])
    cid = stores.hash.dag_pb(block)
    stores.blocks.put([*file.blocks, (cid, block)], cid)
    create_or_explain(stores.refs, HEADS, "deep", cid, "made by other hands")
    for look in (
        lambda: repository.checkout("deep"),
        lambda: list(repository.log("deep")),
        lambda: repository.session("deep"),
        lambda: repository.branches["deep"],
    ):
        with pytest.raises(vz.CorruptBlockError, match="200 levels"):
            look()
    repository.fsck()
    repository.gc()
    assert stores.has(file.cid)


def test_the_revert_of_a_long_message_quotes_its_beginning(repository: Repository) -> None:
    session = repository.session()
    session.write("c", b"2")
    commit = session.commit("m" * (1 << 20))
    reverted = repository.revert("main")
    assert reverted.summary == f'Revert "{"m" * 200}…"'
    assert reverted.message.endswith(f"This reverts commit {commit.cid}.")
    assert repository.cherry_pick(commit.cid).message == commit.message


# Places that refuse


def mounted(folder: Path, options: str) -> Iterator[Path]:
    """A small file system of its own at a folder, while the test runs."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root")
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)],
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path / "disk", "size=2m")


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """A folder, and a function that makes it read-only: by its mode, or for root by a mount."""
    if os.geteuid() != 0:
        folder = tmp_path / "disk"
        folder.mkdir()

        def forbid() -> Path:
            for path in [*folder.rglob("*"), folder]:
                path.chmod(0o555 if path.is_dir() else 0o444)
            return folder

        yield forbid
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        return
    for folder in mounted(tmp_path / "disk", "size=4m"):

        def remount(folder: Path = folder) -> Path:
            command = ["mount", "-o", "remount,ro", str(folder)]
            subprocess.run(command, check=True, capture_output=True)
            return folder

        yield remount


def test_a_read_only_repository_reads_and_refuses_writes(
    tmp_path: Path, read_only: Callable[[], Path]
) -> None:
    place = tmp_path / "disk" / "r"
    session = vz.create(place).session()
    session.write("a", b"1" * 3_000)
    commit = session.commit("one")
    del session
    read_only()
    repository = vz.open(place)
    assert repository.checkout().mapping["a"] == b"1" * 3_000
    assert next(found.cid for found in repository.log()) == commit.cid
    assert repository.diff("main").keys
    assert not repository.sessions
    assert repository.fsck().is_clean
    assert repository.stats().to_dict()
    for refuse in (
        lambda: repository.session().write("b", b"2"),
        lambda: repository.branches.create("b"),
        lambda: repository.tags.create("t"),
        lambda: repository.branches.move("main", "main~1"),
        lambda: repository.revert("main"),
        repository.gc,
        repository.repack,
        lambda: vz.create(tmp_path / "disk" / "other"),
    ):
        with pytest.raises(vz.ReadOnlyError, match=r"permission|[Rr]ead-only"):
            refuse()


def fill(folder: Path) -> Path:
    """Leave no room at all."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return ballast


def test_a_full_disk_refuses_a_write_and_goes_on_with_room(small_disk: Path) -> None:
    repository = vz.create(small_disk / "r")
    first = repository.session()
    first.write("a", b"1" * 100_000)
    committed = first.commit("one")
    session = repository.session()
    session.write("b", b"2" * 1000)
    ballast = fill(small_disk)
    for number in range(3):
        with pytest.raises(vz.StorageFullError, match="no space") as caught:
            session.write(f"c{number}", bytes([number]) * 300_000)
        assert caught.value.where
    assert bytes(session.read("b")) == b"2" * 1000
    assert session.get("c0") is None
    assert repository.fsck().is_clean
    assert repository.branches["main"] == committed
    ballast.unlink()
    session.write("c", b"3" * 300_000)
    session.commit("two")
    assert dict(vz.open(small_disk / "r", verify="always").checkout().sizes()) == {
        "a": 100_000,
        "b": 1000,
        "c": 300_000,
    }
    assert repository.fsck().is_clean


@pytest.mark.parametrize("size", [1000, 400_000])
def test_a_full_disk_refuses_a_commit_and_goes_on_with_room(small_disk: Path, size: int) -> None:
    repository = vz.create(small_disk / "r")
    first = repository.session()
    first.write("a", b"1" * 1000)
    committed = first.commit("one")
    session = repository.session()
    session.write("b", os.urandom(size))
    ballast = fill(small_disk)
    for _ in range(2):
        with pytest.raises(vz.StorageFullError):
            session.commit("two")
        assert repository.branches["main"] == committed
        assert repository.fsck().is_clean
    assert session.size("b") == size
    ballast.unlink()
    commit = session.commit("two")
    assert commit.parents == (committed.cid,)
    assert dict(repository.checkout().sizes()) == {"a": 1000, "b": size}
    assert repository.fsck().is_clean


def test_a_commit_that_copies_fails_on_a_full_disk_and_goes_on_with_room(
    small_disk: Path,
) -> None:
    repository = vz.create(small_disk / "r")
    session = repository.session()
    for number in range(4):  # so that most of the draft is dead, and what is left is copied
        session.write("a", bytes([number]) * 300_000)
    drafts = set((small_disk / "r").glob("sessions/*/*.draft"))
    ballast = fill(small_disk)
    for _ in range(2):
        with pytest.raises(vz.StorageFullError):
            session.commit("one")
        assert bytes(session.read("a")) == b"\3" * 300_000
        assert set((small_disk / "r").glob("sessions/*/*.draft")) == drafts
    ballast.unlink()
    session.commit("one")
    assert repository.checkout().read("a") == b"\3" * 300_000
    assert repository.fsck().is_clean


def test_a_commit_that_was_killed_while_it_copied_is_made_again(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r")
    session = repository.session()
    for number in range(4):
        session.write("a", bytes([number]) * 300_000)
    child = os.fork()
    if child == 0:
        try:  # the parent lives and writes its draft, so the child copies
            PackWriter.publish = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
            vz.open(tmp_path / "r").resume(session.id).commit("one")
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    session.commit("one")
    assert repository.checkout().read("a") == b"\3" * 300_000
    assert repository.fsck().is_clean


def test_drafts_that_a_failed_commit_took_are_published_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(tmp_path / "r")
    session = repository.session()
    session.write("a", b"1" * 900_000)
    (draft,) = (tmp_path / "r").glob("sessions/*/*.draft")
    number = draft.stat().st_ino
    with monkeypatch.context() as patched:
        patched.setattr(PackStore, "publish", stop)
        with pytest.raises(KeyboardInterrupt) as caught:
            session.commit("one")
    session.commit("one")
    assert caught.value  # what it holds on to does not matter
    assert number in {pack.stat().st_ino for pack in (tmp_path / "r" / "packs").iterdir()}


def test_a_full_disk_refuses_to_move_a_ref_and_the_ref_stays(small_disk: Path) -> None:
    repository = vz.create(small_disk / "r")
    ballast = fill(small_disk)
    with pytest.raises(vz.StorageFullError):
        repository.tags.create("t" * 200)
    assert "t" * 200 not in repository.tags
    ballast.unlink()
    repository.tags.create("t" * 200)
    assert repository.fsck().is_clean


# The answer to the compare-and-swap


class LosesAnswers(LogRefs):
    """Refs whose moves are made, or not, and whose answers do not come."""

    def __init__(self, refs: LogRefs, *, is_done: bool, error: type[BaseException]) -> None:
        super().__init__(refs._storage)
        self.is_done, self.error = is_done, error

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        if self.is_done:
            super().swap(kind, name, expect, new, why)
        raise self.error("the connection was lost")


def lose_answers(
    repository: Repository, *, is_done: bool, error: type[BaseException] = vz.StorageError
) -> None:
    refs = repository._stores.refs
    assert isinstance(refs, LogRefs)
    repository._stores.refs = LosesAnswers(refs, is_done=is_done, error=error)


@pytest.mark.parametrize("error", [vz.StorageError, vz.BranchMovedError, TimeoutError])
def test_a_commit_survives_a_lost_answer(
    repository: Repository, error: type[BaseException]
) -> None:
    session = repository.session()
    session.write("c", b"2")
    lose_answers(repository, is_done=True, error=error)
    commit = session.commit("two")
    assert [found.cid for found in repository.log()].count(commit.cid) == 1
    assert next(entry.commit for entry in repository.reflog()) == cid_from_text(commit.cid)
    assert [entry.number for entry in repository.reflog()] == [2, 1, 0]
    assert not repository.sessions


@pytest.mark.parametrize("error", [vz.StorageError, TimeoutError])
def test_a_swap_that_was_not_done_is_an_error_and_nothing_is_lost(
    repository: Repository, error: type[BaseException]
) -> None:
    before = repository.branches["main"]
    refs = repository._stores.refs
    session = repository.session()
    session.write("c", b"2")
    lose_answers(repository, is_done=False, error=error)
    with pytest.raises(error, match="connection was lost"):
        session.commit("two")
    repository._stores.refs = refs
    assert repository.branches["main"] == before
    assert bytes(session.read("c")) == b"2"
    commit = session.commit("two, again")
    assert commit.parents == (before.cid,)
    assert [found.message for found in repository.log()][:2] == ["two, again", "one"]
    assert repository.fsck().is_clean


def test_a_merge_survives_a_lost_answer(repository: Repository) -> None:
    repository.branches.create("other")
    for branch in ("main", "other"):
        session = repository.session(branch)
        session.write(branch, b"2")
        session.commit("change")
    lose_answers(repository, is_done=True)
    commit = repository.merge("other")
    assert repository.branches["main"] == commit
    assert len(commit.parents) == 2


class Died(BaseException):
    """Whoever was committing is no more."""


def test_what_was_written_after_a_commit_that_nobody_heard_of_is_committed_too(
    repository: Repository,
) -> None:
    refs = repository._stores.refs
    session = repository.session()
    session.write("c", b"2")
    lose_answers(repository, is_done=True, error=Died)
    with pytest.raises(Died):
        session.commit("two")
    repository._stores.refs = refs
    session._working.end("died", keep_folder=True)
    resumed = repository.resume(session.id)
    resumed.write("d", b"3")
    commit = resumed.commit("three")
    assert [found.message for found in repository.log()][:3] == ["three", "two", "one"]
    assert commit == repository.branches["main"]
    assert dict(repository.checkout().mapping) == {"a/b": b"1", "c": b"2", "d": b"3"}


def test_a_commit_that_nobody_heard_of_is_not_made_twice(repository: Repository) -> None:
    refs = repository._stores.refs
    session = repository.session()
    session.write("c", b"2")
    lose_answers(repository, is_done=True, error=Died)
    with pytest.raises(Died):
        session.commit("two")
    repository._stores.refs = refs
    session._working.end("died", keep_folder=True)
    commit = repository.resume(session.id).commit("two, again")
    assert [found.message for found in repository.log()][:2] == ["two", "one"]
    assert commit == repository.branches["main"]


# The classes

BUILT_INS = {
    "InvalidInputError": ValueError,
    "NotFoundError": (KeyError, FileNotFoundError),
    "AlreadyExistsError": FileExistsError,
    "ConflictError": RuntimeError,
    "NothingToCommitError": ValueError,
    "SessionClosedError": ValueError,
    "FormatError": ValueError,
    "CorruptError": ValueError,
    "StorageError": OSError,
    "MissingDependencyError": ImportError,
}


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_pickles_with_its_facts(name: str) -> None:
    kind = getattr(errors, name)
    facts: dict[str, Any] = {fact: f"the {fact}" for fact in kind.facts}
    if "conflicts" in facts:
        facts["conflicts"] = (vz.Conflict("a/b", "changed on both sides", "1", "2", "3"),)
    error = kind("what, where, what to do", **facts)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error) == "what, where, what to do"
    assert {fact: getattr(again, fact) for fact in kind.facts} == facts


@pytest.mark.parametrize("name", errors.__all__)
def test_an_error_is_the_built_in_that_people_catch(name: str) -> None:
    kind = getattr(errors, name)
    assert getattr(vz, name) is kind
    assert issubclass(kind, vz.VersionedZarrError)
    expected = [
        built_in for base, built_in in BUILT_INS.items() if issubclass(kind, getattr(errors, base))
    ]
    if kind is vz.VersionedZarrError:
        assert not expected
        return
    (built_ins,) = expected
    for built_in in built_ins if isinstance(built_ins, tuple) else (built_ins,):
        assert issubclass(kind, built_in)
        with pytest.raises(built_in, match="it says so"):
            raise kind("it says so")


@pytest.mark.parametrize("name", errors.__all__)
def test_the_tree_in_the_docstring_draws_every_class_and_fact(name: str) -> None:
    kind = getattr(errors, name)
    assert errors.__doc__ is not None
    (line,) = [
        line for line in errors.__doc__.splitlines() if name in line.replace("(", " ").split()
    ]
    for fact in set(kind.facts) - set(kind.__mro__[1].__dict__.get("facts", ())):
        assert f".{fact}" in line


def test_an_error_has_no_facts_but_its_own() -> None:
    with pytest.raises(TypeError, match="no fact"):
        vz.RefNotFoundError("m", key="a")
