"""What foreign clients ask, and a repository on an IPFS node: what the node has is there."""

from __future__ import annotations

import gc
import io
import os
import uuid
from pathlib import Path

import httpx
import pytest

import versioned_zarr as vz
from tests.interfaces.web.served import client_of, serving
from tests.servers.daemon import Daemon
from versioned_zarr.ipld import car_v1, cid, dag_pb, unixfs
from versioned_zarr.ipld.dag_pb import Link


@pytest.mark.compat
def test_all_that_the_node_has_is_served_with_an_empty_cache(
    node: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{node.url}/{uuid.uuid4()}"
    value = os.urandom(2_500_000)
    with vz.create(url).session(message="x") as session:
        session.write("a/b", value)
    root = vz.open(url).checkout().cid
    gc.collect()
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
    there = vz.open(url, timeout_s=58)
    with serving(there) as port, client_of(port) as web:
        assert web.get(f"/ipfs/{root}/a/b").content == value
        assert web.get(f"/ipfs/{root}?format=car").content[:1] != b""
        lost = cid.to_text(there._stores.hash.raw(os.urandom(10)))
        assert web.get(f"/ipfs/{lost}").status_code == 404
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "x").write_bytes(b"theirs")
        theirs = (
            node.ipfs("add", "-r", "-Q", "--cid-version=1", str(tmp_path / "f")).decode().strip()
        )
        assert web.get(f"/ipfs/{theirs}/x").content == b"theirs"


def test_several_ranges_get_the_whole_value(web: httpx.Client) -> None:
    found = web.get("/main/a/c/0/0", headers={"Range": "bytes=0-1,3-4"})
    assert (found.status_code, found.content) == (200, b"chunk")
    assert "content-range" not in found.headers


@pytest.mark.parametrize("header", ["User-Agent", "Range, User-Agent", "X-Requested-With"])
def test_a_preflight_of_a_named_origin_is_answered(web: httpx.Client, header: str) -> None:
    asked = {
        "Origin": "https://example.org",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": header,
        "Access-Control-Request-Private-Network": "true",
    }
    found = web.options("/main/a/c/0/0", headers=asked)
    assert found.status_code == 200
    assert found.headers["access-control-allow-origin"] == "https://example.org"
    assert "User-Agent" in found.headers["access-control-allow-headers"]
    assert found.headers["access-control-allow-private-network"] == "true"
    others = web.options("/main/a/c/0/0", headers={**asked, "Origin": "https://other.example"})
    assert others.status_code == 400


def test_a_sound_directory_that_is_not_read_here_is_not_called_damaged(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    function = repository._stores.hash
    leaf = function.raw(b"x")
    node = unixfs.directory([Link("..", leaf, 1)])
    root = function.dag_pb(node)
    parts = [car_v1.header([root])]
    for name, block in ((leaf, b"x"), (root, node)):
        parts += [car_v1.section_head(name, len(block)), block]
    (tmp_path / "odd.car").write_bytes(b"".join(parts))
    repository.import_car(tmp_path / "odd.car")
    with serving(repository) as port, client_of(port) as web:
        found = web.get(f"/ipfs/{cid.to_text(root)}/")
        assert found.status_code == 501
        assert "damaged" not in found.text
        assert web.get(f"/ipfs/{cid.to_text(root)}?format=raw").content == bytes(node)
    assert dag_pb.decode(node)[0][0].name == ".."


def test_who_lets_all_origins_read_says_so_to_whoever_asks(repository: vz.Repository) -> None:
    with serving(repository, cors=["*"]) as port, client_of(port) as web:
        for found in (web.get("/main/a/c/0/0"), web.options("/main/a/c/0/0")):
            assert found.headers["access-control-allow-origin"] == "*"
            assert "User-Agent" in found.headers["access-control-allow-headers"]
            assert "X-Ipfs-Roots" in found.headers["access-control-expose-headers"]
        assert web.get("/main/a/c/0/0").content == b"chunk"


def in_base58(data: bytes) -> str:
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = letters[digit] + text
    return text


def test_a_car_that_is_asked_for_in_version_0_is_named_so(
    web: httpx.Client, snapshot: vz.Snapshot
) -> None:
    root = snapshot._tree
    name = in_base58(root[2:])
    assert name.startswith("Qm")
    found = web.get(f"/ipfs/{name}?format=car").content
    read = car_v1.Car(io.BytesIO(found), "it")
    sections = list(read.sections())
    assert list(read.roots) == [root[2:]]
    assert sections[0].cid == root[2:]
    again = web.get(f"/ipfs/{snapshot.cid}?format=car").content
    assert [each.data for each in car_v1.Car(io.BytesIO(again), "it").sections()] == [
        each.data for each in sections
    ]
