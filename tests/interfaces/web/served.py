"""A repository behind a real server, in a thread of this process."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from versioned_zarr.interfaces.web import app
from versioned_zarr.interfaces.web.server import ImpatientProtocol, configuration
from versioned_zarr.repository.repository import Repository

_SERVED_AT = re.compile(r"at (http://[^/\s]+)/$", re.MULTILINE)


@contextmanager
def serving(
    repository: Repository,
    *,
    refs: Sequence[str] | None = None,
    cors: Sequence[str] = (),
    hosts: Sequence[str] = ("*",),
    protocol: type[asyncio.Protocol] = ImpatientProtocol,
) -> Iterator[int]:
    """Serve while the context lasts; gives the port."""
    settings = configuration(app(repository, refs=refs, cors=cors, hosts=hosts))
    settings.http = protocol
    server = uvicorn.Server(settings)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def serving_by_command(url: str, folder: Path, *options: str) -> Iterator[str]:
    """Run `vz serve` while the context lasts; gives the address that it says.

    Args:
        url: of the repository.
        folder: where what it says beside that is put.
        options: more of the command.
    """
    command = [sys.executable, "-m", "versioned_zarr.cli", "serve", url, "--port", "0", *options]
    with (
        (folder / "vz-serve.log").open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            said = ""
            while not (found := _SERVED_AT.search(said)):
                line = process.stdout.readline()
                assert line, f"vz serve ended: {said}{(folder / 'vz-serve.log').read_text()}"
                said += line
            yield found[1]
        finally:
            process.terminate()


@contextmanager
def client_of(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        yield client


def talk(port: int, sent: bytes, *, timeout_s: float = 10) -> bytes:
    """What the server says to these bytes until it ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        said = b""
        try:
            connection.sendall(sent)
            while piece := connection.recv(65536):
                said += piece
        except (ConnectionResetError, BrokenPipeError):
            pass
        return said


def request(port: int, target: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    """What the server says to a request whose target is sent as it is."""
    head = [method + b" " + target + b" HTTP/1.1", b"Host: 127.0.0.1", b"Connection: close"]
    return talk(port, b"\r\n".join([*head, *headers, b"", b""]))
