"""A folder is shared or not for good, and all that takes a path opens it as what it is."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest

import versioned_zarr as vz
from versioned_zarr.backends import registry
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.objectstore.object_store_backend import ObjectStoreBackend
from versioned_zarr.backends.sharedfolder.shared_folder_backend import SharedFolderBackend
from versioned_zarr.engine.backend import StorageBackend
from versioned_zarr.engine.marker import encode_marker, layout_in, read_marker

VALUES = {"a/c/0": b"1" * 5000, "zarr.json": b"{}"}


def commit(repository: vz.Repository, values: dict[str, bytes], message: str = "x") -> str:
    with repository.session(message=message) as session:
        for key, value in values.items():
            session.write(key, value)
    return repository.branches["main"].cid


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    commit(vz.create(tmp_path / "shared.vz", shared=True), VALUES)
    return tmp_path / "shared.vz"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    commit(vz.create(tmp_path / "plain.vz"), VALUES)
    return tmp_path / "plain.vz"


def is_shared(repository: vz.Repository) -> bool:
    return (Path(repository.url.removeprefix("file://")) / "refs/heads/main").is_dir()


def test_the_marker_says_that_a_folder_is_shared(shared: Path, plain: Path) -> None:
    document = json.loads((shared / "versioned-zarr.json").read_bytes().rpartition(b" ")[0])
    assert document["shared"] is True
    assert len(document["id"]) == 32
    assert "shared" not in (plain / "versioned-zarr.json").read_text()


@pytest.mark.parametrize("shown", [Path, str, Path.as_uri], ids=["path", "text", "URL"])
def test_a_folder_is_opened_as_what_it_is(shared: Path, plain: Path, shown: Any) -> None:
    for path, expected in ((shared, True), (plain, False)):
        repository = vz.open(shown(path))
        assert is_shared(repository) == expected
        assert vz.open(shown(path), shared=expected) is repository
        assert pickle.loads(pickle.dumps(repository)).url == repository.url
        assert dict(repository.checkout().mapping) == VALUES


def test_a_folder_cannot_become_another(shared: Path, plain: Path) -> None:
    for path, wanted in ((shared, False), (plain, True)):
        for act in (vz.open, vz.create, vz.open_or_create):
            with pytest.raises(vz.InvalidInputError, match="cannot be changed"):
                act(path, shared=wanted)
        with pytest.raises(vz.AlreadyExistsError):
            vz.create(path)
        assert dict(vz.open(path).checkout().mapping) == VALUES


def test_a_repository_that_appears_after_the_look_is_not_opened_as_another(
    shared: Path, plain: Path
) -> None:
    for backend in (StorageBackend(LocalStorage(shared)), SharedFolderBackend(plain)):
        with pytest.raises(vz.FormatError, match="by its path alone"):
            backend.read_marker()


def test_an_older_version_calls_the_marker_of_a_shared_folder_damaged(shared: Path) -> None:
    marker = (shared / "versioned-zarr.json").read_bytes()
    document = json.loads(marker.rpartition(b" ")[0])
    # What each older version compares it with.
    assert marker != encode_marker(document["hash"], document["id"])


def test_a_marker_that_is_damaged_is_told_so(shared: Path) -> None:
    marker = shared / "versioned-zarr.json"
    marker.write_bytes(marker.read_bytes().replace(b"true", b"null"))
    with pytest.raises(vz.FormatError, match="damaged"):
        vz.open(shared)
    assert layout_in(b"{") is None
    assert layout_in(b'{"format": 3, "shared": true}') is None
    with pytest.raises(vz.FormatError, match="upgrade"):
        read_marker("x", lambda: b'{"format": 3, "hash": "x", "shared": true} 00000000\n')


def test_objects_that_obstore_wrote_into_a_folder_are_not_opened_as_a_folder(
    tmp_path: Path, shared: Path
) -> None:
    obstore = pytest.importorskip("obstore")
    folder = tmp_path / "objects"
    folder.mkdir()
    vz.create(obstore.store.LocalStore(folder))
    with pytest.raises(vz.FormatError, match="pass the store"):
        vz.open(folder)
    with pytest.raises(vz.FormatError, match="by its path alone"):
        vz.open(obstore.store.LocalStore(shared))


@pytest.mark.parametrize("url", ["memory://x", "s3://bucket/x", "lakefs://x"])
def test_only_a_folder_can_be_shared(url: str) -> None:
    with pytest.raises(vz.InvalidInputError, match="folder"):
        vz.create(url, shared=True)
    assert vz.create(f"memory://{uuid.uuid4()}", shared=False).url.startswith("memory:")


def test_on_windows_a_new_folder_is_shared(
    tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (sys.platform == "win32") == registry._SHARES_BY_DEFAULT
    monkeypatch.setattr(registry, "_SHARES_BY_DEFAULT", True)
    assert is_shared(vz.create(tmp_path / "new.vz"))
    assert not is_shared(vz.create(tmp_path / "own.vz", shared=False))
    assert not is_shared(vz.open(plain))
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(tmp_path / "nothing.vz")


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.txt").write_text("1")
    with pytest.raises(vz.AlreadyExistsError, match=r"data\.txt"):
        vz.create(tmp_path / "mine", shared=True)
    (tmp_path / "file").write_text("1")
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(tmp_path / "file", shared=True)


def test_versions_go_between_all_kinds(shared: Path, plain: Path, tmp_path: Path) -> None:
    copies = [
        vz.clone(shared, tmp_path / "copy1.vz"),
        vz.clone(plain, tmp_path / "copy2.vz", shared=True),
        vz.clone(shared, tmp_path / "copy3.vz", shared=True),
        vz.clone(shared, f"memory://{uuid.uuid4()}"),
    ]
    assert [is_shared(each) for each in copies[:3]] == [False, True, True]
    for number, copy in enumerate(copies):
        source = vz.open(plain if number == 1 else shared)
        new = commit(copy, {f"new/{number}": b"2" * 3000}, f"{number}")
        copy.push("origin", f"main:pushed{number}")
        assert source.branches[f"pushed{number}"].cid == new
        moved = commit(source, {f"moved/{number}": b"3"}, f"moved {number}")
        copy.fetch("origin")
        assert copy.remotes["origin"]
        copy.pull("origin")
        assert moved in {each.cid for each in copy.log()}
        assert copy.fsck(read_all=True).is_clean
        assert source.fsck(read_all=True).is_clean


def test_a_partial_clone_into_a_shared_folder_is_filled(plain: Path, tmp_path: Path) -> None:
    copy = vz.clone(plain, tmp_path / "part.vz", shared=True, paths=["a"], depth=1)
    assert dict(copy.checkout().mapping) == VALUES


def test_fsspec_finds_a_shared_folder(shared: Path) -> None:
    with fsspec.open(f"vzarr://main@/a/c/0::{shared}", "rb") as file:
        assert file.read() == VALUES["a/c/0"]


def test_the_command_line_makes_and_clones_shared_folders(tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "versioned_zarr.cli", *arguments],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    run("init", "--shared", str(tmp_path / "r.vz"))
    run("clone", "--shared", str(tmp_path / "r.vz"), str(tmp_path / "copy.vz"))
    assert is_shared(vz.open(tmp_path / "r.vz"))
    assert is_shared(vz.open(tmp_path / "copy.vz"))
    assert "Create the repository" in run("-C", str(tmp_path / "copy.vz"), "log")


def test_a_creation_that_was_interrupted_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "r.vz"
    with monkeypatch.context() as patched:
        patched.setattr(ObjectStoreBackend, "write_marker", lambda backend, marker: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            vz.create(path, shared=True)
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(path)
    commit(vz.create(path, shared=True), VALUES)
    assert dict(vz.open(path).checkout().mapping) == VALUES
