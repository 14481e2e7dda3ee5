"""A pool of HTTP/1.1 connections of the standard library, to any number of servers.

Used for requests to Kubo nodes, gateways, and single small objects on lakeFS. All other lakeFS
requests use the lakeFS SDK, and gateways behind a proxy use httpx.
"""

from __future__ import annotations

import functools
import selectors
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import NamedTuple

from versioned_zarr.backends.http.deadline import Deadline, TimedConnection
from versioned_zarr.storage.protocol import Bytes


class Origin(NamedTuple):
    """A server.

    Attributes:
        scheme: `http` or `https`.
        host: its name or address.
        port: its port; None for the default of the scheme.
    """

    scheme: str
    host: str
    port: int | None


class Answer(NamedTuple):
    """A complete response.

    Attributes:
        status: the HTTP status.
        data: the body.
    """

    status: int
    data: bytes


class _SecureConnection(TimedConnection, HTTPSConnection):
    pass


class ConnectionPool:
    """Connections that are kept open between exchanges. Thread-safe; per process; no proxies.

    Args:
        limit: how many are kept open per server.
        make_tls: creates the TLS context, with the trusted certificates, when it is needed.
    """

    def __init__(self, limit: int, make_tls: Callable[[], ssl.SSLContext]) -> None:
        self._limit, self._make_tls = limit, make_tls
        self._idle: dict[Origin, deque[TimedConnection]] = {}
        weakref.finalize(self, _close_all, self._idle)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._make_tls()

    def take(self, origin: Origin) -> TimedConnection | None:
        """An open connection that was used before, if any."""
        idle = self._idle.get(origin)
        while idle:
            try:
                found = idle.pop()
            except IndexError:  # another thread was faster
                break
            if _is_silent(found):
                return found
            found.close()
        return None

    def connect(self, origin: Origin, timeout_s: float | None) -> TimedConnection:
        """Open a connection.

        Raises:
            TimeoutError: the server did not respond in time.
            OSError: it cannot be reached.
            UnicodeError: the host name is not valid.
        """
        if origin.scheme == "https":
            made: TimedConnection = _SecureConnection(
                origin.host, origin.port, timeout=timeout_s, context=self._tls
            )
        else:
            made = TimedConnection(origin.host, origin.port, timeout=timeout_s)
        made.connect()
        return made

    def keep(self, origin: Origin, connection: TimedConnection) -> None:
        """Keep a connection for another request, and close the oldest if there are too many."""
        idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        if len(idle) > self._limit:
            with suppress(IndexError):
                idle.popleft().close()

    def close(self) -> None:
        """Close all idle connections."""
        _close_all(self._idle)

    def exchange(
        self,
        method: str,
        origin: Origin,
        target: str,
        headers: Mapping[str, str],
        body: Bytes | None,
        *,
        timeout_s: float,
        connect_s: float,
    ) -> Answer:
        """Send a request and return the whole response, without its transfer coding.

        Args:
            method: the method, such as GET.
            origin: the server.
            target: the path and query, percent-encoded.
            headers: the request headers.
            body: the request body.
            timeout_s: the time for the exchange; see `Deadline`.
            connect_s: the time for connecting.

        Raises:
            TimeoutError: the server took too long.
            OSError: it cannot be reached, or it closed the connection.
            HTTPException: the response is not HTTP, is truncated, or has a content coding.
        """
        connection = self.take(origin) or self.connect(origin, connect_s)
        is_kept = False
        try:
            connection.clock = Deadline(timeout_s)
            answer = send_request(connection, method, target, body, headers)
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise HTTPException("the content came with a coding that was not asked for")
            data = answer.read()
            is_kept = not answer.will_close
        finally:
            if is_kept:
                self.keep(origin, connection)
            else:
                connection.close()
        return Answer(answer.status, data)


def send_request(
    connection: TimedConnection,
    method: str,
    target: str,
    body: Bytes | Iterable[bytes] | None,
    headers: Mapping[str, str],
) -> HTTPResponse:
    """Send a request, and read the head of the response."""
    with suppress(BrokenPipeError, ConnectionResetError):  # the response may say why
        connection.request(method, target, body, headers)
    return connection.getresponse()


def _is_silent(connection: HTTPConnection) -> bool:
    """Whether a kept connection is open and has received no unexpected data."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return not selector.select(0)


def _close_all(idle: dict[Origin, deque[TimedConnection]]) -> None:
    while idle:
        for connection in idle.popitem()[1]:
            connection.close()
