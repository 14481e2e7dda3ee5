"""Clients that know nothing of us read what is served: zarr-python, zarrita.js, Kubo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.interfaces.web.served import client_of, serving
from tests.servers.kubo import Kubo

VALUES = np.arange(96, dtype="int32").reshape(8, 12)
PACKAGE = Path(__file__).parent / "zarrita"


@pytest.fixture(scope="module")
def repository():
    """Arrays of both formats, one of them sharded, one with chunks that are not there."""
    made = vz.create("memory://compat-serve")
    with made.session(message="arrays") as session:
        group = zarr.create_group(session.store, attributes={"of": "the root"})
        group.create_array("v3", data=VALUES, chunks=(3, 5), attributes={"unit": "K"})
        group.create_array("sharded", data=VALUES, chunks=(2, 3), shards=(4, 6))
        sparse = group.create_array("sparse", shape=(8, 12), chunks=(3, 5), dtype="int32")
        sparse[4, 5] = 7
        large = group.create_array("large", shape=(3, 1 << 20), chunks=(3, 1 << 20), dtype="u1",
                                   compressors=None)  # fmt: skip
        large[:] = np.random.default_rng(1).integers(0, 255, large.shape, "u1")
        old = zarr.create_group(session.store, path="old", zarr_format=2)
        old.create_array("v2", data=VALUES, chunks=(3, 5), attributes={"unit": "m"})
        del session.mapping[".zgroup"]  # zarr made the root a group of both formats
    made.branches.create("feature/x")
    return made


@pytest.fixture(scope="module")
def port(repository):
    with serving(repository, cors=["*"]) as number:
        yield number


ARRAYS = ["v3", "sharded", "sparse", "large", "old/v2"]


def test_zarr_python_reads_a_branch_over_http(repository, port) -> None:
    pytest.importorskip("aiohttp")
    for ref in ("main", "feature%2Fx", repository.checkout("main").cid):
        url = f"http://127.0.0.1:{port}/{ref}"
        for path in ARRAYS:
            store = zarr.storage.FsspecStore.from_url(f"{url}/{path}", read_only=True)
            there = zarr.open_array(store, mode="r")
            here = zarr.open_array(repository.checkout("main").store, path=path, mode="r")
            np.testing.assert_array_equal(there[:], here[:])
            np.testing.assert_array_equal(there[1:3, 2:7], here[1:3, 2:7])
            assert dict(there.attrs) == dict(here.attrs)
        root = zarr.open_group(zarr.storage.FsspecStore.from_url(url, read_only=True), mode="r")
        assert root.attrs["of"] == "the root"
        np.testing.assert_array_equal(root["v3"][:], VALUES)


@pytest.fixture(scope="module")
def zarrita(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script's folder, with zarrita installed; a machine without node is fine, also in CI."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on this machine")
    folder = tmp_path_factory.mktemp("zarrita")
    for name in ("package.json", "read.js"):
        shutil.copy(PACKAGE / name, folder)
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace")[-500:]
        if os.environ.get("CI"):
            pytest.fail(f"npm cannot install zarrita: {said}")
        pytest.skip(f"npm cannot install zarrita: {said}")
    return folder


def test_zarrita_reads_a_branch_and_a_snapshot(repository, port, zarrita) -> None:
    names = ["v3", "sharded", "sparse", "old/v2"]
    refs = ["main", "feature%2Fx", repository.checkout("main").cid]
    urls = [f"http://127.0.0.1:{port}/{ref}/{name}" for ref in refs for name in names]
    command = ["node", "read.js", *urls]
    done = subprocess.run(command, cwd=zarrita, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    found = json.loads(done.stdout)
    assert len(found) == len(urls)
    for url, array in zip(urls, found, strict=True):
        name = next(each for each in names if url.endswith(f"/{each}"))
        want = zarr.open_array(repository.checkout("main").store, path=name, mode="r")
        assert array["shape"] == list(want.shape)
        assert array["values"] == want[:].ravel().tolist()
        assert array["part"] == want[1:3].ravel().tolist()
        assert array["attributes"] == dict(want.attrs)


def test_kubo_imports_a_snapshot_as_it_is_served(
    repository, port, kubo: Kubo, tmp_path: Path
) -> None:
    snapshot, commit = repository.checkout("main"), repository.branches["main"]
    with client_of(port) as web:
        for cid in (snapshot.cid, commit.cid):
            car = tmp_path / f"{cid}.car"
            car.write_bytes(web.get(f"/ipfs/{cid}?format=car").content)
            assert any(cid in line for line in kubo.dag_import(car))
    kubo.get(snapshot.cid, tmp_path / "copy")
    assert kubo.add_only_hash(tmp_path / "copy") == snapshot.cid
    for key, _ in snapshot._links():
        assert (tmp_path / "copy" / key).read_bytes() == snapshot.read(key)
    assert set(kubo.ls(commit.cid)) == {"commit.json", "parents", "tree"}
    assert kubo.ls(commit.cid)["tree"] == snapshot.cid


def test_kubo_imports_a_part_that_is_proven_by_its_path(
    repository, port, kubo: Kubo, tmp_path: Path
) -> None:
    snapshot = repository.checkout("main")
    car = tmp_path / "part.car"
    with client_of(port) as web:
        car.write_bytes(web.get(f"/ipfs/{snapshot.cid}/v3?format=car").content)
    kubo.dag_import(car)
    key = "v3/zarr.json"
    assert kubo.cat(f"{snapshot.cid}/{key}") == snapshot.read(key)
