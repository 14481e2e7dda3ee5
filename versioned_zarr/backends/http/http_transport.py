"""An HTTP transport for httpx that streams responses over the standard library's sockets.

Nodes and gateways send 4 KiB at a time. httpx takes 15 µs of the interpreter's time for each, as
much as the node does; this takes 1 µs, and reads all available data at once. If the length of a
body is known, the system sends parts of a pack directly from its file, without a copy.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Final, cast

import httpx

from versioned_zarr.backends.http.connection_pool import ConnectionPool, Origin, send_request
from versioned_zarr.backends.http.content_coding import Decode, taken_off
from versioned_zarr.backends.http.deadline import (
    Deadline,
    TimedConnection,
    check_timeout,
    connect_timeout_s,
)
from versioned_zarr.backends.http.transfer_coding import PIECE_BYTES, Receive, without_coding
from versioned_zarr.blocks.semaphore import Permit, Semaphore

_LONGEST_LABEL = 63
_OF_CODED: Final = ("content-encoding", "content-length")
"""Headers that are no longer true once the content coding is removed."""


class HttpTransport(httpx.BaseTransport):
    """A transport for `httpx.Client`. Thread-safe; per process; without proxies.

    An exchange, from the first byte of the request to the last byte of the response, takes at most
    the timeout, plus the time for its bytes at 4 KiB a second. Content codings are removed from
    responses. An interrupt at any point loses no permit.

    Args:
        connections: the maximum number in use at once; further requests wait. The same number of
            idle connections is kept open per server.
    """

    def __init__(self, connections: int) -> None:
        self.turns = Semaphore(connections)
        self.pool = ConnectionPool(connections, _trusted)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport.handle_request`."""
        origin = Origin(request.url.scheme, request.url.raw_host.decode("ascii"), request.url.port)
        use = _Use(self.pool, origin, self.turns.take())
        try:
            use.connection = self.pool.take(origin) or self._connect(origin, request)
            with _as_httpx(request):
                answer = _exchange(use.connection, request)
                coding = taken_off(answer.headers.get_all("content-encoding", []))
            headers = [
                _as_sent(field)
                for field in answer.headers.items()
                if not (coding and field[0].lower() in _OF_CODED)
            ]
            body = _Body(answer, request, use, coding)
            return httpx.Response(answer.status, headers=headers, stream=body, request=request)
        except BaseException:
            use.end(is_kept=False)
            raise

    def _connect(self, origin: Origin, request: httpx.Request) -> TimedConnection:
        if origin.scheme not in {"http", "https"}:
            raise httpx.UnsupportedProtocol(f"{origin.scheme!r} is not HTTP", request=request)
        try:
            return self.pool.connect(origin, request.extensions.get("timeout", {}).get("connect"))
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error), request=request) from error
        except (OSError, UnicodeError) as error:  # UnicodeError: the host name is not valid
            raise httpx.ConnectError(str(error), request=request) from error

    def close(self) -> None:
        """See `httpx.BaseTransport.close`."""
        self.pool.close()


class _Use:
    """The permit of one request, and its connection."""

    def __init__(self, pool: ConnectionPool, origin: Origin, turn: Permit) -> None:
        self._pool, self._origin, self._turn = pool, origin, turn
        self.connection: TimedConnection | None = None

    def end(self, *, is_kept: bool) -> None:
        """Release the permit."""
        connection, self.connection = self.connection, None
        try:
            if connection is not None and is_kept:
                self._pool.keep(self._origin, connection)
            elif connection is not None:
                connection.close()
        finally:
            self._turn.end()


def why_not(url: str) -> str:
    """Why a URL without a user cannot be requested; empty if it can."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        return str(error)
    if parsed.scheme not in {"http", "https"}:
        return "its scheme is not HTTP"
    if not parsed.host:
        return "it has no host"
    labels = parsed.raw_host.removesuffix(b".").split(b".")
    if ":" not in parsed.host and not all(0 < len(label) <= _LONGEST_LABEL for label in labels):
        return f"a part of its host is empty or has more than {_LONGEST_LABEL} characters"
    return ""


def timeout(timeout_s: float) -> httpx.Timeout:
    """The timeouts for httpx: of an exchange without its bytes, and slightly less to connect.

    Raises:
        InvalidInputError: it is not a valid timeout.
    """
    check_timeout(timeout_s)
    return httpx.Timeout(timeout_s, connect=connect_timeout_s(timeout_s))


def _trusted() -> ssl.SSLContext:
    """Trust the certificates of httpx and those of the system."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    return context


def _exchange(connection: TimedConnection, request: httpx.Request) -> HTTPResponse:
    """Send a request, and read the head of the response."""
    connection.clock = Deadline(request.extensions.get("timeout", {}).get("read"))
    body = cast("Iterable[bytes]", request.stream) if "content-length" in request.headers else None
    target = request.url.raw_path.decode("ascii")
    return send_request(connection, request.method, target, body, dict(request.headers))


def _as_sent(field: tuple[str, str]) -> tuple[bytes, bytes]:
    """The raw bytes of a header's name and value; RFC 9110, 5.5."""
    name, value = field
    return name.encode("latin-1"), value.encode("latin-1")


class _Body(httpx.SyncByteStream):
    """The body of a response as it arrives, without its content coding."""

    def __init__(
        self, answer: HTTPResponse, request: httpx.Request, use: _Use, coding: Decode | None
    ) -> None:
        self._answer, self._request, self._use, self._coding = answer, request, use, coding
        self._is_read = False

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx(self._request):
            parts = self._parts()
            yield from parts if self._coding is None else self._coding(parts)
        self._is_read = True

    def _parts(self) -> Iterator[bytes]:
        receive: Receive = self._answer.fp.read1
        if self._answer.chunked:
            return without_coding(receive)
        return _up_to(self._answer.length, receive)

    def close(self) -> None:
        # A connection whose response was not read to the end cannot be reused.
        is_kept = not self._answer.will_close and (self._is_read or self._answer.length == 0)
        self._answer.close()
        self._use.end(is_kept=is_kept)


def _up_to(length: int | None, receive: Receive) -> Iterator[bytes]:
    """Up to this many bytes, or all before the end."""
    left = length
    while left is None or left:
        piece = receive(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
        if piece:
            yield piece
        elif left is None:
            return
        else:
            raise HTTPException(f"{left} of {length} bytes are missing")
        if left is not None:
            left -= len(piece)


@contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    """Convert network errors of the standard library to those of httpx."""
    try:
        yield
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except (HTTPException, OSError) as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error
