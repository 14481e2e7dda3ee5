"""Exports to zip files, to folders that hold an earlier export, and with a description."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.storage import ZipStore

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Two commits: the second changes a chunk, adds an array and removes another."""
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="First") as session:
        group = zarr.create_group(session.store, attributes={"title": "Sea ice", "license": "CC0"})
        for name in ("area", "old/depth"):
            array = group.create_array(name, shape=(4, 4), chunks=(2, 2), dtype="i4")
            array[:] = np.arange(1, 17).reshape(4, 4)
    with repository.session(message="Second") as session:
        group = zarr.open_group(session.store)
        group["area"][0, 0] = 99
        del group["old/depth"]
        group.create_array("new", shape=(2,), dtype="f8")[:] = 1.5
    return repository


def test_a_zip_file_is_deterministic_and_starts_with_the_root(
    repository: Repository, tmp_path: Path
) -> None:
    told: list[vz.Progress] = []
    snapshot = repository.checkout()
    snapshot.to_zip(tmp_path / "a.zip", progress=told.append)
    copy = vz.clone(str(tmp_path / "r.vz"), str(tmp_path / "copy.vz"))
    copy.checkout().to_zip(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        names = file.namelist()
        assert {entry.compress_type for entry in file.infolist()} == {zipfile.ZIP_STORED}
        assert file.testzip() is None
    assert names[0] == "zarr.json"
    documents = [name for name in names if name.endswith("zarr.json")]
    assert names[: len(documents)] == documents
    assert sorted(names) == sorted(snapshot.keys())
    assert (told[0].done, told[-1].done, told[-1].total) == (0, len(names), len(names))
    with ZipStore(tmp_path / "a.zip", mode="r") as store:
        assert zarr.open_group(store, mode="r")["area"][0, 0] == 99
    back = vz.create(tmp_path / "back.vz")
    assert vz.import_from(back, tmp_path / "a.zip").tree == snapshot.cid


def test_a_zip_file_that_fails_leaves_the_old_one(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.checkout("main~1").to_zip(tmp_path / "a.zip")
    before = (tmp_path / "a.zip").read_bytes()

    def stop(progress: vz.Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repository.checkout().to_zip(tmp_path / "a.zip", progress=stop)
    assert (tmp_path / "a.zip").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(vz.InvalidInputError, match="max_keys"):
        repository.checkout().to_zip(tmp_path / "a.zip", max_keys=2)
    with pytest.raises(vz.StorageError, match="nowhere"):
        repository.checkout().to_zip(tmp_path / "nowhere" / "a.zip")


def test_an_update_writes_what_differs_and_deletes_what_is_gone(
    repository: Repository, tmp_path: Path
) -> None:
    folder = tmp_path / "out.zarr"
    first = repository.checkout("main~1").to_folder(folder)
    assert (first.unchanged, first.deleted) == (0, 0)
    kept = (folder / "area/c/1/1").stat().st_mtime_ns
    with pytest.raises(vz.AlreadyExistsError, match="update=True"):
        repository.checkout().to_folder(folder)
    done = repository.checkout().to_folder(folder, update=True)
    assert (done.written, done.deleted) == (3, 5)  # a chunk, a new array of 2; 1 document, 4 chunks
    assert done.unchanged == len(list(repository.checkout().keys())) - 3
    assert vz.cid_of_folder(folder) == repository.checkout().cid
    assert (folder / "area/c/1/1").stat().st_mtime_ns == kept
    assert not (folder / "old/depth").exists()
    again = repository.checkout().to_folder(folder, update=True)
    assert (again.written, again.deleted) == (0, 0)


@pytest.mark.parametrize("stray", ["README.md", "area/notes.txt", "area/c/0/x"])
def test_an_update_deletes_no_files_of_others(
    repository: Repository, tmp_path: Path, stray: str
) -> None:
    folder = tmp_path / "out.zarr"
    repository.checkout("main~1").to_folder(folder)
    (folder / stray).write_text("mine")
    with pytest.raises(vz.AlreadyExistsError, match="no part of a Zarr hierarchy"):
        repository.checkout().to_folder(folder, update=True)
    assert (folder / "old/depth/zarr.json").exists()
    assert (folder / stray).read_text() == "mine"


def test_an_update_refuses_other_folders(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "mine" / "c").mkdir(parents=True)
    (tmp_path / "mine" / "c" / "0").write_text("mine")
    with pytest.raises(vz.AlreadyExistsError, match="is no Zarr hierarchy"):
        repository.checkout().to_folder(tmp_path / "mine", update=True)
    vz.create(tmp_path / "other.vz")
    with pytest.raises(vz.AlreadyExistsError, match="is a repository"):
        repository.checkout().to_folder(tmp_path / "other.vz", update=True)
    shutil.copytree(tmp_path / "other.vz", tmp_path / "both")
    (tmp_path / "both" / "zarr.json").write_text("{}")
    with pytest.raises(vz.AlreadyExistsError, match="is a repository"):
        repository.checkout().to_folder(tmp_path / "both", update=True)


def test_an_update_turns_a_folder_into_a_file(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="1") as session:
        session.write("zarr.json", b"{}")
        session.write("a/c/0/0", b"x")
    repository.checkout().to_folder(tmp_path / "out")
    with repository.session(message="2") as session:
        session.clear("a")
        session.write("a/c", b"scalar")
    repository.checkout().to_folder(tmp_path / "out", update=True)
    assert vz.cid_of_folder(tmp_path / "out") == repository.checkout().cid


def test_a_crate_describes_the_data(repository: Repository, tmp_path: Path) -> None:
    folder, snapshot = tmp_path / "out.zarr", repository.checkout()
    snapshot.to_folder(folder, crate=True)
    found = json.loads((folder / "ro-crate-metadata.json").read_text("utf-8"))
    nodes = {node["@id"]: node for node in found["@graph"]}
    assert found["@context"] == "https://w3id.org/ro/crate/1.1/context"
    assert nodes["ro-crate-metadata.json"]["about"] == {"@id": "./"}
    data = nodes["./"]
    assert snapshot.commit is not None
    assert data["identifier"] == f"ipfs://{snapshot.cid}"
    assert (data["name"], data["version"]) == ("Sea ice", snapshot.commit.cid)
    assert (data["license"], data["datePublished"]) == ("CC0", f"{snapshot.commit.time.date()}")
    assert [nodes[each["@id"]]["name"] for each in data["author"]] == list(snapshot.cite().creators)
    # It may be there when the export is repeated, and is gone if it is no longer asked for.
    snapshot.to_folder(folder, crate=True)
    done = snapshot.to_folder(folder, update=True)
    assert done.deleted == 1
    assert vz.cid_of_folder(folder) == snapshot.cid
    snapshot.to_zip(tmp_path / "a.zip", crate=True)
    with zipfile.ZipFile(tmp_path / "a.zip") as file:
        assert json.loads(file.read("ro-crate-metadata.json")) == found
