"""A gateway before an honest one that counts requests and behaves as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx


@dataclass
class Answer:
    """What the honest gateway says, to be changed before it is passed on.

    Attributes:
        code: the status.
        headers: those that matter.
        body: the bytes.
        sent: how many of them are sent before the connection is closed; None for all.
        pause_s: how long to wait before each `step` bytes.
        step: how many bytes are sent at a time.
    """

    code: int
    headers: dict[str, str]
    body: bytes
    sent: int | None = None
    pause_s: float = 0.0
    step: int = 1 << 20


Mood = Callable[[str, Answer], "Answer | None"]
"""Told a request's target and the honest answer; gives what is sent, None for no answer at all."""


@dataclass
class Gateway:
    """A running gateway.

    Attributes:
        url: its base URL.
        mood: how it behaves.
        targets: what it was asked for.
    """

    url: str
    mood: Mood
    targets: list[str] = field(default_factory=list)


def honest(target: str, answer: Answer) -> Answer:
    return answer


def lying(target: str, answer: Answer) -> Answer:
    """The last byte is another."""
    if answer.body:
        answer.body = answer.body[:-1] + bytes([answer.body[-1] ^ 1])
    return answer


def lying_first(target: str, answer: Answer) -> Answer:
    """A byte in the first quarter is another."""
    at = len(answer.body) // 4
    if answer.body:
        answer.body = answer.body[:at] + bytes([answer.body[at] ^ 1]) + answer.body[at + 1 :]
    return answer


def truncating(target: str, answer: Answer) -> Answer:
    """Closes the connection after half of the bytes that it promised."""
    answer.sent = len(answer.body) // 2
    return answer


def shortening(target: str, answer: Answer) -> Answer:
    """Promises half of the bytes, and sends them."""
    answer.body = answer.body[: len(answer.body) // 2]
    return answer


def silent(target: str, answer: Answer) -> Answer:
    """Says nothing for longer than anybody waits."""
    answer.pause_s, answer.step = 20.0, 1
    return answer


def dripping(target: str, answer: Answer) -> Answer:
    """Sends a few bytes at a time."""
    answer.pause_s, answer.step = 0.2, 8
    return answer


def dead(target: str, answer: Answer) -> None:
    """Closes the connection."""
    return


def empty(target: str, answer: Answer) -> Answer:
    answer.body = b""
    return answer


def without_blocks(target: str, answer: Answer) -> Answer:
    """A CAR that has its header only: sound, and of no use."""
    if "format=car" in target and answer.code == 200:
        answer.body = answer.body[: 1 + answer.body[0]]
    return answer


def without_car(target: str, answer: Answer) -> Answer:
    """As a gateway that knows raw blocks only."""
    return Answer(406, {}, b"no CARs here") if "format=car" in target else answer


def page(target: str, answer: Answer) -> Answer:
    """As a host that is no gateway, and answers everything with a page."""
    return Answer(200, {"Content-Type": "text/html"}, b"<html>welcome</html>")


def failing(code: int, **headers: str) -> Mood:
    return lambda target, answer: Answer(
        code, {name.replace("_", "-"): value for name, value in headers.items()}, b"no"
    )


def at_first(times: int, mood: Mood) -> Mood:
    """In a mood for the first so many requests, honest after that."""
    guard, left = threading.Lock(), [times]

    def fickle(target: str, answer: Answer) -> Answer | None:
        with guard:
            left[0] -= 1
            is_in_mood = left[0] >= 0
        return mood(target, answer) if is_in_mood else answer

    return fickle


@contextmanager
def gateway(target: str, mood: Mood = honest) -> Iterator[Gateway]:
    """Run a gateway before the honest one at `target`."""
    upstream = httpx.Client(base_url=target, timeout=60)
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            running.targets.append(self.path)
            found = upstream.get(self.path, headers={"Accept": self.headers.get("Accept", "*/*")})
            kind = found.headers.get("Content-Type", "")
            answer = running.mood(
                self.path, Answer(found.status_code, {"Content-Type": kind}, found.content)
            )
            with suppress(ConnectionError):
                self.send(answer)

        def send(self, answer: Answer | None) -> None:
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.code)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            body = answer.body[: answer.sent]
            for at in range(0, len(body), answer.step):
                if closing.wait(answer.pause_s):
                    break
                self.wfile.write(body[at : at + answer.step])
                self.wfile.flush()
            self.close_connection = len(body) < len(answer.body) or closing.is_set()

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # who was stopped closes the connection

    with Server(("127.0.0.1", 0), Handler) as server:
        running = Gateway(f"http://127.0.0.1:{server.server_address[1]}", mood)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield running
        finally:
            closing.set()
            server.shutdown()
            thread.join()
            time.sleep(0.05)
            upstream.close()
