"""A proxy before a server that hands requests on and now and then keeps the answer to itself."""

from __future__ import annotations

import base64
import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

_METHODS = (b"POST ", b"GET ", b"PUT ", b"DELETE ", b"HEAD ")


def refusal(status: str, *headers: str) -> bytes:
    """The head of an answer without a body, after which the connection ends."""
    lines = [f"HTTP/1.1 {status}", *headers, "Content-Length: 0", "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


_LATER = refusal("503 Service Unavailable", "Retry-After: 0")


class Proxy:
    """Forwards TCP connections; may cut one off after the server has answered, or in an upload.

    Args:
        target: the server's address, as `http://127.0.0.1:5001`.
        loses_answer: told the first bytes of a request; whether its answer is to be lost.
        is_busy: told the same; whether the request is to be answered by `refusal` instead.
        refusal: the head of that answer; by default that of "503, later".
        limit_bytes: how many bytes from a client pass before a connection is cut; None for all.

    Attributes:
        url: where it listens.
        lost: how many answers it lost.
        refused: how many requests it answered itself.
        passed_bytes: how many bytes of clients it has passed on.
    """

    def __init__(
        self,
        target: str,
        loses_answer: Callable[[bytes], bool] = lambda request: False,
        limit_bytes: int | None = None,
        is_busy: Callable[[bytes], bool] = lambda request: False,
        refusal: bytes = _LATER,
    ) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname, parts.port)
        self._loses_answer, self._is_busy, self._refusal = loses_answer, is_busy, refusal
        self.limit_bytes = limit_bytes
        self.lost = self.passed_bytes = self.refused = 0
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:  # it is down, and so seem we
            _close(client)
            return
        mute = threading.Event()
        threading.Thread(target=self._answer, args=(server, client, mute), daemon=True).start()
        try:
            while data := client.recv(1 << 16):
                if data.startswith(_METHODS):
                    self.requests.append(data.split(b" HTTP", 1)[0])
                    if self._is_busy(data):
                        self.refused += 1
                        client.sendall(self._refusal)
                        break
                    if self._loses_answer(data):
                        mute.set()
                self.passed_bytes += len(data)
                if self.limit_bytes is not None and self.passed_bytes > self.limit_bytes:
                    break
                server.sendall(data)
        except OSError:
            pass
        finally:
            for end in (server, client):
                _close(end)

    def _answer(self, server: socket.socket, client: socket.socket, mute: threading.Event) -> None:
        try:
            while data := server.recv(1 << 16):
                if mute.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        except OSError:
            pass
        finally:
            for end in (server, client):
                _close(end)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def guarded(target: str, user: str, password: str) -> Iterator[Proxy]:
    """A proxy that lets through who says this name and password."""
    pair = base64.b64encode(f"{user}:{password}".encode())
    said = b"authorization: basic " + pair.lower()
    with proxy(
        target,
        is_busy=lambda request: said not in request.lower(),
        refusal=refusal("401 Unauthorized", 'WWW-Authenticate: Basic realm="node"'),
    ) as between:
        yield between


@contextmanager
def proxy(target: str, **options: object) -> Iterator[Proxy]:
    """A proxy for the length of a block."""
    running = Proxy(target, **options)
    try:
        yield running
    finally:
        running.close()


def one_in(number: int, command: bytes) -> Callable[[bytes], bool]:
    """Lose the answer to every so many requests of a command, at random."""
    chance = random.Random(number)

    def loses(request: bytes) -> bool:
        return request.startswith(b"POST /api/v0/" + command) and chance.randrange(number) == 0

    return loses
