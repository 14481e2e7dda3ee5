"""What this machine knows of a lakeFS repository may be damaged, unusable or gone."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

pytest.importorskip("lakefs_sdk")

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer
from versioned_zarr.backends.lakefs.trees import metadata_cache as module
from versioned_zarr.backends.lakefs.trees.metadata_cache import MetadataCache
from versioned_zarr.backends.local.state_dir import HOME_VARIABLE
from versioned_zarr.ipld.cid import hash_function

HASH = hash_function("sha2-256")
NODE = HASH.dag_pb(b""), b""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "knowledge.sqlite"


def works(metadata_cache: MetadataCache) -> None:
    metadata_cache.add_nodes([NODE])
    assert metadata_cache.node(NODE[0]) == NODE[1]


def write_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def write_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"<html>")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def make_other_tables(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE nodes (cid BLOB)")


DAMAGES = [write_zeros, write_page, cut, make_other_tables]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_made_again(damage, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    works(MetadataCache(path))
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    damage(path)
    works(MetadataCache(path))
    assert "recreated" in caplog.text
    caplog.clear()
    works(MetadataCache(path))
    assert not caplog.text


def test_a_node_that_is_not_what_its_cid_says_is_not_given(path: Path) -> None:
    metadata_cache = MetadataCache(path)
    works(metadata_cache)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE nodes SET data = x'00'")
    assert metadata_cache.node(NODE[0]) is None
    works(metadata_cache)
    works(MetadataCache(path))


def test_a_file_that_cannot_be_opened_is_done_without(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir()
    works(MetadataCache(path))
    assert "stays in memory" in caplog.text


def test_a_file_that_cannot_be_written_any_more_is_read_on(path: Path) -> None:
    metadata_cache = MetadataCache(path)
    works(metadata_cache)
    metadata_cache._database.execute("PRAGMA query_only = ON")
    other = HASH.dag_pb(b"\x0a\x00"), b"\x0a\x00"
    metadata_cache.add_nodes([other])
    assert metadata_cache.node(other[0]) == other[1]
    assert metadata_cache.node(NODE[0]) == NODE[1]


def test_a_file_that_is_held_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_S", 0.1)
    metadata_cache = MetadataCache(path)
    works(metadata_cache)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(vz.StorageError, match="held by another process"):
        metadata_cache.add_nodes([NODE])
    holder.close()
    works(metadata_cache)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.compat
@pytest.mark.parametrize("damage", [*DAMAGES, Path.unlink])
def test_a_repository_is_read_and_written_whatever_became_of_the_file(
    damage, lakefs: LakefsServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = lakefs.create()
    with repository.session(message="one") as session:
        session.write("a/0", b"1")
    (path,) = home.rglob("knowledge.sqlite")
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    damage(path)
    again = vz.open(repository.url, **lakefs.options)
    assert bytes(again.checkout("main").read("a/0")) == b"1"
    with again.session(message="two") as session:
        session.write("a/1", b"2")
    assert [commit.message for commit in again.log()][:2] == ["two", "one"]
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv(HOME_VARIABLE, str(home.parent / "elsewhere"))
        there = vz.open(repository.url, **lakefs.options).checkout("main")
        assert [bytes(there.read(key)) for key in ("a/0", "a/1")] == [b"1", b"2"]
