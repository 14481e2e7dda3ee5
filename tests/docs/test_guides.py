"""What README and the guides show runs as it stands there, but for addresses and places."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.lakefs import LakefsServer
from tests.servers.versity import s3_server

xr = pytest.importorskip("xarray")

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
FENCED = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def dataset() -> Any:
    return xr.Dataset({"tas": (("time", "x"), np.arange(12.0).reshape(4, 3))})


def run(page: Path, replaced: dict[str, str] | None = None, **given: Any) -> dict[str, Any]:
    """Run all that a page shows in Python, in one namespace, and give that.

    Args:
        page: the page.
        replaced: what to write in place of the page's addresses and places; each is there.
        given: what the page takes to be there.
    """
    text = page.read_text("utf-8")
    parts = FENCED.findall(text) or [textwrap.dedent(part) for part in INDENTED.findall(text)]
    code = "\n".join(parts)
    for old, new in (replaced or {}).items():
        assert old in code
        code = code.replace(old, new)
    names = {**given}
    exec(compile(code, str(page), "exec"), names)
    return names


def run_shell(code: str, home: Path, **variables: str) -> str:
    """Run lines of a shell, in which `vz` is that of this environment and this source.

    Args:
        code: the lines; the first that fails ends it.
        home: $VERSIONED_ZARR_HOME.
        variables: other variables of the environment.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    usual = {"PYTHONPATH": str(ROOT), "VERSIONED_ZARR_HOME": str(home), "COLUMNS": "100"}
    done = subprocess.run(
        ["sh", "-e", "-c", code],
        env={**os.environ, "PATH": path, **usual, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_screen_of_code_in_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(ROOT / "README.md")
    printed = capsys.readouterr().out
    assert names["snapshot"].cid in printed
    assert "Two degrees more" in printed
    assert float(names["repo"].checkout().to_xarray().temperature.mean()) == 2
    assert float(names["snapshot"].to_xarray().temperature.mean()) == 0


@pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")
def test_clusters_and_hpc(capsys: pytest.CaptureFixture[str]) -> None:
    names = run(GUIDES / "clusters-and-hpc.md")
    url, missing, _ = capsys.readouterr().out.splitlines()
    assert url.startswith("vzarr://session/")
    assert missing == "12"
    np.testing.assert_array_equal(
        names["last"].repository["main"].open("scan")[::8, 0], range(1, 9)
    )
    snapshot = names["repo"].checkout()
    assert snapshot.open("wind")[:].sum() == 120 * 100 * (7.5 + 8.5)
    assert not snapshot.missing()


def test_fast_arrays() -> None:
    if not hasattr(zarr.core, "codec_pipeline") or not hasattr(
        zarr.core.codec_pipeline, "FusedCodecPipeline"
    ):
        pytest.skip("this zarr has no fused pipeline")
    with zarr.config.set({}):
        run(GUIDES / "fast-arrays.md")
        store = vz.create(f"memory://{uuid.uuid4()}").session().store
        array = zarr.create_array(store, shape=(8,), chunks=(2,), dtype="f4")
        assert type(array.async_array.codec_pipeline).__name__ == "FusedCodecPipeline"
        array[:] = 7
        assert array[:].sum() == 56


def test_share_by_cid(tmp_path: Path, dataset: Any) -> None:
    repo = vz.create("climate.vz")
    for number in range(3):
        with repo.session(message=f"{number}") as session:
            (dataset + number).to_zarr(session.store, mode="w")
        if not number:
            repo.tags.create("v1")
    names = run(GUIDES / "share-by-cid.md", {"/media/disk/": f"{tmp_path}/disk/"}, repo=repo, vz=vz)
    assert names["other"].branches["theirs"] == repo.branches["main"]
    assert names["other"].checkout(names["root"]).cid == repo.checkout("v1").cid
    assert (tmp_path / "week.car").stat().st_size < (tmp_path / "climate.car").stat().st_size
    assert names["copy"].branches["main"] == repo.branches["main"]


@pytest.mark.slow
def test_import_and_export(
    tmp_path: Path, dataset: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("click")
    for package in ("netCDF4", "cfgrib", "tensorstore", "icechunk"):
        pytest.importorskip(package)
    sources_of_all_formats(dataset)
    page = GUIDES / "import-and-export.md"
    shown = INDENTED.findall(FENCED.sub("", page.read_text("utf-8")))
    done = subprocess.run(
        ["sh", "-e", "-c", textwrap.dedent("".join(shown))],
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "0 written" in done.stdout
    names = run(page)
    np.testing.assert_array_equal(names["dataset"].tas, dataset.tas)
    assert (
        capsys.readouterr().out == f"3 written, {names['counts'].unchanged} unchanged, 0 deleted\n"
    )
    groups = {"brain", "e1", "forecast", "tas", "zipped", "again"}
    assert {name for name in names["snapshot"].list_dir() if "zarr" not in name} == groups
    history = vz.open("history.vz")
    messages = [commit.message for commit in history.log("main")]
    assert messages[:3] == ["In git", "In Icechunk", "Repository initialized"]
    assert (tmp_path / "published.zarr" / "ro-crate-metadata.json").exists()


def sources_of_all_formats(dataset: Any) -> None:
    """Make the files and folders that the page imports, in the current folder."""
    import eccodes
    import icechunk
    import tensorstore

    dataset.to_zarr("old.zarr", consolidated=False)
    shutil.make_archive("data.zarr", "zip", root_dir=".", base_dir="old.zarr")
    dataset.to_netcdf("E1.nc")
    with open("forecast.grib2", "wb") as file:
        handle = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
        eccodes.codes_write(handle, file)
        eccodes.codes_release(handle)
    sizes = {"dimensions": [4, 3], "blockSize": [2, 2], "dataType": "float64"}
    metadata = {**sizes, "compression": {"type": "gzip"}}
    place = {"driver": "n5", "kvstore": {"driver": "file", "path": "brain.n5/raw/"}}
    made = tensorstore.open({**place, "metadata": metadata, "create": True}).result()
    made[...] = dataset.tas.values
    source = icechunk.Repository.create(icechunk.local_filesystem_storage("ice"))
    session = source.writable_session("main")
    dataset.to_zarr(session.store, consolidated=False)
    session.commit("In Icechunk")
    dataset.to_zarr("work/data.zarr", consolidated=False)
    git = ["git", "-C", "work", "-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "In git"]):
        subprocess.run([*git, *words], check=True)


@pytest.mark.compat
def test_what_the_hash_means(node: Daemon, tmp_path: Path, dataset: Any) -> None:
    pytest.importorskip("click")
    repo = vz.create("climate.vz")
    with repo.session(message="x") as session:
        dataset.to_zarr(session.store)
    (shown, *_) = INDENTED.findall((GUIDES / "what-the-hash-means.md").read_text("utf-8"))
    folders = [Path(sys.executable).parent, Path(node.kubo.binary).parent]
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    printed = run_shell(shown, tmp_path / "home", PATH=path, IPFS_PATH=str(tmp_path / "ipfs"))
    assert printed.splitlines()[-1] == repo.checkout().cid


@pytest.mark.compat
def test_object_stores(tmp_path: Path, dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    with s3_server(tmp_path / "s3") as server:
        for name, value in (
            ("ENDPOINT", server.endpoint),
            ("ALLOW_HTTP", "true"),
            ("REGION", "us-east-1"),
            ("ACCESS_KEY_ID", server.access_key_id),
            ("SECRET_ACCESS_KEY", server.secret_access_key),
        ):
            monkeypatch.setenv(f"AWS_{name}", value)
        page = GUIDES / "object-stores.md"
        names = run(page, dataset=dataset)
        assert names["repo"].checkout().to_xarray().identical(dataset)
        (tmp_path / "s3" / "data" / "other").mkdir()
        vz.clone("s3://bucket/climate", "s3://other/climate")
        (shown,) = SHELL.findall(page.read_text("utf-8"))
        lines = shown.partition("\n")[2]  # after the credentials
        printed = run_shell(lines.replace("eu-central-1", "us-east-1"), tmp_path / "home")
        assert "A1B scenario" in printed


@pytest.mark.compat
def test_shared_file_systems(tmp_path: Path, dataset: Any) -> None:
    page = GUIDES / "shared-file-systems.md"
    names = run(page, {"/scratch/project": str(tmp_path)}, dataset=dataset)
    assert dict(names["copy"].checkout().mapping) == dict(names["repo"].checkout().mapping)
    (tmp_path / "shell").mkdir()
    for shown in SHELL.findall(page.read_text("utf-8")):
        run_shell(shown.replace("/scratch/project", str(tmp_path / "shell")), tmp_path / "home")
    assert vz.open(tmp_path / "shell" / "copy.vz").remotes["origin"].endswith("/climate.vz")


def test_ipfs_node(node: Daemon, dataset: Any) -> None:
    there = f"{node.rpc.removeprefix('http://')}/{uuid.uuid4()}"
    names = run(GUIDES / "ipfs-node.md", {"127.0.0.1:5001/climate": there}, ds=dataset)
    assert names["name"].startswith("ipns://k51")
    assert names["repo"].resolve(names["name"]).cid == names["snap"].cid
    (by_name, by_cid) = (names["name"], f"ipfs://{names['snap'].cid}")
    run(
        GUIDES / "snapshots-from-anywhere.md",
        {
            "ipfs://bafybei…/model-a": by_cid,
            "ipns://k51…": by_name,
            "http://127.0.0.1:8080": node.gateway,
            ', "https://ipfs.example"': "",
        },
    )


@pytest.mark.compat
def test_lakefs(lakefs_by_environment: LakefsServer, dataset: Any) -> None:
    pytest.importorskip("lakefs_sdk")
    name = f"t-{uuid.uuid4().hex}"
    server = lakefs_by_environment
    names = run(
        GUIDES / "lakefs.md",
        {
            "lakefs://climate": f"lakefs://{name}",
            "s3://bucket/climate": f"{server.namespace}/{name}",
        },
        dataset=dataset,
    )
    assert names["repo"].url.endswith("/experiments/a1b")
    run(
        GUIDES / "coming-from-lakefs-spec.md",
        {"lakefs://climate": f"lakefs://{name}", 'fs = fsspec.filesystem("lakefs")': ""},
        dataset=dataset,
        xr=xr,
    )
    assert next(iter(vz.open(f"lakefs://{name}").log())).message == "A1B scenario"
