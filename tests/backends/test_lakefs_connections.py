"""Requests for single objects of lakeFS go over connections of ours, and again over the SDK's."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3

import versioned_zarr as vz
from tests.servers.certificates import make_certificate
from tests.servers.lakefs import LakefsServer
from tests.servers.programs import free_port
from tests.servers.scripted import DRIPS, dripping, server
from versioned_zarr.backends.http.connection_pool import Answer, ConnectionPool, Origin
from versioned_zarr.backends.lakefs.api.api_errors import AnswerLostError
from versioned_zarr.backends.lakefs.api.credentials import Connection
from versioned_zarr.backends.lakefs.api.sdk_transport import Transport
from versioned_zarr.errors import InvalidInputError, StorageError


class Ours:
    """Exchanges over one pool with one server, as the requests for single objects make them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.origin = Origin(parts.scheme, parts.hostname or "", parts.port)
        self.above = parts.path
        self.pool = ConnectionPool(4, ssl.create_default_context)

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        target = f"{self.above}{target}"
        return self.pool.exchange(
            method, self.origin, target, headers, body, timeout_s=5, connect_s=5
        )

    @property
    def kept(self) -> int:
        return sum(map(len, self.pool._idle.values()))


def ok(body: bytes, *more: bytes, status: bytes = b"200 OK") -> bytes:
    head = (b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *more, b"", b"")
    return b"\r\n".join(head) + body


def transport(url: str) -> Transport:
    return Transport(Connection(url, "id", "secret", timeout_s=5), "repository")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"


def test_an_answer_comes_whole_and_the_connection_is_kept() -> None:
    large = os.urandom(300_000)
    answers = (ok(b"one"), ok(large), CHUNKED, ok(b"", status=b"404 Not Found"))
    with server(*answers) as (url, asked):
        ours = Ours(url)
        assert ours.exchange("GET", "/a?b=c", {"Range": "bytes=0-2"}, None) == Answer(200, b"one")
        assert ours.exchange("POST", "/a", {}, b"sent") == Answer(200, large)
        assert ours.exchange("GET", "/a", {}, None) == Answer(200, b"x")
        assert ours.exchange("GET", "/b", {}, None) == Answer(404, b"")
        assert ours.kept == 1
        assert asked[0].startswith(b"GET /api/a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"\r\nRange: bytes=0-2\r\n\r\n" in asked[0]
        assert b"\r\nContent-Length: 4\r\n" in asked[1]
        assert asked[1].endswith(b"\r\n\r\nsent")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        ok(b"coded", b"Content-Encoding: gzip"),
        b"no HTTP at all\r\n\r\n",
    ],
)
def test_what_is_no_whole_answer_keeps_no_connection(answer: bytes) -> None:
    with server(answer, b"", hangs_up=True) as (url, asked):
        ours = Ours(url)
        with pytest.raises((OSError, HTTPException)):
            ours.exchange("GET", "/a", {}, None)
        assert len(asked) == 1
        assert not ours.kept


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        ok(b"later", status=b"503 Service Unavailable"),
        b"no HTTP at all\r\n\r\n",
    ],
)
def test_a_request_that_failed_is_sent_again_by_the_sdk(answer: bytes) -> None:
    with server(answer, ok(b"x"), hangs_up=True) as (url, asked):
        found = transport(url).send("GET", "/objects", "read it", is_small=True)
        assert found == Answer(200, b"x")
        assert len(asked) == 2
        assert b"user-agent: versioned-zarr" in asked[1]


def test_a_redirection_is_followed() -> None:
    with server(ok(b"elsewhere")) as (there, _):
        moved = ok(b"", b"location: " + there.encode(), status=b"307 Temporary Redirect")
        with server(moved, moved, hangs_up=True) as (url, _):
            found = transport(url).send("GET", "/objects", "read it", is_small=True)
            assert found == Answer(200, b"elsewhere")


def test_a_connection_that_the_server_ended_is_not_used() -> None:
    with server(ok(b"one", b"Connection: close"), ok(b"two")) as (url, _):
        ours = Ours(url)
        assert ours.exchange("GET", "/a", {}, None) == Answer(200, b"one")
        assert not ours.kept
    with server(ok(b"one"), b"", ok(b"three")) as (url, _):
        ours = Ours(url)
        assert ours.exchange("GET", "/a", {}, None) == Answer(200, b"one")
        with pytest.raises(OSError, match="closed connection"):
            ours.exchange("GET", "/a", {}, None)
        assert ours.exchange("GET", "/a", {}, None) == Answer(200, b"three")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(ConnectionRefusedError):
        Ours(url).exchange("GET", "/a", {}, None)


def drips() -> dict[str, tuple[bytes, bytes]]:
    small = {"a small body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{", b" ")}
    return {**DRIPS, **small}


@pytest.mark.parametrize("is_small", [True, False], ids=["ours", "the SDK's"])
@pytest.mark.parametrize("name", drips())
def test_a_server_that_drips_is_not_waited_for(name: str, is_small: bool) -> None:
    with dripping(*drips()[name]) as url:
        reached = Connection(url, "id", "secret", timeout_s=0.3)
        slow = Transport(reached, "repository")
        with pytest.raises(StorageError, match=r"lakeFS at .* does not answer: cannot read it"):
            slow.send("GET", "/objects", "read it", is_small=is_small)


@pytest.mark.parametrize("is_small", [True, False], ids=["ours", "the SDK's"])
def test_an_upload_that_nobody_reads_ends(is_small: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        slow = Transport(Connection(url, "id", "secret", timeout_s=0.3), "repository")
        with pytest.raises(StorageError, match="cannot store it"):
            slow.send("POST", "/o", "store it", body=bytes(64 << 20), is_small=is_small)


def test_a_request_that_took_too_long_and_may_have_been_done_says_so() -> None:
    with dripping(*DRIPS["a head"]) as url:
        slow = Transport(Connection(url, "id", "secret", timeout_s=0.3), "repository")
        with pytest.raises(AnswerLostError):
            slow.send("POST", "/commits", "commit", document={}, is_repeatable=False)


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), "5", 1e9])
def test_what_is_no_time_to_wait_is_refused(timeout_s: float) -> None:
    with pytest.raises(InvalidInputError, match="timeout_s must be"):
        vz.open("lakefs://a", endpoint="x", access_key_id="i", secret_access_key="s",
                timeout_s=timeout_s)  # fmt: skip


class OverTls(LakefsServer):
    def _is_up(self) -> bool:
        with urllib3.PoolManager(ca_certs=self.settings["LAKEFS_TLS_CERT_FILE"]) as pool:
            try:
                found = pool.request("GET", f"{self.endpoint}/_health", retries=False)
            except urllib3.exceptions.HTTPError:
                return False
        return found.status == 200


@pytest.mark.compat
class TestOnLakefs:
    def test_threads_get_each_its_own_answer(
        self, lakefs: LakefsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path))
        client = lakefs.client(lakefs.create().url.removeprefix("lakefs://"))
        names = [f"a b/{number} é?&" for number in range(200)]
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda name: client.upload("main", name, name.encode(), {}), names))
            found = list(threads.map(lambda name: client.read("main", name), names))
        assert found == [name.encode() for name in names]
        assert client.read("main", names[0], 2, 5) == names[0].encode()[2:5]

    def test_a_certificate_that_nobody_vouches_for_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate, key = make_certificate(tmp_path)
        port = free_port()
        settings = {
            "LAKEFS_LISTEN_ADDRESS": f"127.0.0.1:{port}",
            "LAKEFS_TLS_ENABLED": "true",
            "LAKEFS_TLS_CERT_FILE": str(certificate),
            "LAKEFS_TLS_KEY_FILE": str(key),
        }
        (tmp_path / "server").mkdir()
        lakefs = OverTls(tmp_path / "server", f"https://127.0.0.1:{port}", settings)
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
        with monkeypatch.context() as vouched:
            vouched.setenv("SSL_CERT_FILE", str(certificate))
            lakefs.start()
            repository = lakefs.create()
            with repository.session(message="over TLS") as session:
                session.mapping["a"] = b"value"
            client = lakefs.client(repository.url.removeprefix("lakefs://"))
            assert client.read("main", "a") == b"value"
            assert client._open().objects._idle
        try:
            stranger = lakefs.client(client.repository)
            with pytest.raises(StorageError, match="certificate"):
                stranger.read("main", "a")
            assert not stranger._open().objects._idle
        finally:
            lakefs.stop()
