"""How requests with bodies reach a server: from memory and from files, with TLS and without."""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("httpx")

from tests.servers.certificates import make_certificate
from versioned_zarr.backends.kubo.client import KuboClient, Upload
from versioned_zarr.errors import StorageError
from versioned_zarr.storage import FilePart

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
    first, last = FilePart(os.dup(file), 5, 4_000_000), FilePart(os.dup(file), 0, 3)
    parts = [b"before", first, memoryview(b"between"), last]
    upload = Upload(sum(map(len, parts)), lambda: parts)
    client = KuboClient(server.url)
    client.call("dag/import", body=upload)
    expected = b"before" + CONTENT[5:4_000_000] + b"between" + CONTENT[:3]
    assert expected in server.body
    client.call("dag/import", body=upload)
    assert expected in server.body


def test_a_file_that_is_too_short_is_an_error(server: Server, file: int) -> None:
    part = FilePart(os.dup(file), len(CONTENT) - 10, len(CONTENT) + 10)
    client = KuboClient(server.url)
    with pytest.raises(StorageError, match="10 of 20 bytes"):
        client.call("dag/import", body=Upload(20, lambda: [part]), is_repeatable=False)
