"""Icechunk repositories are imported snapshot by snapshot, with branches and tags."""

from __future__ import annotations

import asyncio
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.servers.threaded import threaded
from tests.servers.versity import s3_server
from versioned_zarr.interfaces.imports.history_import import HistoryImport, Revision
from versioned_zarr.repository.repository import Repository

icechunk = pytest.importorskip("icechunk")
IS_NEW = hasattr(icechunk.Repository, "rearrange_session")  # Icechunk 2


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ICECHUNK_LOG", "error")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r.vz")


def write(source: Any, branch: str, message: str, change: Any, **metadata: Any) -> str:
    session = source.writable_session(branch)
    change(session)
    return session.commit(message, metadata=metadata)


def first(session: Any) -> None:
    group = zarr.create_group(session.store, attributes={"title": "Ice"})
    group.create_array("a", shape=(4, 4), chunks=(2, 2), dtype="i4")[:] = 1
    group.create_array("g/b", shape=(), dtype="i4")[...] = 5
    group.create_array("g/c", shape=(6,), chunks=(2,), dtype="f8")[:] = np.arange(6) + 1


def second(session: Any) -> None:
    group = zarr.open_group(session.store)
    group["a"][0, 0] = 3
    group["a"].resize((2, 4))
    group["g/c"][2:4] = 0  # the fill value: the chunk is gone
    group["g/c"].attrs["units"] = "m"


def third(session: Any) -> None:
    group = zarr.open_group(session.store)
    group["g/c"].append(np.full(3, 7.0))
    group.attrs["title"] = "More ice"
    del group["g/b"]


def move(session: Any) -> None:
    """Move an array as Icechunk 1 can: write it again."""
    group = zarr.open_group(session.store)
    group.create_array("c", shape=(6,), chunks=(2,), dtype="f8")[:] = group["g/c"][:]
    del group["g/c"]
    group.create_array("g/c", shape=(6,), chunks=(2,), dtype="f8")


@pytest.fixture
def source(tmp_path: Path) -> Any:
    """Three snapshots on main, one moved node and one shifted array on dev, and three tags."""
    storage = icechunk.local_filesystem_storage(str(tmp_path / "ice"))
    source = icechunk.Repository.create(storage)
    one = write(source, "main", "First", first, author="Ann <ann@example.org>", run=1)
    write(source, "main", "Second", second)
    source.create_branch("dev", one)
    if IS_NEW:
        session = source.rearrange_session("dev")
        session.move("/g/c", "/c")
        moved = session.commit("Moved")
        write(source, "dev", "Shifted", lambda session: session.shift_array("/a", (0, 1)))
    else:
        moved = write(source, "dev", "Moved", move)
        write(source, "dev", "Shifted", second)
    write(source, "main", "Third", third)
    source.create_branch("gone", one)
    lost = write(
        source, "gone", "On no branch", lambda s: zarr.open_group(s.store).create_group("x")
    )
    source.delete_branch("gone")
    for tag, snapshot in (("v1", one), ("moved", moved), ("lost", lost)):
        source.create_tag(tag, snapshot)
    return source


def values_of(store: Any) -> dict[str, bytes]:
    """All keys and values of a store of Icechunk."""

    async def read() -> dict[str, bytes]:
        prototype = zarr.core.buffer.default_buffer_prototype()
        return {key: (await store.get(key, prototype)).to_bytes() async for key in store.list()}

    return asyncio.run(read())


def check_equal(repository: Repository, source: Any, path: str = "") -> int:
    """Compare every snapshot that a branch or tag reaches; returns their number."""
    checked = set()
    refs = [("branch", name) for name in source.list_branches()]
    for kind, name in (*refs, *(("tag", name) for name in source.list_tags())):
        theirs = list(source.ancestry(**{kind: name}))
        mapping = repository.branches if kind == "branch" else repository.tags
        ours = list(repository.log(mapping[name]))[: len(theirs)]
        for info, commit in zip(theirs, ours, strict=True):
            assert commit.metadata["import"]["revision"] == info.id
            assert commit.message == info.message
            store = source.readonly_session(snapshot_id=info.id).store
            start = f"{path}/" if path else ""
            found = repository.checkout(commit).mapping
            values = {k.removeprefix(start): bytes(v) for k, v in found.items()}
            assert values == values_of(store)
            checked.add(info.id)
    assert set(repository.branches) == source.list_branches()
    assert set(repository.tags) == source.list_tags()
    return len(checked)


def test_every_snapshot_becomes_a_commit(
    repository: Repository, source: Any, tmp_path: Path
) -> None:
    told: list[vz.Progress] = []
    last = vz.import_from(repository, tmp_path / "ice", progress=told.append)
    assert check_equal(repository, source) == 7
    assert last == repository.branches["main"]
    assert told[-1].done == told[-1].total
    one = repository.tags["v1"]
    assert one.author == "Ann <ann@example.org>"
    facts = one.metadata["import"]
    assert (facts["format"], facts["metadata"]["run"]) == ("icechunk", 1)
    assert facts["time"].endswith("Z")
    assert len(list(repository.log("main"))) == 5  # the first commit is of the repository itself
    assert not repository.sessions


def test_only_changed_keys_are_copied(
    repository: Repository, source: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, set[str]] = {}
    add = HistoryImport.add

    def spy(self: HistoryImport, branch: str, revision: Revision) -> vz.Commit:
        written[revision.message] = set(revision.sizes)
        return add(self, branch, revision)

    monkeypatch.setattr(HistoryImport, "add", spy)
    vz.import_from(repository, source)
    assert check_equal(repository, source) == 7
    assert written["Third"] == {"zarr.json", "g/c/zarr.json", "g/c/c/3", "g/c/c/4"}
    assert {"c/zarr.json", "c/c/0", "c/c/1", "c/c/2"} <= written["Moved"]
    assert not any(key.startswith("a/") for key in written["Moved"])


def test_another_import_adds_what_is_new(
    repository: Repository, source: Any, tmp_path: Path
) -> None:
    vz.import_from(repository, tmp_path / "ice", path="data/ice")
    before = {commit.cid for commit in repository.log("main")}
    assert vz.import_from(repository, tmp_path / "ice", path="data/ice").cid in before

    def change(session: Any) -> None:
        zarr.open_group(session.store)["a"][1, 1] = 8

    write(source, "main", "Fourth", change)
    source.create_tag("v2", source.lookup_branch("main"))
    told: list[vz.Progress] = []
    vz.import_from(repository, tmp_path / "ice", path="data/ice", progress=told.append)
    assert check_equal(repository, source, "data/ice") == 8
    assert before < {commit.cid for commit in repository.log("main")}
    assert told[-1].total == 1


class _StopError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 4, 9, 14, 17])
def test_an_interrupted_import_continues(
    repository: Repository, source: Any, tmp_path: Path, after: int
) -> None:
    totals: set[int | None] = set()

    def stop(progress: vz.Progress) -> None:
        if progress.done:
            totals.add(progress.total)
        if progress.done == after:
            raise _StopError

    with pytest.raises(_StopError):
        vz.import_from(repository, tmp_path / "ice", progress=stop, workers=1)
    (total,) = totals
    assert total is not None
    told: list[vz.Progress] = []
    vz.import_from(repository, tmp_path / "ice", progress=told.append)
    assert check_equal(repository, source) == 7
    left = next(each for each in told if each.done)  # with what the earlier attempt copied
    assert left.total is not None
    assert left.total - left.done <= total - after
    assert not repository.sessions


def test_branches_with_other_commits_are_refused(
    repository: Repository, source: Any, tmp_path: Path
) -> None:
    with repository.session(message="Mine") as session:
        session.write("zarr.json", b"{}")
    with pytest.raises(vz.AlreadyExistsError, match="overwrite=True"):
        vz.import_from(repository, tmp_path / "ice")
    with pytest.raises(vz.InvalidInputError, match="keep their names"):
        vz.import_from(repository, tmp_path / "ice", into="other")
    vz.import_from(repository, tmp_path / "ice", overwrite=True)
    assert check_equal(repository, source) == 7
    with repository.session(message="Mine again") as session:
        session.write("mine", b"x")
    vz.import_from(repository, tmp_path / "ice")  # there is nothing to add
    write(source, "main", "Fourth", lambda s: zarr.open_group(s.store).create_group("y"))
    with pytest.raises(vz.AlreadyExistsError, match="where an earlier import left it"):
        vz.import_from(repository, tmp_path / "ice")


def test_a_branch_of_the_same_name_is_refused(
    repository: Repository, source: Any, tmp_path: Path
) -> None:
    repository.branches.create("dev")
    with pytest.raises(vz.AlreadyExistsError, match="branch 'dev' exists and is not from Icechunk"):
        vz.import_from(repository, tmp_path / "ice")
    assert repository.checkout().is_empty()
    repository.branches.rename("dev", "mine")
    repository.tags.create("v1", "main")
    with pytest.raises(vz.AlreadyExistsError, match="tag 'v1' names another commit"):
        vz.import_from(repository, tmp_path / "ice")
    assert repository.checkout().is_empty()


def test_what_is_no_icechunk_repository_is_said(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(vz.InvalidInputError, match="no Icechunk repository at"):
        vz.import_from(repository, tmp_path / "nothing", format="icechunk")
    with pytest.raises(vz.InvalidInputError, match="none of file://, s3://"):
        vz.import_from(repository, "ftp://example.org/x", format="icechunk")


@pytest.mark.skipif(not IS_NEW, reason="Icechunk 1 has one format")
def test_a_repository_in_the_first_format(repository: Repository, tmp_path: Path) -> None:
    storage = icechunk.local_filesystem_storage(str(tmp_path / "old"))
    source = icechunk.Repository.create(storage, spec_version=1)
    write(source, "main", "First", first)
    write(source, "main", "Second", second)
    source.create_tag("v1", source.lookup_branch("main"))
    vz.import_from(repository, tmp_path / "old")
    assert check_equal(repository, source) == 3


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.mark.skipif(not IS_NEW, reason="Icechunk 1 reads nothing over HTTP")
def test_a_url_without_a_repository(repository: Repository, tmp_path: Path) -> None:
    with (
        threaded(partial(Quiet, directory=str(tmp_path))) as url,
        pytest.raises(vz.StorageError, match=r"cannot read 'http.*/none' with Icechunk"),
    ):
        vz.import_from(repository, f"{url}/none", format="icechunk")


@pytest.mark.compat
def test_a_repository_in_a_bucket(repository: Repository, tmp_path: Path) -> None:
    with s3_server(tmp_path / "s3") as server:
        options = {
            "endpoint_url": server.endpoint,
            "allow_http": True,
            "region": "us-east-1",
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
            "force_path_style": True,
        }
        storage = icechunk.s3_storage(bucket=server.bucket, prefix="ice", **options)
        source = icechunk.Repository.create(storage)
        write(source, "main", "First", first)
        write(source, "main", "Second", second)
        source.create_tag("v1", source.lookup_branch("main"))
        url = f"s3://{server.bucket}/ice"
        vz.import_from(repository, url, format="icechunk", storage_options=options)
        assert check_equal(repository, source) == 3
