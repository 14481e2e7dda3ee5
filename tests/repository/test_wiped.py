"""Plain Zarr written over or beside a repository is told, taken in, and survived."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import versioned_zarr as vz

zarr = pytest.importorskip("zarr", minversion="3")


def write(store: object, value: int) -> None:
    zarr.create_array(store, name="t", data=np.full(4, value), overwrite=True)


@pytest.fixture(params=[False, True], ids=["folder", "shared folder"])
def repository(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> vz.Repository:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    repository = vz.create(tmp_path / "r.vz", shared=request.param)
    with repository.session(message="one") as session:
        write(session.store, 1)
    return repository


def test_zarr_beside_a_repository_is_told_and_taken_in(
    repository: vz.Repository, tmp_path: Path
) -> None:
    path = tmp_path / "r.vz"
    write(zarr.storage.LocalStore(path), 2)
    with pytest.warns(UserWarning, match=r"zarr\.json in the folder of the repository"):
        vz.open(path)
    assert repository.fsck().strays == ("zarr.json",)
    assert "zarr.json" in str(repository.fsck())
    with (
        pytest.warns(UserWarning, match="there and not to a session"),
        repository.session(on_nothing="skip", message="nothing"),
    ):
        pass
    with pytest.warns(UserWarning, match="then delete these files"):
        commit = vz.import_zarr(repository, path, overwrite=True, message="Taken in")
    assert (repository.checkout(commit.cid).open("t")[:] == 2).all()
    assert sorted(repository.checkout().mapping) == ["t/c/0", "t/zarr.json", "zarr.json"]
    (path / "zarr.json").unlink()
    shutil.rmtree(path / "t")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vz.open(path).fsck().strays == ()


def test_a_folder_that_was_overwritten_says_so(repository: vz.Repository, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "r.vz")
    write(zarr.storage.LocalStore(tmp_path / "r.vz"), 2)
    with pytest.raises(vz.RepositoryNotFoundError, match=r"plain Zarr.*vz\.recover"):
        vz.open(tmp_path / "r.vz")
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.recover(tmp_path / "r.vz")


def test_commits_are_recovered_from_packs_without_refs(tmp_path: Path) -> None:
    path = tmp_path / "r.vz"
    repository = vz.create(path, hash="blake3")
    for number in range(3):
        with repository.session(message=f"{number}") as session:
            session.write("a/zarr.json", b"%d" % number)
    repository.branches.create("dev", at="main~1")
    with repository.session("dev", message="on dev") as session:
        session.write("b/zarr.json", b"dev")
    main, dev = repository.branches["main"], repository.branches["dev"]
    del repository
    shutil.rmtree(path / "refs")
    (path / "versioned-zarr.json").unlink()
    with pytest.raises(vz.RepositoryNotFoundError, match="packs without a marker"):
        vz.open(path)
    told: list[vz.Progress] = []
    found = vz.recover(path, progress=told.append)
    assert told[-1].done == told[-1].total > 0
    assert found.hash == "blake3"
    newest, other = sorted((main, dev), key=lambda commit: (commit.time, commit.cid))[::-1]
    assert found.branches["main"] == newest
    (name,) = set(found.branches) - {"main"}
    assert name.startswith("recovered/")
    assert found.branches[name] == other
    assert [commit.message for commit in found.log(main.cid)][:3] == ["2", "1", "0"]
    assert found.fsck().is_clean
    assert dict(vz.recover(path).branches) == dict(found.branches)


def test_a_branch_that_was_deleted_is_recovered(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    repository.branches.create("dev")
    with repository.session("dev", message="on dev") as session:
        session.write("a", b"1")
    lost = repository.branches["dev"]
    repository.branches.delete("dev")
    found = vz.recover(tmp_path / "r.vz")
    assert lost in found.branches.values()
    assert set(found.branches) > {"main"}


def test_only_folders_are_recovered() -> None:
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.recover("memory://nothing")
