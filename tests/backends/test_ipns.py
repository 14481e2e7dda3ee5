"""A published name opens from any gateway; its key alone says what it stands for."""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import httpx
import pytest

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.gateway import Answer, dead, failing, gateway
from versioned_zarr.errors import CorruptError

pytest.importorskip("cryptography")
from versioned_zarr.backends.gateway.ipns_resolver import _verify
from versioned_zarr.ipld.address.ipfs_address import read_name
from versioned_zarr.ipld.ipns import public_key, read_record


@pytest.fixture
def repository(node: Daemon) -> vz.Repository:
    made = vz.create(f"{node.url}/ipns-{secrets.token_hex(6)}")
    commit(made, b"first")
    return made


@pytest.fixture
def key() -> str:
    return f"ipns-{secrets.token_hex(6)}"


def commit(repository: vz.Repository, value: bytes) -> vz.Snapshot:
    with repository.session(message="x") as session:
        session.write("a/b", value)
    return repository.checkout()


def record_of(node: Daemon, name: str) -> bytes:
    bare = name.removeprefix("ipns://")
    return httpx.get(f"{node.gateway}/ipns/{bare}?format=ipns-record").content


def sending(record: bytes):
    return lambda target, answer: (
        Answer(200, {"Content-Type": "application/vnd.ipfs.ipns-record"}, record)
        if "/ipns/" in target
        else answer
    )


def test_a_published_name_opens_and_moves(node: Daemon, repository, key: str) -> None:
    name = repository.publish("main", key=key)
    first = vz.open_snapshot(name, gateways=[node.gateway])
    assert first == repository.checkout()
    assert first.read("a/b") == b"first"
    bare = name.removeprefix("ipns://")
    assert vz.open_snapshot(f"/ipns/{bare}/a", gateways=[node.gateway]).read("b") == b"first"
    assert vz.open_snapshot(f"{node.gateway}/ipns/{bare}/a").read("b") == b"first"
    second = commit(repository, b"second")
    assert repository.publish("main", key=key) == name
    assert vz.open_snapshot(name, gateways=[node.gateway]) == second
    assert first.read("a/b") == b"first"
    assert first.repository.url == f"ipfs://{first.cid}"


def test_it_costs_one_request_to_each_gateway(node: Daemon, repository, key: str) -> None:
    name = repository.publish("main", key=key)
    with gateway(node.gateway) as one, gateway(node.gateway) as other:
        vz.open_snapshot(name, gateways=[one.url, other.url])
        for each in (one, other):
            assert sum("/ipns/" in target for target in each.targets) == 1


def test_the_newest_record_wins(node: Daemon, repository, key: str) -> None:
    name = repository.publish("main", key=key)
    old = record_of(node, name)
    second = commit(repository, b"second")
    repository.publish("main", key=key)
    with gateway(node.gateway, sending(old)) as behind:
        assert vz.open_snapshot(name, gateways=[behind.url, node.gateway]) == second
        assert vz.open_snapshot(name, gateways=[behind.url]) != second  # which nobody can see


def test_a_record_that_the_key_did_not_sign_is_not_believed(
    node: Daemon, repository, key: str
) -> None:
    name = repository.publish("main", key=key)
    record = record_of(node, name)
    other = record_of(node, repository.publish("main", key=f"{key}-other"))
    moods = {
        "did not sign": sending(other),
        "other than an IPNS record": sending(b"<html>welcome</html>"),
        "version 2 signature": sending(b""),
        "answered 500": failing(500),
        "more than": sending(record * 50),
        "did not answer": dead,
    }
    for reason, mood in moods.items():
        with gateway(node.gateway, mood) as bad:
            with pytest.raises(vz.RefNotFoundError, match=reason) as caught:
                vz.open_snapshot(name, gateways=[bad.url])
            assert bad.url in str(caught.value)
            opened = vz.open_snapshot(name, gateways=[bad.url, node.gateway])
            assert opened == repository.checkout()


def test_no_changed_byte_changes_what_is_believed(node: Daemon, repository, key: str) -> None:
    name = repository.publish("main", key=key)
    record = record_of(node, name)
    named = read_name(name)
    assert named is not None
    public, now = public_key(named.name, named.text), datetime.now(UTC)
    honest = read_record(record, public, _verify, now)
    assert honest.path == f"/ipfs/{repository.checkout().cid}"
    for at in range(len(record)):
        changed = record[:at] + bytes([record[at] ^ 1]) + record[at + 1 :]
        with suppress(CorruptError):
            assert read_record(changed, public, _verify, now) == honest
        with pytest.raises(CorruptError):
            read_record(record[:at], public, _verify, now)
    with pytest.raises(CorruptError, match="expired at"):
        read_record(record, public, _verify, honest.valid_until + timedelta(seconds=1))


def test_a_name_that_nobody_signed_or_that_cannot_be_verified(node: Daemon) -> None:
    unknown = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"
    with pytest.raises(vz.RefNotFoundError, match="publish it again"):
        vz.open_snapshot(f"ipns://{unknown}", gateways=[node.gateway])
    for name in ("docs.ipfs.tech", "k51abc", ""):
        with pytest.raises(vz.InvalidUrlError, match="ipfs resolve"):
            vz.open_snapshot(f"/ipns/{name}", gateways=[node.gateway])
    rsa = json.loads(node.ipfs("key", "list", "--enc=json"))["Keys"][0]["Id"]
    made = node.ipfs("key", "gen", "--type=rsa", f"rsa-{secrets.token_hex(4)}").decode().strip()
    assert made != rsa
    with pytest.raises(vz.InvalidUrlError, match="Ed25519"):
        vz.open_snapshot(f"ipns://{made}", gateways=[node.gateway])


def test_a_peer_id_is_a_name(node: Daemon, repository) -> None:
    peer = json.loads(node.ipfs("id", "--enc=json"))["ID"]
    cid = repository.checkout().cid
    node.ipfs("name", "publish", "--allow-offline", f"/ipfs/{cid}/a")
    assert peer.startswith("12D3Koo")
    assert vz.open_snapshot(f"ipns://{peer}", gateways=[node.gateway]).read("b") == b"first"
