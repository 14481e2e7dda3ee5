"""A proxy before a server that, at one request, loses, repeats, cuts or replaces its answer."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import TypeAlias

import httpx

from tests.servers.threaded import threaded

KINDS = ("lost before", "lost after", "repeated", "cut", "a page before", "500 after")
"""What may become of a request: before it came to the server, or after it was answered."""
OF_OBJECTS = (
    "503 before",
    "409 before",
    "429 before",
    "500 after",
    "lost before",
    "lost after",
    "repeated",
    "cut",
    "late",
)
"""What may become of a request to an object store; the first three are its own refusals."""
LATE_S = 1.6
"""How long a late request is held before it is passed on; who waits less asks again meanwhile."""
_REFUSALS = {
    "503 before": (
        503,
        b"<Error><Code>SlowDown</Code><Message>Reduce your rate.</Message></Error>",
    ),
    "429 before": (
        429,
        b"<Error><Code>TooManyRequests</Code><Message>Reduce your rate.</Message></Error>",
    ),
    "409 before": (
        409,
        b"<Error><Code>ConditionalRequestConflict</Code><Message>Try again.</Message></Error>",
    ),
}

Choose: TypeAlias = Callable[[int], str]
"""What becomes of the request of a number, from 1; nothing if it is empty."""
_PAGE = b"<!doctype html><title>Sign in</title>"
_OF_CONNECTION = frozenset({"host", "connection", "content-length", "transfer-encoding", "date"})


class Fickle:
    """What becomes of requests.

    Attributes:
        target: the server's address.
        url: where the proxy listens.
        passed: how many requests came since `begin`.
        done: the numbers of those that were answered, or will never be.
        hit: the request that something became of.
    """

    def __init__(self, target: str) -> None:
        self.target, self.url, self.hit = target, "", ""
        self.passed, self.done = 0, set[int]()
        self._choose = nothing
        self._guard = threading.Lock()

    def due(self, request: str) -> tuple[int, str]:
        """The number of the next request, and what becomes of it."""
        with self._guard:
            self.passed += 1
            number, choose = self.passed, self._choose
        kind = choose(number)
        if kind:
            self.hit = request
        return number, kind

    def begin(self, choose: Choose) -> None:
        """Count from now, and let a function choose what becomes of each request."""
        with self._guard:
            self._choose, self.passed, self.done = choose, 0, set()


def nothing(number: int) -> str:
    """Nothing becomes of any request."""
    return ""


def at(hit: int, kind: str, between: Callable[[], None] | None = None) -> Choose:
    """Something becomes of one request.

    Args:
        hit: its number, from 1.
        kind: one of `KINDS`, or another name for nothing.
        between: called before it is passed on.
    """

    def choose(number: int) -> str:
        if number != hit:
            return ""
        if between is not None:
            between()
        return kind

    return choose


def now_and_then(kinds: Sequence[str], one_in: int, seed: int) -> Choose:
    """Something becomes of some requests, by chance."""
    chance = random.Random(seed)
    return lambda number: chance.choice(kinds) if chance.randrange(one_in) == 0 else ""


@contextmanager
def fickle(target: str, *, keeps_host: bool = False) -> Iterator[Fickle]:
    """Such a proxy for the length of a block.

    Args:
        target: the server's address.
        keeps_host: whether the server is told the proxy's address, because requests are signed.
    """
    state = Fickle(target)
    dropped = _OF_CONNECTION - {"host"} if keeps_host else _OF_CONNECTION
    upstream = httpx.Client(base_url=target, timeout=60)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            number, kind = state.due(f"{self.command} {self.path}")
            try:
                self._become(kind, body)
            finally:
                state.done.add(number)

        def _become(self, kind: str, body: bytes) -> None:
            if kind == "late":
                time.sleep(LATE_S)
            if kind == "lost before":
                self.close_connection = True
                return
            if kind in _REFUSALS:
                status, said = _REFUSALS[kind]
                self._answer(status, [("Content-Type", "application/xml")], said)
                return
            if kind == "a page before":
                self._answer(200, [("Content-Type", "text/html")], _PAGE)
                return
            try:
                found = self._ask(body)
                if kind == "repeated":
                    found = self._ask(body)
            except httpx.HTTPError:  # the server is down, or the proxy ends
                self.close_connection = True
                return
            if kind == "lost after":
                self.close_connection = True
            elif kind == "500 after":
                self._answer(500, [], b"")
            else:
                headers = [*found.headers.multi_items()]
                self._answer(found.status_code, headers, found.content, is_cut=kind == "cut")

        do_DELETE = do_GET = do_POST = do_PUT = pass_on  # noqa: N815 - so http.server wants it

        def _ask(self, body: bytes) -> httpx.Response:
            sent = {
                name: value for name, value in self.headers.items() if name.lower() not in dropped
            }
            sent.setdefault("Accept-Encoding", "identity")
            return upstream.request(self.command, self.path, content=body, headers=sent)

        def _answer(
            self, status: int, headers: list[tuple[str, str]], body: bytes, *, is_cut: bool = False
        ) -> None:
            self.close_connection = is_cut
            with suppress(OSError):
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in _OF_CONNECTION:
                        self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(body) + is_cut))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if is_cut else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with upstream, threaded(Handler) as state.url:
        yield state
