"""Requests that are written by hand: what is plain comes back, all else is left to urllib3."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

import versioned_zarr as vz
from tests.servers.certificates import make_certificate
from tests.servers.lakefs import LakefsServer
from tests.servers.programs import free_port
from tests.servers.scripted import DRIPS, dripping, server
from versioned_zarr.backends.http.http1_pool import Http1Pool, Http1Response
from versioned_zarr.backends.lakefs.api.api_errors import AnswerLostError
from versioned_zarr.backends.lakefs.api.credentials import Connection
from versioned_zarr.backends.lakefs.api.sdk_transport import Transport
from versioned_zarr.errors import InvalidInputError, StorageError

_TIMEOUT = urllib3.Timeout(connect=5, read=5)


def lines(url: str) -> Http1Pool:
    return Http1Pool(urllib3.PoolManager(), url, {"Authorization": "Basic x"}, _TIMEOUT, 4)


def ok(body: bytes, *more: bytes, status: bytes = b"200 OK") -> bytes:
    head = (b"HTTP/1.1 " + status, b"content-length: %d" % len(body), *more, b"", b"")
    return b"\r\n".join(head) + body


def test_a_plain_answer_comes_whole_and_the_connection_is_kept() -> None:
    large = os.urandom(300_000)
    with server(ok(b"one"), ok(large), ok(b"", status=b"404 Not Found")) as (url, asked):
        ours = lines(url)
        assert ours.exchange("GET", "/a?b=c", {"Range": "bytes=0-2"}, None) == Http1Response(
            200, b"one"
        )
        assert ours.exchange("POST", "/a", {}, b"sent") == Http1Response(200, large)
        assert ours.exchange("GET", "/b", {}, None) == Http1Response(404, b"")
        assert asked[0].startswith(b"GET /api/a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
        assert b"\r\nAuthorization: Basic x\r\nRange: bytes=0-2\r\n\r\n" in asked[0]
        assert asked[1].endswith(b"\r\nContent-Length: 4\r\n\r\nsent")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n",
        ok(b"later", status=b"503 Service Unavailable"),
        ok(b"", b"location: http://elsewhere", status=b"307 Temporary Redirect"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx",
        b"no HTTP at all\r\n\r\n",
    ],
)
def test_what_is_not_plain_is_left_to_others(answer: bytes) -> None:
    with server(answer, b"", hangs_up=True) as (url, asked):
        assert lines(url).exchange("GET", "/a", {}, None) is None
        assert len(asked) == 1


def test_a_server_that_tells_no_lengths_is_not_asked_again() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
    with server(chunked, ok(b"x")) as (url, asked):
        ours = lines(url)
        assert ours.exchange("GET", "/a", {}, None) is None
        assert ours.exchange("GET", "/a", {}, None) is None
        assert len(asked) == 1


def test_a_connection_that_the_server_ended_is_not_used() -> None:
    with server(ok(b"one", b"Connection: close"), ok(b"two")) as (url, _):
        ours = lines(url)
        assert ours.exchange("GET", "/a", {}, None) == Http1Response(200, b"one")
        assert not ours._idle
    with server(ok(b"one"), b"", ok(b"three")) as (url, _):
        ours = lines(url)
        assert ours.exchange("GET", "/a", {}, None) == Http1Response(200, b"one")
        assert ours.exchange("GET", "/a", {}, None) is None
        assert ours.exchange("GET", "/a", {}, None) == Http1Response(200, b"three")


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert lines(url).exchange("GET", "/a", {}, None) is None


def drips() -> dict[str, tuple[bytes, bytes]]:
    small = {"a small body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{", b" ")}
    return {**DRIPS, **small}


@pytest.mark.parametrize("is_small", [True, False], ids=["by hand", "by urllib3"])
@pytest.mark.parametrize("name", drips())
def test_a_server_that_drips_is_not_waited_for(name: str, is_small: bool) -> None:
    with dripping(*drips()[name]) as url:
        reached = Connection(url, "id", "secret", timeout_s=0.3)
        transport = Transport(reached, "repository")
        with pytest.raises(StorageError, match=r"lakeFS at .* does not answer: cannot read it"):
            transport.send("GET", "/objects", "read it", is_small=is_small)


@pytest.mark.parametrize("is_small", [True, False], ids=["by hand", "by urllib3"])
def test_an_upload_that_nobody_reads_ends(is_small: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        transport = Transport(Connection(url, "id", "secret", timeout_s=0.3), "repository")
        with pytest.raises(StorageError, match="cannot store it"):
            transport.send("POST", "/o", "store it", body=bytes(64 << 20), is_small=is_small)


def test_a_request_that_took_too_long_and_may_have_been_done_says_so() -> None:
    with dripping(*DRIPS["a head"]) as url:
        transport = Transport(Connection(url, "id", "secret", timeout_s=0.3), "repository")
        with pytest.raises(AnswerLostError):
            transport.send("POST", "/commits", "commit", document={}, is_repeatable=False)


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
            assert client._open().lines._idle
        try:
            stranger = lakefs.client(client.repository)
            with pytest.raises(StorageError, match="certificate"):
                stranger.read("main", "a")
            assert not stranger._open().lines._idle
        finally:
            lakefs.stop()
