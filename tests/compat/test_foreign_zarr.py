"""Zarr that Kubo added in its other ways opens from Kubo's gateway."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.daemon import Daemon

VALUES = {
    "zarr.json": b'{"zarr_format": 3, "node_type": "group"}',
    "x/c/0": random.Random(5).randbytes(700_001),
    "x/c/1": b"",
    **{f"many/{number}": b"%d" % number for number in range(300)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("foreign")
    for key, value in VALUES.items():
        (made / key).parent.mkdir(parents=True, exist_ok=True)
        (made / key).write_bytes(value)
    return made


def test_a_symbolic_link_is_a_value(
    node: Daemon, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    linked = tmp_path / "linked"
    shutil.copytree(folder, linked)
    (linked / "latest").symlink_to("x")
    cid = node.ipfs("add", "-r", "-Q", "--pin=false", str(linked)).decode().strip()
    found = vz.open_snapshot(f"ipfs://{cid}", gateways=[node.gateway])
    assert dict(found.mapping) == {**VALUES, "latest": b"x"}
    found.to_folder(tmp_path / "out")


@pytest.mark.parametrize(
    "options",
    [
        ("--cid-version=0", "--raw-leaves=false", "--chunker=size-262144"),
        ("--trickle", "--chunker=size-4096"),
        ("--raw-leaves=false", "--chunker=size-1000"),
        ("--inline", "--inline-limit=64"),
        ("--hash=blake2b-256",),
        ("--max-hamt-fanout=16", "--max-directory-links=32"),
    ],
    ids=lambda options: options[0].removeprefix("--"),
)
def test_it_opens(
    options: tuple[str, ...],
    node: Daemon,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    cid = node.ipfs("add", "-r", "-Q", "--pin=false", *options, str(folder)).decode().strip()
    found = vz.open_snapshot(f"ipfs://{cid}", gateways=[node.gateway])
    assert {key: bytes(value) for key, value in found.mapping.items()} == VALUES
    assert bytes(found.read("x/c/0", 300_000, 300_100)) == VALUES["x/c/0"][300_000:300_100]
