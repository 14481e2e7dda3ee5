"""A URL joins an open session by its ID: reads see it, writes go into it, and it ends elsewhere."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer
from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.interfaces.fsspec import branch_urls
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem

pytestmark = pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="begin") as session:
        session.write("top", b"t")
    return repository


@pytest.fixture
def other() -> Iterator[Callable[..., Any]]:
    """Calls a function in a process that was spawned."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        yield lambda work, *args: pool.submit(work, *args).result()


def at(url: str, path: str) -> str:
    """The URL of a path in the session of a URL."""
    return url.replace("@/", f"@/{path}")


def put(url: str, value: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(value)


def get(url: str) -> bytes:
    with fsspec.open(url) as file:
        return file.read()


def put_chunk(url: str, index: int) -> None:
    zarr.open_array(url, mode="r+")[index] = index


def put_by_copy(files: VersionedFileSystem, path: str, value: bytes) -> None:
    files.pipe(path, value)


def open_in_transaction(url: str) -> None:
    files, _ = fsspec.url_to_fs(url)
    with files.transaction:
        files.pipe("x", b"1")


def test_a_new_session_has_an_id_that_urls_recognize() -> None:
    head = SessionHead.new("main", "", "ada")
    assert branch_urls.read(f"vzarr://session/{head.id}@/").session == head.id


def test_what_only_resembles_a_session_is_a_branch() -> None:
    for ref in ("session/x", "session/20260131T120000-0A1B2C3D", "session", "a/session/x"):
        assert branch_urls.read(f"vzarr://{ref}@/") == (ref, "", "", "")


def test_a_branch_that_is_named_like_a_session_has_a_url(repository: vz.Repository) -> None:
    session = repository.session()
    session.write("a", b"of the session")
    branch = f"session/{session.id}"
    repository.branches.create(branch)
    with repository.session(branch, message="one") as another:
        another.write("a", b"of the branch")
    url = branch_urls.write(branch, "a", repository.url)
    assert get(url) == b"of the branch"
    assert get(at(session.url, "a")) == b"of the session"
    assert fsspec.url_to_fs(url)[0].unstrip_protocol("a") == url
    assert fsspec.url_to_fs(session.url)[0].unstrip_protocol("a") == at(session.url, "a")


def test_other_processes_read_and_write_the_session_by_its_url(
    repository: vz.Repository, other: Callable[..., Any]
) -> None:
    session = repository.session()
    url = session.url
    session.write("a", b"1")
    assert other(get, at(url, "a")) == b"1"
    assert other(get, at(url, "top")) == b"t"
    other(put, at(url, "b"), b"2")
    assert session.read("b") == b"2"
    assert list(repository.sessions) == [session.id]
    assert set(repository.checkout().keys()) == {"top"}
    commit = session.commit("both")
    assert set(repository.checkout(commit.cid).keys()) == {"a", "b", "top"}


def test_zarr_and_the_own_process_write_by_url(
    repository: vz.Repository, other: Callable[..., Any]
) -> None:
    session = repository.session()
    url = at(session.url, "g/air")
    zarr.create_array(url, shape=(4,), chunks=(1,), dtype="i4", fill_value=-1)
    for index in (0, 2):
        other(put_chunk, url, index)
    put_chunk(url, 3)
    session.commit("three")
    found = zarr.open_array(repository.checkout().store, path="g/air", mode="r")
    assert np.array_equal(found[:], [0, -1, 2, 3])


def test_xarray_and_dask_take_the_url(repository: vz.Repository) -> None:
    xarray = pytest.importorskip("xarray")
    dask = pytest.importorskip("dask.array")
    session = repository.session()
    data = np.arange(24.0).reshape(6, 4)
    dataset = xarray.Dataset({"t": (("x", "y"), data)}).chunk({"x": 2})
    dataset.to_zarr(at(session.url, "set"), consolidated=False)
    again = xarray.open_zarr(at(session.url, "set"), consolidated=False).load()
    assert np.array_equal(again.t.values, data)
    dask.from_array(data, chunks=(3, 4)).to_zarr(at(session.url, "array"))
    session.commit("both")
    assert np.array_equal(repository.checkout()["array"][:], data)
    assert np.array_equal(repository.checkout()["set/t"][:], data)


def test_a_file_system_of_the_url_is_handed_to_other_processes(
    repository: vz.Repository, other: Callable[..., Any]
) -> None:
    session = repository.session()
    files, _ = fsspec.url_to_fs(session.url)
    other(put_by_copy, files, "a", b"1")
    assert session.read("a") == b"1"
    copy = pickle.loads(pickle.dumps(files))
    assert copy.cat("a") == b"1"
    session.discard()
    with pytest.raises(vz.SessionClosedError, match=session.id):
        pickle.dumps(files)


def test_a_session_that_never_existed_is_an_error(repository: vz.Repository) -> None:
    url = f"vzarr://session/20260131T120000-0a1b2c3d@/air::{repository.url}"
    for open_it in (get, fsspec.url_to_fs, zarr.open, lambda url: put(url, b"")):
        with pytest.raises(vz.SessionNotFoundError, match="20260131T120000-0a1b2c3d"):
            open_it(url)


@pytest.mark.parametrize("end", ["discard", "commit"])
def test_after_its_end_the_url_is_an_error(
    repository: vz.Repository, other: Callable[..., Any], end: str
) -> None:
    with repository.session(message="all") as session:
        url = session.url
        session.write("a", b"1")
        files, _ = fsspec.url_to_fs(url)
        assert files.cat("a") == b"1"
        assert other(get, at(url, "a")) == b"1"
        if end == "discard":
            session.discard()
    for use in (lambda: files.cat("a"), lambda: files.exists("b"), lambda: files.pipe("a", b"2")):
        with pytest.raises(vz.SessionClosedError, match=session.id) as caught:
            use()
        assert "has ended" in str(caught.value)
    with pytest.raises(vz.SessionClosedError, match="has ended"):
        other(get, at(url, "a"))  # which has it open still
    with pytest.raises((vz.SessionNotFoundError, vz.SessionClosedError), match=session.id):
        get(at(url, "a"))
    with pytest.raises(vz.SessionClosedError):
        _ = session.url


def test_the_url_does_not_end_the_session(repository: vz.Repository) -> None:
    session = repository.session()
    with pytest.raises(vz.InvalidInputError, match="belongs to the process that opened it"):
        open_in_transaction(session.url)
    session.write("a", b"1")
    session.commit("one")
    session.write("b", b"1")  # it is open still
    assert get(at(session.url, "b")) == b"1"
    session.discard()


def test_two_joined_processes_that_overwrite_unaware_are_a_conflict(
    repository: vz.Repository, other: Callable[..., Any]
) -> None:
    session = repository.session()
    files, _ = fsspec.url_to_fs(session.url)  # has joined, and reads no more
    other(put, at(session.url, "a"), b"1")
    files.pipe("a", b"2")
    with pytest.raises(vz.ConflictError, match="a: written twice"):
        session.commit("both")
    session.discard()


@pytest.mark.compat
def test_a_session_on_lakefs_is_joined_by_its_url(
    lakefs_by_environment: LakefsServer, other: Callable[..., Any]
) -> None:
    session = lakefs_by_environment.create().session()
    url = session.url
    other(put, at(url, "a"), b"1")
    assert session.read("a") == b"1"
    files, _ = fsspec.url_to_fs(url)
    assert files.cat("a") == b"1"
    session.commit("one")
    session.discard()
    for use in (lambda: files.cat("a"), lambda: files.exists("b"), lambda: files.pipe("a", b"2")):
        with pytest.raises(vz.SessionClosedError, match=session.id):
            use()
    with pytest.raises(vz.SessionClosedError, match=session.id):
        fsspec.url_to_fs(url, skip_instance_cache=True)
    with (
        ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool,
        pytest.raises(vz.SessionNotFoundError, match=session.id),
    ):
        pool.submit(get, at(url, "a")).result()
