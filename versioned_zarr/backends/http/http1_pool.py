"""A pool of HTTP/1.1 connections for many small requests, with a parser of its own.

urllib3 takes 0.3 ms of the interpreter's time for a request, as long as a lakeFS server takes to
answer it, and no two threads can take that at once. It opens the connections here, and is left to
do whatever is not plain: redirections, repetitions, failures.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection

from versioned_zarr.backends.http.deadline import Deadline, receive_bytes, send_bytes
from versioned_zarr.storage.protocol import Bytes

_PIECE_BYTES: Final = 64 << 10
_HEAD_BYTES: Final = 256 << 10
_NO_CONTENT: Final = 204
_END: Final = b"\r\n\r\n"
_PLAIN: Final = frozenset({200, 201, 204, 206, 400, 401, 403, 404, 409, 410, 412, 416})


class Http1Response(NamedTuple):
    """What a server answered.

    Attributes:
        status: the HTTP status.
        data: the body.
    """

    status: int
    data: bytes


class _NotPlainError(Exception):
    """An answer that is left to urllib3."""


class Http1Pool:
    """Connections to one server. Thread-safe; of one process.

    Args:
        manager: opens connections.
        url: the server, and what the path of each request begins with.
        headers: what is sent with each request.
        timeout: how long to wait for a connection, and for a request.
        limit: how many connections are kept.
    """

    def __init__(
        self,
        manager: urllib3.PoolManager,
        url: str,
        headers: Mapping[str, str],
        timeout: urllib3.Timeout,
        limit: int,
    ) -> None:
        self._pool = manager.connection_from_url(url)
        parts = urlsplit(url)
        self._above = parts.path
        self._headers = {"Host": parts.netloc, **headers}
        self._timeout, self._limit = timeout, limit
        self._idle: list[HTTPConnection] = []
        self._is_plain = True
        weakref.finalize(self, _close, self._idle)

    def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: Bytes | None
    ) -> Http1Response | None:
        """Send a request that may be sent again; None if that has to be done, in another way.

        Args:
            method: as GET.
            target: what follows the server's URL, quoted.
            headers: of this request; their values have no line breaks.
            body: what is sent with it.

        Raises:
            TimeoutError: the server took too long.
        """
        if not self._is_plain:
            return None
        try:
            connection = self._take()
        except (OSError, urllib3.exceptions.HTTPError):
            return None
        is_kept = False
        sent = {**self._headers, **headers}
        clock = Deadline(self._timeout.read_timeout)
        try:
            _send(connection, clock, method, self._above + target, sent, body)
            answer, is_kept = self._receive(connection, clock)
        except TimeoutError:
            raise
        except (OSError, ValueError, _NotPlainError):
            return None
        finally:
            self._give_back(connection, is_kept=is_kept)
        return answer

    def _take(self) -> HTTPConnection:
        while self._idle:
            try:
                found = self._idle.pop()
            except IndexError:  # another thread took the last one
                break
            if found.is_connected:
                return found
            found.close()
        # urllib3 types the pool's connections by protocols that leave out what these have.
        made: HTTPConnection = self._pool._new_conn()  # type: ignore[assignment]  # see above
        made.timeout = self._timeout.connect_timeout  # type: ignore[assignment]  # see above
        made.connect()
        return made

    def _give_back(self, connection: HTTPConnection, *, is_kept: bool) -> None:
        if is_kept and len(self._idle) < self._limit:
            self._idle.append(connection)
        else:
            connection.close()

    def _receive(self, connection: HTTPConnection, clock: Deadline) -> tuple[Http1Response, bool]:
        """An answer, and whether another may be had on the same connection."""
        receive = partial(receive_bytes, connection.sock, clock=clock)
        found = b""
        while (end := found.find(_END)) < 0:
            found += _some(receive(_PIECE_BYTES))
            if len(found) > _HEAD_BYTES:
                raise _NotPlainError
        first, *lines = found[:end].split(b"\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        status = int(first[9:12])
        if status not in _PLAIN:
            raise _NotPlainError
        length = b"0" if status == _NO_CONTENT else headers.get(b"content-length")
        if length is None or not first.startswith(b"HTTP/1.1 "):
            self._is_plain = False
            raise _NotPlainError
        pieces = [found[end + len(_END) :]]
        left = int(length) - len(pieces[0])
        while left > 0:
            pieces.append(_some(receive(min(left, _PIECE_BYTES))))
            left -= len(pieces[-1])
        is_kept = left == 0 and headers.get(b"connection", b"").lower() != b"close"
        return Http1Response(status, b"".join(pieces)), is_kept


def _send(
    connection: HTTPConnection,
    clock: Deadline,
    method: str,
    target: str,
    headers: Mapping[str, str],
    body: Bytes | None,
) -> None:
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if body is None:
        send_bytes(connection.sock, head, clock)
    elif len(body) <= _PIECE_BYTES:
        send_bytes(connection.sock, b"".join((head, body)), clock)
    else:
        send_bytes(connection.sock, head, clock)
        send_bytes(connection.sock, body, clock)


def _some(piece: bytes) -> bytes:
    if not piece:
        raise _NotPlainError
    return piece


def _close(idle: list[HTTPConnection]) -> None:
    for connection in idle:
        connection.close()
