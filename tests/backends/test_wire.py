"""How requests reach a server, from memory and from files, and how answers come back."""

from __future__ import annotations

import gzip
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")

import httpx

from tests.servers.certificates import make_certificate
from tests.servers.scripted import DRIPS, dripping
from tests.servers.scripted import server as scripted
from versioned_zarr.backends.gateway.client import Gateway, GatewayError
from versioned_zarr.backends.http.http_transport import HttpTransport
from versioned_zarr.backends.kubo.client import KuboClient, MultipartUpload
from versioned_zarr.backends.local.posix import PosixFilePart
from versioned_zarr.errors import StorageError
from versioned_zarr.ipld.cid import from_text

CONTENT = bytes(range(256)) * 20_000


class Server(ThreadingHTTPServer):
    """Keeps the body of the last request."""

    body = b""
    url = ""

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away."""


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["http", "https"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    server = Server(("127.0.0.1", 0), Handler)
    if request.param == "https":
        certificate, key = make_certificate(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server.url = f"{request.param}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with path.open("rb", buffering=0) as file:
        yield file.fileno()


def test_parts_of_files_come_whole_and_in_order(server: Server, file: int) -> None:
    first, last = PosixFilePart(os.dup(file), 5, 4_000_000), PosixFilePart(os.dup(file), 0, 3)
    parts = [b"before", first, memoryview(b"between"), last]
    upload = MultipartUpload(sum(map(len, parts)), lambda: parts)
    client = KuboClient(server.url)
    client.call("dag/import", body=upload)
    expected = b"before" + CONTENT[5:4_000_000] + b"between" + CONTENT[:3]
    assert expected in server.body
    client.call("dag/import", body=upload)
    assert expected in server.body


def test_a_file_that_is_too_short_is_an_error(server: Server, file: int) -> None:
    part = PosixFilePart(os.dup(file), len(CONTENT) - 10, len(CONTENT) + 10)
    client = KuboClient(server.url)
    with pytest.raises(StorageError, match="10 of 20 bytes"):
        client.call("dag/import", body=MultipartUpload(20, lambda: [part]), is_repeatable=False)


def answer(*headers: bytes, body: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join((b"HTTP/1.1 " + status, *headers, b"", body))


def in_chunks(*chunks: bytes) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return answer(b"Transfer-Encoding: chunked", body=body + b"0\r\n\r\n")


def of_length(body: bytes, *headers: bytes) -> bytes:
    return answer(b"Content-Length: %d" % len(body), *headers, body=body)


def client() -> Any:
    return httpx.Client(transport=HttpTransport(2), timeout=5)


def test_a_connection_is_used_again_after_an_answer_of_each_kind() -> None:
    large = os.urandom(1 << 20)
    answers = [in_chunks(large, b"x"), of_length(large), of_length(b""), in_chunks(b"last")]
    with scripted(*answers) as (url, asked), client() as ours:
        found = [ours.get(f"{url}/{number}").content for number in range(4)]
        assert found == [large + b"x", large, b"", b"last"]
        assert [request.split()[1] for request in asked] == [b"/api/%d" % n for n in range(4)]
        assert asked.connections == 1


def test_an_answer_without_a_length_goes_on_to_the_end_of_the_connection() -> None:
    answers = [answer(body=b"all"), of_length(b"next")]
    with scripted(*answers, hangs_up=True) as (url, _), client() as ours:
        assert ours.get(url).content == b"all"
        assert ours.get(url).content == b"next"


def test_a_connection_that_the_server_ended_is_not_used_again() -> None:
    answers = [of_length(b"one"), of_length(b"two")]
    with scripted(*answers, hangs_up=True) as (url, asked), client() as ours:
        assert ours.get(url).content == b"one"
        time.sleep(0.1)  # until the end has come
        assert ours.get(url).content == b"two"
        assert asked.connections == 2


@pytest.mark.parametrize(
    "cut",
    [
        of_length(b"some")[:-1],
        in_chunks(b"some")[:-1],
        in_chunks(b"some")[:-8],
        answer(b"Transfer-Encoding: chunked", body=b"no length\r\n"),
        b"",
        b"no HTTP at all\r\n\r\n",
    ],
)
def test_an_answer_that_is_cut_off_is_told_and_its_connection_not_used_again(cut: bytes) -> None:
    with scripted(cut, of_length(b"sound"), hangs_up=True) as (url, asked), client() as ours:
        with pytest.raises(httpx.RemoteProtocolError):
            ours.get(url)
        assert ours.get(url).content == b"sound"
        assert asked.connections == 2


def test_an_answer_that_is_left_half_read_holds_up_nobody() -> None:
    answers = [in_chunks(os.urandom(4 << 20)) for _ in range(3)]
    with scripted(*answers, of_length(b"last")) as (url, asked), client() as ours:
        for _ in range(3):
            with ours.stream("GET", url) as response:
                assert next(response.iter_raw())
        assert ours.get(url).content == b"last"
        assert asked.connections == 4


def test_a_refusal_that_comes_before_the_body_was_taken_is_read() -> None:
    refusal = answer(b"Content-Length: 2", body=b"no", status=b"403 Forbidden")

    def parts() -> Iterator[bytes]:
        for _ in range(3):
            time.sleep(0.1)  # until it has hung up, and what was sent then was turned back
            yield b"part"

    with scripted(refusal, hangs_up=True) as (url, _), client() as ours:
        refused = ours.post(url, content=parts(), headers={"Content-Length": "12"})
        assert (refused.status_code, refused.content) == (403, b"no")


def test_nobody_there_and_a_silent_one_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            httpx.Client(transport=HttpTransport(1), timeout=0.2) as ours,
            pytest.raises(httpx.ReadTimeout),
        ):
            ours.get(url)
    with client() as ours, pytest.raises(httpx.ConnectError):
        ours.get(url)
    with client() as ours, pytest.raises(httpx.UnsupportedProtocol):
        ours.get("ftp://127.0.0.1")


def test_headers_of_any_bytes_are_taken_and_hold_up_nobody() -> None:
    odd = of_length(b"x", b"Server: caf\xe9", b"X-\xff: \x80")
    answers = [odd] * 5
    with scripted(*answers) as (url, _), client() as asking:
        for _ in answers:
            assert asking.get(url, timeout=10).headers["server"] == "caf\xe9"


@pytest.mark.parametrize("host", ["a" * 70, "a..b"])
def test_a_host_that_can_be_none_is_told_and_holds_up_nobody(host: str) -> None:
    to_nowhere = answer(
        f"Location: http://{host}/".encode(), b"Content-Length: 0", status=b"302 Found"
    )
    with scripted(*[to_nowhere] * 5) as (url, _), client() as asking:
        for _ in range(5):
            with pytest.raises(httpx.RequestError):
                asking.get(url, timeout=10, follow_redirects=True)


def test_a_certificate_that_nobody_vouches_for_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with client() as ours:
        if server.url.startswith("https"):
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                ours.post(server.url, content=b"x")
        else:
            assert ours.post(server.url, content=b"x").status_code == 200


def test_gateways_behind_a_proxy_are_left_to_httpx(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(of_length(b"block")) as (proxy, asked):
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/api"))
        monkeypatch.delenv("no_proxy", raising=False)
        cid = from_text("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
        gateway = Gateway("http://gateway.invalid", 5)
        assert gateway.block(cid, threading.Event()) == b"block"
        assert asked[0].startswith(b"GET http://gateway.invalid/ipfs/bafkrei")


@pytest.mark.parametrize("name", DRIPS)
def test_a_server_that_drips_is_not_waited_for(name: str) -> None:
    with (
        dripping(*DRIPS[name]) as url,
        httpx.Client(transport=HttpTransport(2), timeout=0.5) as ours,
        pytest.raises(httpx.ReadTimeout),
    ):
        ours.get(url)


def test_a_node_and_a_gateway_that_drip_are_named() -> None:
    with dripping(*DRIPS["a body"]) as url:
        with pytest.raises(StorageError, match=r"no answer from the IPFS node .*ReadTimeout"):
            KuboClient(url, timeout_s=0.3).call("id", is_repeatable=False)
        cid = from_text("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
        with pytest.raises(GatewayError):
            Gateway(url, 0.3).block(cid, threading.Event())


def test_an_upload_that_nobody_reads_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        parts = [bytes(64 << 20)]
        upload = MultipartUpload(len(parts[0]), lambda: parts)
        with pytest.raises(StorageError, match="no answer"):
            KuboClient(url, timeout_s=0.3).call("dag/import", body=upload, is_repeatable=False)


def test_a_coded_body_is_taken_apart_in_small_pieces() -> None:
    content = os.urandom(1000) + bytes(8 << 20)
    coded = of_length(gzip.compress(content), b"Content-Encoding: gzip")
    with scripted(coded, of_length(b"next")) as (url, asked), client() as ours:
        with ours.stream("GET", url) as response:
            parts = list(response.iter_raw())
        assert b"".join(parts) == content
        assert max(map(len, parts)) <= 256 << 10
        assert ours.get(url).content == b"next"
        assert asked.connections == 1


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(b"whole", mtime=0)[:-3], b"gzip"),
        (b"no gzip", b"gzip"),
        (b"x", b"br"),
        (b"x", b"gzip, gzip"),
    ],
)
def test_a_coding_that_is_damaged_or_unknown_is_told(body: bytes, coding: bytes) -> None:
    answers = [of_length(body, b"Content-Encoding: " + coding), of_length(b"sound")]
    with scripted(*answers, hangs_up=True) as (url, _), client() as ours:
        with pytest.raises(httpx.RemoteProtocolError):
            ours.get(url)
        assert ours.get(url).content == b"sound"


def test_an_answer_of_a_node_that_is_too_long_is_refused() -> None:
    bomb = of_length(gzip.compress(bytes(64 << 20)), b"Content-Encoding: gzip")
    with scripted(bomb) as (url, _):
        node = KuboClient(url.removesuffix("/api"))
        cid = from_text("bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku")
        with pytest.raises(StorageError, match="more than 8,388,608 bytes"):
            node.get_block(cid)
