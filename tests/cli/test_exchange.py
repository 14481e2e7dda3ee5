"""`vz import` and `vz export`: formats, histories, zip files and updates."""

from __future__ import annotations

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.cli.running import vz_
from versioned_zarr.repository.repository import Repository

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("VERSIONED_ZARR_REPO", str(tmp_path / "r.vz"))
    return vz.create(tmp_path / "r.vz")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    place = tmp_path / "plain.zarr"
    group = zarr.create_group(str(place), attributes={"title": "Ice"})
    group.create_array("a", shape=(4,), chunks=(2,), dtype="i4")[:] = np.arange(1, 5)
    return place


@pytest.mark.parametrize("top", ["", "plain.zarr/"])
@pytest.mark.parametrize("name", ["p.zarr.zip", "p.ozx", "p.zarr"])
def test_a_zip_file_is_imported_by_its_name(
    repository: Repository, plain: Path, tmp_path: Path, capfd: Capture, top: str, name: str
) -> None:
    place = tmp_path / "zipped" / name
    place.parent.mkdir()
    with zipfile.ZipFile(place, "w") as file:
        for path in plain.rglob("*"):
            file.write(path, f"{top}{path.relative_to(plain)}")
        file.writestr("__MACOSX/._zarr.json", b"x")
    vz_(capfd, "import", str(place), "-p", "z", "-m", "Zipped")
    found = repository.checkout().path("z")
    if top:
        assert found.cid == vz.cid_of_folder(plain)
    np.testing.assert_array_equal(found.open("a")[:], np.arange(1, 5))


def test_netcdf_is_imported(repository: Repository, tmp_path: Path, capfd: Capture) -> None:
    xr = pytest.importorskip("xarray")
    pytest.importorskip("netCDF4")
    xr.Dataset({"t": ("x", np.arange(3.0))}).to_netcdf(tmp_path / "E1.nc")
    out = vz_(capfd, "import", str(tmp_path / "E1.nc"), "-p", "e1")
    assert out.endswith(f"Import {tmp_path / 'E1.nc'}\n")
    (tmp_path / "E1.nc").rename(tmp_path / "E1")
    vz_(capfd, "import", str(tmp_path / "E1"), "-p", "e2", "-b", "main")
    vz_(capfd, "import", str(tmp_path / "E1"), "-p", "e3", "--format", "netcdf")
    snapshot = repository.checkout()
    assert snapshot.path("e1").cid == snapshot.path("e2").cid == snapshot.path("e3").cid


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_history_of_git_is_imported(
    repository: Repository, plain: Path, capfd: Capture
) -> None:
    assert "in no git work tree" in vz_(capfd, "import", str(plain), "--history", code=1)
    git = ["git", "-C", str(plain.parent), "-c", "user.name=Ann", "-c", "user.email=ann@x.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    for number in range(2):
        zarr.open_group(str(plain))["a"][0] = 10 + number
        subprocess.run([*git, "add", "plain.zarr"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", f"Number {number}"], check=True)
    told = json.loads(vz_(capfd, "import", str(plain), "--history", "--json"))
    assert (told["message"], told["author"]) == ("Number 1", "Ann <ann@x.org>")
    assert repository.checkout().cid == vz.cid_of_folder(plain)
    assert vz_(capfd, "blame", "a").count("Number") == 2


def test_options_that_do_not_fit_are_refused(
    repository: Repository, plain: Path, capfd: Capture
) -> None:
    said = vz_(capfd, "import", str(plain), "--history", "--processes", "2", code=2)
    assert "--processes is for Zarr" in said
    (plain.parent / "x.nc").write_bytes(b"CDF\x01")
    said = vz_(capfd, "import", str(plain.parent / "x.nc"), "--processes", "2", code=2)
    assert "--processes is for Zarr" in said
    said = vz_(capfd, "import", str(plain), "--history", "--format", "zarr", code=1)
    assert "takes no --history" in said
    assert "name a folder" in vz_(capfd, "export", "main", code=2)
    assert "name a folder" in vz_(capfd, "export", "main", "x", "--zip", "y.zip", code=2)
    assert "always replaced" in vz_(capfd, "export", "main", "--zip", "y", "--update", code=2)


def test_an_export_to_a_zip_file_and_an_update(
    repository: Repository, plain: Path, tmp_path: Path, capfd: Capture
) -> None:
    vz_(capfd, "import", str(plain), "-m", "One")
    place, folder = tmp_path / "out.zip", tmp_path / "out"
    said = vz_(capfd, "export", "main", "--zip", str(place), "--crate")
    cid = repository.checkout().cid
    assert said == f"{cid} written to {place}\n"
    with zipfile.ZipFile(place) as file:
        crate = json.loads(file.read("ro-crate-metadata.json"))
    assert crate["@graph"][1]["version"] == repository.branches["main"].cid
    vz_(capfd, "export", "main", str(folder))
    with repository.session(message="Two") as session:
        zarr.open_group(session.store)["a"][0] = 9
    said = vz_(capfd, "export", "main", str(folder), code=0)  # no file too many: it resumes
    with repository.session(message="Three") as session:
        del zarr.open_group(session.store)["a"]
    assert "pass --update" in vz_(capfd, "export", "main", str(folder), code=1)
    said = vz_(capfd, "export", "main", str(folder), "--update")
    assert said.endswith(f"written to {folder}: 0 written, 1 unchanged, 3 deleted\n")
    told = json.loads(vz_(capfd, "export", "main~1", str(folder), "--update", "--json"))
    assert (told["written"], told["unchanged"], told["deleted"]) == (3, 1, 0)
    said = vz_(capfd, "export", "main~1", "--path", "a", "--crate", str(tmp_path / "a"))
    crate = json.loads((tmp_path / "a" / "ro-crate-metadata.json").read_text("utf-8"))
    assert crate["@graph"][1]["version"] == repository.checkout("main~1").commit.cid
