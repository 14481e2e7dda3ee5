"""A server that sends what a test tells it to, byte by byte."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Requests(list[bytes]):
    """The requests that came.

    Attributes:
        connections: on how many connections.
    """

    connections = 0


@contextmanager
def server(*answers: bytes, hangs_up: bool = False) -> Iterator[tuple[str, Requests]]:
    """Answers connections one after the other, each request on them with the next of the answers.

    An empty answer ends the connection. Yields the server's URL, and the requests that came.

    Args:
        answers: heads and bodies.
        hangs_up: end each connection after one answer.
    """
    asked = Requests()
    left = list(answers)

    def serve() -> None:
        while left:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            asked.connections += 1
            with client, suppress(ConnectionError):
                while left and (request := _request(client)):
                    asked.append(request)
                    answer = left.pop(0)
                    if not answer:
                        break
                    client.sendall(answer)
                    if hangs_up:
                        break

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api", asked


def _request(client: socket.socket) -> bytes:
    """The next request, whole; empty if the client hung up."""
    head = client.recv(1 << 16)
    found = re.search(rb"content-length: (\d+)", head.partition(b"\r\n\r\n")[0], re.IGNORECASE)
    end = head.find(b"\r\n\r\n") + 4 + (int(found[1]) if found else 0)
    while len(head) < end and (more := client.recv(1 << 16)):
        head += more
    return head


@contextmanager
def dripping(before: bytes, piece: bytes, pause_s: float = 0.02) -> Iterator[str]:
    """A server that says the same again and again, without an end."""
    is_over = threading.Event()

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.recv(1 << 16)
            client.sendall(before)
            while not is_over.wait(pause_s):
                client.sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            is_over.set()
            listener.shutdown(socket.SHUT_RDWR)


DRIPS = {
    "a head": (b"HTTP/1.1 200 OK\r\nX: ", b"x"),
    "heads that promise another": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x"),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
}
