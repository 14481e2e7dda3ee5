"""A path is taken as it stands, and every key has a URL: also keys that look like URLs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.storage import FsspecStore

import versioned_zarr as vz
from versioned_zarr.errors import InvalidRefError
from versioned_zarr.history.ref_names import check_ref_name
from versioned_zarr.interfaces.fsspec import branch_urls
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem
from versioned_zarr.tree.keys import is_key

pytestmark = pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")

ODD = (
    "x::y",
    "a@/b",
    "a@",
    "@",
    "p%20q",
    "p%3A%3Aq",
    "x#y",
    "q?r",
    "a b",
    "s*",
    "t[1]",
    "é",
    "a:b",
)
LIKE_A_SESSION = "session/20260131T120000-0a1b2c3d"
TEXTS = st.text(st.sampled_from("a@:/%#?*[] é~{}2") | st.characters(codec="utf-8"), max_size=12)


def is_ref(text: str) -> bool:
    try:
        check_ref_name(text)
    except InvalidRefError:
        return False
    return True


@given(
    st.sampled_from(["main", LIKE_A_SESSION]) | TEXTS.filter(is_ref),
    st.just("") | TEXTS.filter(is_key),
)
def test_every_path_and_ref_has_a_url(ref: str, key: str) -> None:
    url = branch_urls.write(ref, key, "memory://x")
    assert branch_urls.read(url) == (ref, key, "memory://x", "")
    first, _, tail = url.partition("::")
    assert tail == "memory://x"
    assert VersionedFileSystem._strip_protocol(first) == key
    assert VersionedFileSystem._get_kwargs_from_urls(first) == {"ref": ref}
    assert VersionedFileSystem._strip_protocol(key) == key  # a path is no URL


@pytest.fixture(params=["memory", "folder", "odd folder"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> vz.Repository:
    places = {
        "memory": f"memory://urls-{tmp_path.name}",
        "folder": str(tmp_path / "r.vz"),
        "odd folder": str(tmp_path / "a::b %20#.vz"),
    }
    return vz.create(places[request.param])


@pytest.fixture
def files(repository: vz.Repository) -> Iterator[VersionedFileSystem]:
    files = fsspec.filesystem("vzarr", fo=repository.url, skip_instance_cache=True)
    yield files
    files.end_session(commit=False)


@pytest.mark.parametrize("ref", ["main", "a@b", "x/y", "50%", "a#b", "a@/b", "p%20q"])
def test_a_url_of_the_file_system_opens_it_again(repository: vz.Repository, ref: str) -> None:
    if ref != "main":
        repository.branches.create(ref)
    with repository.session(ref, message="odd") as session:
        for number, name in enumerate(ODD):
            session.write(f"{name}/v", b"%d" % number)
    files = VersionedFileSystem(repository.url, ref=ref)
    for number, name in enumerate(ODD):
        url = files.unstrip_protocol(f"{name}/v")
        again, path = fsspec.url_to_fs(url)
        assert (again.ref, path) == (ref, f"{name}/v")
        assert again.repository.url == repository.url
        assert again.cat_file(path) == b"%d" % number
        assert files.cat_file(url) == b"%d" % number
        with fsspec.open(url) as file:
            assert file.read() == b"%d" % number


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ODD)
def test_zarr_writes_and_reads_an_odd_name(
    repository: vz.Repository, name: str, zarr_format: int
) -> None:
    url = f"vzarr://main@/::{repository.url}"
    for each in (name, "plain", "st", "t1", "qxr"):  # what would match, were it a pattern
        array = zarr.create_array(
            FsspecStore.from_url(url), name=each, shape=2, chunks=1, dtype="i1", fill_value=0,
            zarr_format=zarr_format,
        )  # fmt: skip
        array[:] = 7
    array = zarr.open_array(FsspecStore.from_url(url), path=name)
    array[:] = [0, 7]  # the first chunk is deleted
    assert array[:].tolist() == [0, 7]
    files, _ = fsspec.url_to_fs(url)
    files.commit()
    by_url = f"vzarr://main@/{branch_urls.write('', name, '').partition('@/')[2]}"
    assert zarr.open_array(f"{by_url}::{repository.url}", mode="r")[:].tolist() == [0, 7]
    snapshot = repository.checkout()
    assert zarr.open_array(snapshot.store, path=name)[:].tolist() == [0, 7]
    files.rm(name, recursive=True)
    files.commit()
    snapshot = repository.checkout()
    assert snapshot.is_empty(name)
    assert not any(snapshot.is_empty(other) for other in ("plain", "st", "t1", "qxr"))


@pytest.mark.parametrize("name", ODD)
def test_each_operation_takes_an_odd_path_as_it_stands(
    files: VersionedFileSystem, name: str, tmp_path: Path
) -> None:
    files.pipe({f"{name}/a": b"1", f"{name}/b": b"22", "plain": b"3"})
    assert files.ls(name, detail=False) == [f"{name}/a", f"{name}/b"]
    assert files.find(name) == [f"{name}/a", f"{name}/b"]
    assert files.cat(f"{name}/a") == b"1"
    assert files.cat([f"{name}/a", f"{name}/b"]) == {f"{name}/a": b"1", f"{name}/b": b"22"}
    files.get(name, str(tmp_path / "out"), recursive=True)
    assert (tmp_path / "out" / "b").read_bytes() == b"22"
    files.cp(f"{name}/a", f"{name}/c")
    files.mv(f"{name}/c", f"{name}/d")
    files.rm(f"{name}/d")
    mapper = files.get_mapper(name)
    assert dict(mapper) == {"a": b"1", "b": b"22"}
    del mapper["a"]
    assert files.find("") == sorted([f"{name}/b", "plain"])
    files.rm([name], recursive=True)
    assert files.find("") == ["plain"]


@pytest.mark.parametrize("url", ["vzarr://dev", "vzarr://dev/x", "vzarr:///x", "vzarr://main@x"])
def test_a_url_that_names_no_ref_is_refused(repository: vz.Repository, url: str) -> None:
    repository.branches.create("dev")
    works: list[Callable[[], object]] = [
        lambda: fsspec.url_to_fs(f"{url}::{repository.url}"),
        lambda: fsspec.open(f"{url}::{repository.url}", "wb"),
        lambda: fsspec.get_mapper(f"{url}::{repository.url}"),
        lambda: zarr.create_array(f"{url}::{repository.url}", shape=2, dtype="i1"),
        lambda: VersionedFileSystem(repository.url).pipe(url, b""),
    ]
    for work in works:
        with pytest.raises(vz.InvalidUrlError, match=r"write 'vzarr://.*@/'"):
            work()
    assert not repository.sessions


def test_what_is_no_utf_8_is_refused() -> None:
    with pytest.raises(vz.InvalidUrlError, match="UTF-8"):
        branch_urls.read("vzarr://main@/%FF")


def test_a_url_of_another_ref_or_repository_is_refused(
    repository: vz.Repository, files: VersionedFileSystem
) -> None:
    repository.branches.create("dev")
    for url in (
        "vzarr://dev@/x",
        "vzarr://dev@/x::" + repository.url,
        "vzarr://main@/x::memory://b",
    ):
        with pytest.raises(vz.InvalidUrlError, match="url_to_fs"):
            files.pipe(url, b"1")
    files.pipe(f"vzarr://main@/x::{repository.url}", b"1")
    files.pipe("vzarr://@/y", b"2")
    assert files.find("") == ["x", "y"]


@pytest.mark.parametrize("path", ["", "air"])
def test_a_ref_that_is_not_there_is_told(repository: vz.Repository, path: str) -> None:
    url = f"vzarr://mian@/{path}::{repository.url}"
    works: list[Callable[[], object]] = [
        lambda: zarr.open(url, mode="r"),
        lambda: zarr.open_group(url, mode="r"),
        lambda: zarr.open_array(url, mode="r"),
        lambda: zarr.open_group(url, mode="a"),
        lambda: FsspecStore.from_url(url),
        lambda: fsspec.open(url, "rb").open(),
        lambda: fsspec.get_mapper(url),
    ]
    for work in works:
        with pytest.raises(vz.RefNotFoundError, match="did you mean 'main'"):
            work()


def test_a_ref_or_a_value_that_went_is_not_a_value_that_was_never_written(
    repository: vz.Repository,
) -> None:
    repository.branches.create("dev")
    store = FsspecStore.from_url(f"vzarr://dev@/::{repository.url}")
    repository.branches.delete("dev")
    with pytest.raises(vz.StorageError, match="'dev' not found"):
        zarr.open_group(store, mode="r")
    files = VersionedFileSystem(repository.url, ref="main", skip_instance_cache=True)
    files.ref = "gone"
    for work in (files.exists, files.isdir, files.isfile, files.ls, files.find, files.cat_file):
        with pytest.raises(vz.StorageError, match="gone"):
            work("x")


def test_a_tag_cannot_be_deleted_from(repository: vz.Repository) -> None:
    with repository.session(message="a") as session:
        zarr.create_array(session.store, name="a", shape=2, dtype="i1")
    repository.tags.create("v1")
    store = FsspecStore.from_url(f"vzarr://v1@/::{repository.url}")
    with pytest.raises(vz.StorageError, match="v1"):
        zarr.create_array(store, name="a", shape=3, dtype="i1", overwrite=True)
    files = VersionedFileSystem(repository.url, ref="v1")
    with pytest.raises(vz.RefNotFoundError):
        files.copy("a", "b", recursive=True)
