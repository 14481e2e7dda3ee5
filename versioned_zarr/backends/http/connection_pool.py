"""A pool of HTTP/1.1 connections of the standard library, to any number of servers.

Requests to Kubo nodes, gateways and lakeFS's single objects go over these. The lakeFS SDK sends the
rest of what lakeFS is asked, and httpx speaks with gateways behind a proxy.
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
        port: its port; None for that of the scheme.
    """

    scheme: str
    host: str
    port: int | None


class Answer(NamedTuple):
    """A whole response.

    Attributes:
        status: the HTTP status.
        data: the body.
    """

    status: int
    data: bytes


class _SecureConnection(TimedConnection, HTTPSConnection):
    pass


class ConnectionPool:
    """Connections that stay open between exchanges. Thread-safe; of one process; no proxies.

    Args:
        limit: how many stay open for each server.
        make_tls: makes the context that says which certificates to trust, when one is needed.
    """

    def __init__(self, limit: int, make_tls: Callable[[], ssl.SSLContext]) -> None:
        self._limit, self._make_tls = limit, make_tls
        self._idle: dict[Origin, deque[TimedConnection]] = {}
        weakref.finalize(self, _close_all, self._idle)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._make_tls()

    def take(self, origin: Origin) -> TimedConnection | None:
        """An open connection that was used before, if there is one."""
        idle = self._idle.get(origin)
        while idle:
            try:
                found = idle.pop()
            except IndexError:  # another thread took it
                break
            if _is_silent(found):
                return found
            found.close()
        return None

    def connect(self, origin: Origin, timeout_s: float | None) -> TimedConnection:
        """Open a connection.

        Raises:
            TimeoutError: the server did not answer in time.
            OSError: it cannot be reached.
            UnicodeError: no host can have such a name.
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
        """Keep a connection open for another request, and close the oldest of too many."""
        idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        if len(idle) > self._limit:
            with suppress(IndexError):
                idle.popleft().close()

    def close(self) -> None:
        """Close all connections that no exchange uses."""
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
        """Send a request and return the whole answer, without the coding of transfer.

        Args:
            method: such as GET.
            origin: the server.
            target: path and query, percent-encoded.
            headers: of the request.
            body: what is sent with it.
            timeout_s: how long the exchange may take; see `Deadline`.
            connect_s: how long a connection may take.

        Raises:
            TimeoutError: the server took too long.
            OSError: it cannot be reached, or it hung up.
            HTTPException: its answer is no HTTP, ends too early, or has a content coding.
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
    """Send a request, and read the head of its answer."""
    with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before it hung up
        connection.request(method, target, body, headers)
    return connection.getresponse()


def _is_silent(connection: HTTPConnection) -> bool:
    """Whether a kept connection is open, and nothing came on it that nobody asked for."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return not selector.select(0)


def _close_all(idle: dict[Origin, deque[TimedConnection]]) -> None:
    while idle:
        for connection in idle.popitem()[1]:
            connection.close()
