"""Places that can be no repository on a node, or no snapshot: refused by errors of ours."""

from __future__ import annotations

import pickle
import uuid
from pathlib import Path

import pytest

pytest.importorskip("httpx")

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.scripted import server
from versioned_zarr.backends.kubo import KuboClient
from versioned_zarr.urls import split_url, take_user, without_user

KEY = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"
CID = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ipfs+http://h:1/x?y=1", r"no \?query"),
        ("ipfs+http://h:1/x#y", "no #fragment"),
        ("ipfs+http://h:1/a@b", "write '@' in a name as %40"),
        ("ipfs+http://me:a/b@h:1/x", "'/'.*in a user or password as %2F"),
        ("ipfs+http://:1/x", "HOST:PORT/NAME"),
        ("ipfs+http://h:99999/x", "port cannot be parsed"),
        ("ipfs+http://h:0/x", "port cannot be parsed"),
        ("ipfs+http://[::1/x", "cannot be parsed"),
        ("ipfs+http://h\u00f4st_x:1/x", "not the address of a node"),
        (f"ipfs+http://{'h' * 64}:1/x", "more than 63 characters"),
        ("ipfs+http://a..b:1/x", "a part of its host"),
        ("ipfs+http://h:1/\udc80", "not UTF-8 text"),
        (f"ipfs+http://h:1/a/{'x' * 256}", "'x+' in .* is 256 bytes long.* at most 255"),
        (f"ipfs+http://h:1/{chr(233) * 128}", "is 256 bytes long"),
        (f"ipns://{KEY}", r"vz\.open_snapshot"),
        (f"ipfs://{CID}/a", r"vz\.open_snapshot"),
    ],
)
def test_what_can_be_no_repository_is_refused_by_why(url: str, why: str) -> None:
    for call in (vz.open, vz.create):
        with pytest.raises(vz.InvalidUrlError, match=why) as caught:
            call(url)
        assert pickle.loads(pickle.dumps(caught.value)).url == caught.value.url


@pytest.mark.compat
def test_the_longest_names_work(node: Daemon) -> None:
    for name in ("x" * 218, "\u00e9" * 109):  # what quoting makes of them is too long for a folder
        url = f"{node.url}/{uuid.uuid4()}/{uuid.uuid4()}-{name}"
        with vz.create(url).session(message="x") as session:
            session.write("a", b"1")
        assert vz.open(url).checkout().read("a") == b"1"


@pytest.mark.compat
def test_a_name_with_an_at_is_written_with_a_percent(node: Daemon) -> None:
    url = f"{node.url}/{uuid.uuid4()}%40v1"
    assert vz.create(url).url == url


@pytest.mark.parametrize(
    "text", [KEY, f"{KEY}/a", "12D3KooWNvSZnPi3RrhrTwEY4LuuBeB6K6facKUCJcyWG1aoDd2p"]
)
def test_a_bare_ipns_name_says_how_it_is_written(text: str) -> None:
    with pytest.raises(vz.InvalidCidError, match=f"use 'ipns://{text.partition('/')[0]}'"):
        vz.open_snapshot(text)


@pytest.mark.parametrize("gateways", [[5], 5, [None], [b"http://h"], {5: "http://h"}])
def test_gateways_are_texts(gateways: object) -> None:
    with pytest.raises(vz.InvalidInputError, match="gateways takes a list of base URLs"):
        vz.open_snapshot(CID, gateways=gateways)


@pytest.mark.parametrize(
    "gateway",
    ["http://h\u00f4st_x", "http://h\udc80", "http://h/\udc80", f"http://{'h' * 64}", "http://h:x",
     "http://h/?a", "http://[::1", "http://:8080", "http:h"],
)  # fmt: skip
def test_a_gateway_that_nobody_can_ask_is_refused(gateway: str) -> None:
    with pytest.raises(vz.InvalidUrlError):
        vz.open_snapshot(CID, gateways=[gateway])


@pytest.mark.parametrize("timeout_s", ["x", 0, -1, float("nan"), float("inf"), None])
def test_a_timeout_is_a_time(timeout_s: object) -> None:
    for call in (
        lambda: vz.open("ipfs+http://127.0.0.1:1/x", timeout_s=timeout_s),
        lambda: vz.open_snapshot(CID, gateways=["http://127.0.0.1:1"], timeout_s=timeout_s),
    ):
        with pytest.raises(vz.InvalidInputError, match="timeout_s"):
            call()


@pytest.mark.parametrize(
    ("head", "body"),
    [
        ("200 OK\r\nContent-Type: text/html; charset=utf-8", "<html>"),
        ("200 OK\r\nContent-Type: text/plain", "hello"),
        ("200 OK", "[]"),
        ("200 OK", '{"Hash": '),
        ("404 Not Found", "404 page not found"),
        ("405 Method Not Allowed", ""),
    ],
)
def test_a_server_of_another_kind_is_called_so(head: str, body: str) -> None:
    answer = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    with server(*[answer] * 4) as (url, _):
        place = f"ipfs+{url.removesuffix('/api')}/x"
        with pytest.raises(vz.StorageError, match="is not the RPC of an IPFS node"):
            vz.create(place)
    with server(*[answer] * 4) as (url, _), pytest.raises(vz.VersionedZarrError):
        vz.open(f"ipfs+{url.removesuffix('/api')}/x")


def test_a_listing_of_another_kind_is_told() -> None:
    body = b'{"Entries": "x"}'
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with (
        server(answer) as (url, _),
        pytest.raises(vz.StorageError, match="is not the RPC of an IPFS node"),
    ):
        KuboClient(url.removesuffix("/api")).list("/x")


@pytest.mark.compat
def test_a_gateway_is_no_rpc(node: Daemon) -> None:
    for call in (vz.open, vz.create):
        with pytest.raises(vz.StorageError, match="is not the RPC of an IPFS node"):
            call(f"ipfs+{node.gateway}/x")


def test_an_answer_that_cannot_be_unpacked_is_told() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
    with server(*[answer] * 9) as (url, _), pytest.raises(vz.StorageError, match="no answer"):
        vz.open(f"ipfs+{url.removesuffix('/api')}/x")


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nothing", "/dev/null"])
def test_a_home_that_cannot_be_is_named(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / place))
    for call in (
        lambda: vz.open("ipfs+http://127.0.0.1:1/x"),
        lambda: vz.create("ipfs+http://127.0.0.1:1/x"),
        lambda: vz.open_snapshot(CID, gateways=["http://127.0.0.1:1"]),
    ):
        with pytest.raises(vz.StorageError, match="VERSIONED_ZARR_HOME"):
            call()


def test_a_home_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(vz.ReadOnlyError, match="VERSIONED_ZARR_HOME"):
        vz.open("ipfs+http://127.0.0.1:1/x")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ipfs+http://me:pw@h:1/x", "ipfs+http://h:1/x"),
        ("ipfs+http://me@h/x", "ipfs+http://h/x"),
        ("http://me:p@w@[::1]:1/x", "http://[::1]:1/x"),
        ("http://me:p/w@h:1/x", "http://h:1/x"),
        ("http://me:1/w@h:1/x", "http://h:1/x"),
        ("http://me:pw/x", "http://me/x"),
        ("ipfs+/dns4/me:p/w@h/tcp/1/x", "ipfs+/dns4/h/tcp/1/x"),
        ("ipfs+/ip4/127.0.0.1/tcp/1/x", "ipfs+/ip4/127.0.0.1/tcp/1/x"),
        ("lakefs://climate/a@b", "lakefs://climate/a@b"),
        ("file:///a@b/c:d@e", "file:///a@b/c:d@e"),
        ("memory://a:b@c", "memory://a:b@c"),
        ("/data/a:b@c", "/data/a:b@c"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_user(text: str, shown: str) -> None:
    assert without_user(text) == shown
    assert without_user(shown) == shown


def test_a_user_is_taken_as_it_is_meant() -> None:
    url, user = take_user("ipfs+http://a%40b:c%2Fd%3A@h:1/x")
    assert (url, user) == ("ipfs+http://h:1/x", ("a@b", "c/d:"))
    assert take_user("http://@h/x") == ("http://h/x", None)
    assert take_user("http://h/x") == ("http://h/x", None)
    assert split_url("http://h:1/x").port == 1
