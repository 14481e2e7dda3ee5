"""vz ls, cat and export read a snapshot by its address on IPFS, without a repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import versioned_zarr as vz

pytest.importorskip("click")
pytest.importorskip("uvicorn")
from tests.interfaces.web.served import serving
from versioned_zarr.cli.app import run

VALUES = {"zarr.json": b'{"zarr_format": 3, "node_type": "group"}', "a/b": b"value"}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder that no repository is around."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    for name in ("VERSIONED_ZARR_GATEWAYS", "VERSIONED_ZARR_REPO"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def snapshot() -> vz.Snapshot:
    repository = vz.create("memory://cli-addresses")
    with repository.session(message="values") as session:
        for key, value in VALUES.items():
            session.write(key, value)
    return repository.checkout()


@pytest.fixture(scope="module")
def gateway(snapshot: vz.Snapshot) -> Iterator[str]:
    with serving(snapshot.repository) as port:
        yield f"http://127.0.0.1:{port}"


def test_an_address_is_listed_and_read(snapshot, gateway: str, capfdbinary) -> None:
    def said(*arguments: str) -> bytes:
        run([*arguments])
        return capfdbinary.readouterr().out

    there = ("--gateway", gateway)
    assert said("ls", f"ipfs://{snapshot.cid}", *there) == b"a/\nzarr.json\n"
    assert said("ls", f"ipfs://{snapshot.cid}/a", *there) == b"b\n"
    assert said("ls", f"/ipfs/{snapshot.cid}", "a", *there) == b"b\n"
    assert said("ls", snapshot.cid, "-r", *there) == b"a/b\nzarr.json\n"
    assert said("ls", f"{gateway}/ipfs/{snapshot.cid}/a") == b"b\n"
    multiaddr = f"/ip4/127.0.0.1/tcp/{gateway.rpartition(':')[2]}"
    assert said("ls", snapshot.cid, "--gateway", multiaddr) == b"a/\nzarr.json\n"
    listed = json.loads(said("ls", f"ipfs://{snapshot.cid}/a", "--json", *there))
    assert listed == [{"name": "b", "size": 5}]
    assert said("cat", f"ipfs://{snapshot.cid}", "a/b", *there) == b"value"
    assert said("cat", f"ipfs://{snapshot.commit.cid}", "a/b", *there) == b"value"


def test_gateways_come_from_the_environment(
    snapshot, gateway: str, monkeypatch: pytest.MonkeyPatch, capfdbinary
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_GATEWAYS", gateway)
    run(["cat", f"ipfs://{snapshot.cid}/a", "b"])
    assert capfdbinary.readouterr().out == b"value"


def test_what_was_read_from_gateways_is_measured_and_removed(
    snapshot, gateway: str, capfdbinary
) -> None:
    def size_bytes() -> int:
        capfdbinary.readouterr()
        run(["cache", "size", "--gateways", "--json"])
        return json.loads(capfdbinary.readouterr().out)["size_bytes"]

    assert size_bytes() == 0
    found = vz.open_snapshot(snapshot.cid, gateways=[gateway])
    assert found.read("a/b") == b"value"
    found.repository._stores.blocks.cache.flush()
    assert size_bytes() > len(b"value")
    run(["cache", "clear", "--gateways"])
    assert size_bytes() == 0


def test_an_address_is_written_as_a_folder(
    snapshot, gateway: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    run(["export", f"ipfs://{snapshot.cid}", str(out), "--gateway", gateway])
    assert snapshot.cid in capfd.readouterr().out
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.json")} == {
        "zarr.json": VALUES["zarr.json"]
    }
    assert vz.cid_of_folder(out, "sha2-256") == snapshot.cid
    run(["export", snapshot.cid, str(tmp_path / "a"), "-p", "a", "--gateway", gateway])
    assert (tmp_path / "a" / "b").read_bytes() == b"value"


@pytest.mark.parametrize(
    ("ref", "reason"),
    [
        ("ipfs://nonsense", "nonsense"),
        ("ipns://example.org", "nobody signs"),
        ("https://example.org/x", "not an IPFS address"),
    ],
)
def test_a_wrong_address_is_said_on_stderr(
    ref: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        run(["ls", ref])
    assert left.value.code == 1
    said = capfd.readouterr().err
    assert said.startswith("vz: ")
    assert reason in said


def test_a_dead_gateway_is_named(snapshot, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["ls", snapshot.cid, "--gateway", "http://127.0.0.1:1"])
    assert "http://127.0.0.1:1" in capfd.readouterr().err
