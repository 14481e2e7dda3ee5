"""A server that sends what a test tells it to, byte by byte."""

from __future__ import annotations

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
                while left and (request := client.recv(1 << 16)):
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
