"""File systems of several processes write into one session, and a commit lets go of it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
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
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem
from versioned_zarr.repository.repository import Repository

pytestmark = pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="begin") as session:
        session.mapping["top"] = b"t"
    return repository


@pytest.fixture
def files(repository: Repository) -> VersionedFileSystem:
    return fsspec.filesystem("vzarr", fo=repository.url, skip_instance_cache=True)


@pytest.fixture
def other() -> Iterator[Callable[..., Any]]:
    """Calls a function in a process that was spawned."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        yield lambda work, *args: pool.submit(work, *args).result()


def put(files: VersionedFileSystem, path: str, value: bytes) -> None:
    files.pipe(path, value)


def put_by_map(mapping: fsspec.FSMap, path: str, value: bytes) -> None:
    mapping[path] = value


def put_chunk(array: zarr.Array[Any], index: int) -> None:
    array[index : index + 1] = index


def get(files: VersionedFileSystem, path: str) -> bytes:
    return bytes(files.cat(path))


def in_transaction(files: VersionedFileSystem) -> None:
    with files.transaction:
        files.pipe("x", b"1")


def test_another_process_writes_into_the_session(
    files: VersionedFileSystem, repository: Repository, other: Callable[..., Any]
) -> None:
    files.pipe("a", b"1")
    other(put, files, "b", b"2")
    other(put_by_map, files.get_mapper("sub"), "c", b"3")
    assert other(get, files, "a") == b"1"
    assert files.cat("b") == b"2"
    assert len(repository.sessions) == 1
    files.commit()
    assert dict(repository.checkout().mapping) == {
        "a": b"1", "b": b"2", "sub/c": b"3", "top": b"t"
    }  # fmt: skip


def test_a_session_that_was_asked_for_is_handed_on_before_it_wrote(
    files: VersionedFileSystem, repository: Repository, other: Callable[..., Any]
) -> None:
    _ = files.session
    other(put, files, "b", b"2")
    files.commit()
    assert repository.checkout().mapping["b"] == b"2"


def test_zarr_stores_by_url_are_written_by_other_processes(
    repository: Repository, other: Callable[..., Any]
) -> None:
    url = f"vzarr://main@/air::{repository.url}"
    array = zarr.create_array(url, shape=(4,), chunks=(1,), dtype="i4", fill_value=-1)
    for index in range(4):
        other(put_chunk, array, index)
    fsspec.url_to_fs(url)[0].commit()
    found = zarr.open_array(repository.checkout().store, path="air", mode="r")
    assert np.array_equal(found[:], range(4))


@pytest.mark.compat
def test_another_process_writes_into_a_session_on_lakefs(
    lakefs: LakefsServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    other: Callable[..., Any],
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    url = lakefs.create().url
    named = {
        "host": lakefs.endpoint,
        "username": lakefs.access_key_id,
        "password": lakefs.secret_access_key,
    }
    files, _ = fsspec.url_to_fs(f"vzarr://main@/::{url}", lakefs=named)
    files.pipe("a", b"1")
    other(put, files, "b", b"2")
    assert other(get, files, "a") == b"1"
    files.commit()
    assert (files.cat("a"), files.cat("b")) == (b"1", b"2")
    assert other(get, files, "b") == b"2"
    files.end_session(commit=False)


def test_dask_processes_write_by_url(repository: Repository) -> None:
    xarray = pytest.importorskip("xarray")
    dask = pytest.importorskip("dask")
    url = f"vzarr://main@/big::{repository.url}"
    data = np.arange(64.0).reshape(8, 8)
    dataset = xarray.Dataset({"t": (("x", "y"), data)}).chunk({"x": 2})
    with dask.config.set(scheduler="processes", num_workers=2):
        dataset.to_zarr(url, mode="w", consolidated=False)
    fsspec.url_to_fs(url)[0].commit()
    again = repository.checkout().path("big").to_xarray().load()
    assert np.array_equal(again.t.values, data)


def test_a_copy_without_a_session_reads_the_same_snapshot_and_writes_nothing(
    files: VersionedFileSystem, repository: Repository, other: Callable[..., Any]
) -> None:
    assert files.cat("top") == b"t"
    with repository.session(message="onwards") as session:
        session.mapping["top"] = b"u"
    assert other(get, files, "top") == b"t"
    with pytest.raises(vz.ReadOnlyError, match="pickled"):
        other(put, files, "b", b"2")
    files.invalidate_cache()
    assert other(get, files, "top") == b"u"


def test_a_copy_reads_the_branch_when_its_session_has_ended(
    files: VersionedFileSystem, other: Callable[..., Any]
) -> None:
    files.pipe("a", b"1")
    copy = pickle.dumps(files)
    files.commit()
    files.end_session(commit=False)
    assert other(get_of, copy, "a") == b"1"
    with pytest.raises(vz.ReadOnlyError):
        other(put_of, copy, "b", b"2")


def get_of(files: bytes, path: str) -> bytes:
    return get(pickle.loads(files), path)


def put_of(files: bytes, path: str, value: bytes) -> None:
    put(pickle.loads(files), path, value)


def test_other_processes_do_not_end_the_session(
    files: VersionedFileSystem, repository: Repository, other: Callable[..., Any]
) -> None:
    files.pipe("a", b"1")
    with pytest.raises(vz.InvalidInputError, match="belongs to the process"):
        other(in_transaction, files)
    other(VersionedFileSystem.commit, files)
    assert repository.checkout().mapping["a"] == b"1"
    files.pipe("b", b"2")
    files.commit()
    assert repository.checkout().mapping["b"] == b"2"


def test_a_copy_in_the_same_process_is_as_the_original(files: VersionedFileSystem) -> None:
    copy = pickle.loads(pickle.dumps(files))
    copy.pipe("a", b"1")
    assert files.cat("a") == b"1"
    copy.end_session(commit=False)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_children_write_into_the_session(
    files: VersionedFileSystem, repository: Repository
) -> None:
    url = f"vzarr://main@/::{repository.url}"
    _ = files.session
    children = []
    for name in ("a", "b"):
        child = os.fork()
        if child == 0:
            try:
                fsspec.url_to_fs(url)[0].pipe(name, name.encode())
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    files.commit()
    assert dict(repository.checkout().mapping) == {"a": b"a", "b": b"b", "top": b"t"}


def test_after_a_commit_the_branch_is_seen(
    files: VersionedFileSystem, repository: Repository
) -> None:
    url = f"vzarr://main@/::{repository.url}"
    again = fsspec.filesystem("vzarr", fo=repository.url, skip_instance_cache=True)
    assert again.cat("top") == b"t"
    files.pipe("a", b"1")
    files.commit("one")
    assert not repository.sessions
    assert again.cat("a") == b"1"
    with repository.session(message="two") as session:
        session.mapping["a"] = b"2"
    assert files.cat("a") == b"2"
    assert fsspec.url_to_fs(url, skip_instance_cache=True)[0].cat("a") == b"2"
    files.pipe("a", b"3")
    files.commit("three")
    assert repository.checkout().mapping["a"] == b"3"
    with pytest.raises(vz.NothingToCommitError):
        files.commit()
    assert not repository.sessions


def test_after_a_commit_of_a_session_that_was_handed_on_the_branch_is_seen(
    files: VersionedFileSystem, repository: Repository, other: Callable[..., Any]
) -> None:
    files.pipe("a", b"1")
    other(put, files, "b", b"1")
    files.commit("one")
    other(put, files, "c", b"1")
    files.pipe("a", b"2")
    files.commit("two")
    with repository.session(message="three") as session:
        session.mapping["a"] = b"3"
    assert files.cat("a") == b"3"
    files.pipe("a", b"4")
    files.commit("four")
    found = dict(repository.checkout().mapping)
    assert found == {"a": b"4", "b": b"1", "c": b"1", "top": b"t"}


def test_a_process_that_ends_says_what_it_did_not_commit(repository: Repository) -> None:
    url = f"vzarr://main@/::{repository.url}"
    code = f"import fsspec; fsspec.url_to_fs({url!r})[0].pipe('a', b'1')"
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    (left,) = repository.sessions.values()
    assert f"session {left.id} on 'main'" in result.stderr
    repository.resume(left.id).commit("rescued")
    assert repository.checkout().mapping["a"] == b"1"
