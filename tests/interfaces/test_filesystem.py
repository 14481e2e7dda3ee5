"""fsspec reads and writes branches: by URL, through zarr and xarray, and as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="begin") as session:
        session.mapping["air/c/0"] = b"0123456789"
        session.mapping["air/zarr.json"] = b"{}"
        session.mapping["top"] = b"t"
    return repository


@pytest.fixture
def files(repository: Repository) -> VersionedFileSystem:
    return fsspec.filesystem("vzarr", fo=repository.url, skip_instance_cache=True)


@pytest.mark.parametrize(
    ("url", "ref", "path"),
    [
        ("vzarr://main@/air", "main", "air"),
        ("vzarr://main@/", "main", ""),
        ("vzarr://main@", "main", ""),
        ("vzarr://feature/x@/a/b", "feature/x", "a/b"),
        ("vzarr://main@{1}@/air", "main@{1}", "air"),
        ("vzarr://a%40b@/air", "a@b", "air"),
        ("vzarr://@/air", None, "air"),
        ("vzarr://", None, ""),
        ("air/c/0", None, "air/c/0"),
    ],
)
def test_a_url_names_a_ref_and_a_path(url: str, ref: str | None, path: str) -> None:
    assert VersionedFileSystem._strip_protocol(url) == path
    assert VersionedFileSystem._get_kwargs_from_urls(url).get("ref") == ref


def test_files_read(files: VersionedFileSystem, repository: Repository) -> None:
    assert files.ls("", detail=False) == ["air", "top"]
    assert files.ls("air", detail=False) == ["air/c", "air/zarr.json"]
    assert files.find("") == ["air/c/0", "air/zarr.json", "top"]
    assert files.isdir("air")
    assert files.isfile("air/c/0")
    assert not files.exists("gone")
    assert files.cat("air/c/0") == b"0123456789"
    assert files.cat_file("air/c/0", 2, 5) == b"234"
    assert files.cat_file("air/c/0", -3) == b"789"
    assert files.cat_file("air/c/0", 8, 99) == b"89"
    assert files.open("air/c/0").read() == b"0123456789"
    link = dict(repository.checkout()._links())["top"]
    assert files.info("top")["size"] == 1
    assert files.ukey("top") == to_text(link.cid)
    for path in ("gone", "air", ""):
        with pytest.raises(FileNotFoundError):
            files.cat_file(path)
    with pytest.raises(FileNotFoundError):
        files.ls("gone")


def fails(context: Any, work: Callable[[Any], object]) -> None:
    """Do some work in a block that then ends with an exception."""

    def run() -> None:
        with context as entered:
            work(entered)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()


def test_files_are_written_and_committed(
    files: VersionedFileSystem, repository: Repository
) -> None:
    with files.open("new/a", "wb") as file:
        file.write(b"1")
        file.write(b"2")
    files.pipe("new/b", b"3")
    files.cp("top", "new/c")
    files.rm("air", recursive=True)
    with pytest.raises(IsADirectoryError):
        files.rm("new")
    with pytest.raises(FileExistsError):
        files.pipe_file("top", b"", mode="create")
    fails(files.open("never", "wb"), lambda file: file.write(b"x"))
    assert set(repository.checkout().mapping) == {"air/c/0", "air/zarr.json", "top"}
    assert files.commit("by hand").message == "by hand"
    expected = {"new/a": b"12", "new/b": b"3", "new/c": b"t", "top": b"t"}
    assert dict(repository.checkout().mapping) == expected


def test_a_transaction_is_a_commit_or_nothing(
    files: VersionedFileSystem, repository: Repository
) -> None:
    with files.transaction:
        files.pipe("a", b"1")
    assert repository.checkout().mapping["a"] == b"1"
    fails(files.transaction, lambda _: files.pipe("b", b"2"))
    assert not files.exists("b")
    assert len(list(repository.log())) == 3
    assert not repository.sessions
    with files.transaction:
        files.cat("a")
    assert len(list(repository.log())) == 3


def write_open(files: VersionedFileSystem, path: str) -> None:
    with files.open(path, "wb") as file:
        file.write(b"1")


def test_files_opened_in_a_transaction_are_a_part_of_it(
    files: VersionedFileSystem, repository: Repository
) -> None:
    with files.transaction:
        write_open(files, "a")
        left_open = files.open("b", "wb")
        left_open.write(b"2")
    assert repository.checkout().mapping["b"] == b"2"
    assert repository.checkout().mapping["a"] == b"1"
    fails(files.transaction, lambda _: write_open(files, "c"))
    fails(files.transaction, lambda _: files.open("d", "wb").write(b"4"))
    with files.transaction:
        write_open(files, "e")
    assert set(repository.checkout().mapping) == {"a", "air/c/0", "air/zarr.json", "b", "e", "top"}
    assert len(list(repository.log())) == 4
    assert not repository.sessions


def test_a_transaction_that_cannot_be_committed_leaves_nothing_to_the_next(
    files: VersionedFileSystem, repository: Repository
) -> None:
    def conflict() -> None:
        with files.transaction:
            write_open(files, "top")
            with repository.session(message="other") as session:
                session.mapping["top"] = b"u"

    with pytest.raises(vz.ConflictError):
        conflict()
    with files.transaction:
        write_open(files, "a")
    assert repository.checkout().mapping["top"] == b"u"
    (left,) = repository.sessions.values()
    assert repository.resume(left.id).mapping["top"] == b"1"


def test_a_tag_is_read_only(repository: Repository) -> None:
    repository.tags.create("v1")
    files, path = fsspec.url_to_fs(f"vzarr://v1@/top::{repository.url}")
    assert files.cat(path) == b"t"
    with pytest.raises(vz.RefNotFoundError):
        files.pipe("x", b"")


def test_a_moved_branch_is_seen_when_asked_for(
    files: VersionedFileSystem, repository: Repository
) -> None:
    assert files.cat("top") == b"t"
    with repository.session(message="onwards") as session:
        session.mapping["top"] = b"u"
    assert files.cat("top") == b"t"
    files.invalidate_cache()
    assert files.cat("top") == b"u"


def test_no_repository_is_refused() -> None:
    with pytest.raises(vz.InvalidUrlError, match="after '::'"):
        fsspec.filesystem("vzarr")


def check_zarr(url: str, **options: dict[str, str]) -> None:
    """An array is written by URL, committed, and read by URL."""
    data = np.arange(100, dtype="i4").reshape(10, 10)
    array = zarr.create_array(
        url, shape=(10, 10), chunks=(5, 5), dtype="i4", storage_options=options
    )
    array[:] = data
    files, _ = fsspec.url_to_fs(url, **options)
    files.commit("through zarr")
    again = zarr.open_array(url, mode="r", storage_options=options)
    assert np.array_equal(again[:], data)
    array[0, 0] = -1
    assert zarr.open_array(url, mode="r", storage_options=options)[0, 0] == -1
    files.commit("again")


@pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")
def test_zarr_writes_and_reads_by_url(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    check_zarr(f"vzarr://main@/air::file://{tmp_path}/r.vz")
    array = zarr.open_array(repository.checkout().store, path="air", mode="r")
    assert array[0, 0] == -1
    assert [commit.message for commit in repository.log()][:2] == ["again", "through zarr"]


@pytest.mark.compat
@pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")
def test_a_branch_of_lakefs(
    lakefs: LakefsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    repository = lakefs.create()
    named = {
        "host": lakefs.endpoint,
        "username": lakefs.access_key_id,
        "password": lakefs.secret_access_key,
    }
    check_zarr(f"vzarr://main@/air::{repository.url}", lakefs=named)
    assert zarr.open_array(repository.checkout().store, path="air", mode="r")[0, 0] == -1


@pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")
def test_xarray_writes_and_reads_by_url(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    repository = vz.create(tmp_path / "r.vz")
    url = f"vzarr://main@/air::file://{tmp_path}/r.vz"
    dataset = xarray.Dataset({"t": (("x", "y"), np.arange(12.0).reshape(3, 4))})
    dataset.to_zarr(url, consolidated=False)
    files, _ = fsspec.url_to_fs(url)
    files.commit("air")
    xarray.testing.assert_identical(xarray.open_zarr(url, consolidated=False).load(), dataset)
    snapshot = repository.checkout().path("air")
    xarray.testing.assert_identical(snapshot.to_xarray().load(), dataset)
