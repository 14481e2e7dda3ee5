"""httpx's requests over connections of the standard library, for answers that come in many pieces.

A node and a gateway send 4 KiB at a time. httpx's own reader takes 15 µs of the interpreter's time
for each, as much as the node does; here that takes 1 µs, and whatever has come is taken at once.
With a body of a known length, the system sends parts of a pack as they lie in its file, without a
copy.
"""

from __future__ import annotations

import errno
import functools
import selectors
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any, NamedTuple, cast

import httpx

from versioned_zarr.backends.transfer_coding import PIECE_BYTES, Receive, without_coding
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.storage import FilePart

_LONGEST_LABEL = 63
_LONGEST_TIMEOUT_S = 1_000_000
"""What the system's own clocks for waiting can hold."""


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int | None


class _SendsFiles(HTTPConnection):
    """A connection that lets the system send parts of files; with TLS, that takes a copy."""

    def send(self, data: Any) -> None:
        """See `http.client.HTTPConnection.send`."""
        if isinstance(data, FilePart):
            # A file object of its own, as its position is set.
            with open(data.fd, "rb", buffering=0, closefd=False) as file:
                sent = self.sock.sendfile(file, data.start, len(data))
            if sent != len(data):
                raise OSError(errno.EIO, f"{sent} of {len(data)} bytes could be read")
        else:
            super().send(data)


class _SendsFilesSecurely(_SendsFiles, HTTPSConnection):
    pass


class Wire(httpx.BaseTransport):
    """A transport for `httpx.Client`. Thread-safe; of one process; knows no proxies.

    Args:
        connections: how many are in use at once, and who needs another one waits; of those that
            are not, as many stay open.
    """

    def __init__(self, connections: int) -> None:
        self._free = threading.Semaphore(connections)
        self._limit = connections
        self._idle: list[tuple[_Origin, HTTPConnection]] = []
        self._guard = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport.handle_request`."""
        origin = _Origin(request.url.scheme, request.url.raw_host.decode("ascii"), request.url.port)
        self._free.acquire()
        connection = None
        try:
            connection = self._take(origin) or self._connect(origin, request)
            with _as_httpx(request):
                answer = _exchange(connection, request)
            return httpx.Response(
                answer.status,
                headers=[_as_sent(field) for field in answer.headers.items()],
                stream=_Body(
                    answer, request, lambda kept: self._end(origin, connection, is_kept=kept)
                ),
                request=request,
            )
        except BaseException:
            self._end(origin, connection, is_kept=False)
            raise

    def _take(self, origin: _Origin) -> HTTPConnection | None:
        """A connection that was used before and is open still."""
        while True:
            with self._guard:
                numbers = [n for n, (whose, _) in enumerate(self._idle) if whose == origin]
                if not numbers:
                    return None
                _, found = self._idle.pop(numbers[-1])
            if _is_silent(found):
                return found
            found.close()

    def _connect(self, origin: _Origin, request: httpx.Request) -> HTTPConnection:
        timeout_s = request.extensions.get("timeout", {}).get("connect")
        if origin.scheme == "https":
            made: HTTPConnection = _SendsFilesSecurely(
                origin.host, origin.port, timeout=timeout_s, context=self._tls
            )
        elif origin.scheme == "http":
            made = _SendsFiles(origin.host, origin.port, timeout=timeout_s)
        else:
            raise httpx.UnsupportedProtocol(f"{origin.scheme!r} is not HTTP", request=request)
        try:
            made.connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error), request=request) from error
        except (OSError, UnicodeError) as error:  # the latter of what can be no host's name
            raise httpx.ConnectError(str(error), request=request) from error
        return made

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        """Whom to believe: those whom httpx believes, and those whom the system does."""
        context = httpx.create_ssl_context()
        context.load_default_certs()
        return context

    def _end(self, origin: _Origin, connection: HTTPConnection | None, *, is_kept: bool) -> None:
        """Let another request have its turn."""
        dropped = connection
        if connection is not None and is_kept:
            with self._guard:
                self._idle.append((origin, connection))
                dropped = self._idle.pop(0)[1] if len(self._idle) > self._limit else None
        if dropped is not None:
            dropped.close()
        self._free.release()

    def close(self) -> None:
        """See `httpx.BaseTransport.close`."""
        with self._guard:
            while self._idle:
                self._idle.pop()[1].close()


def why_not(url: str) -> str:
    """Why no request can be sent to a URL, in which no user is; nothing if one can."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        return str(error)
    if parsed.scheme not in {"http", "https"}:
        return "it is not of HTTP"
    if not parsed.host:
        return "it names no host"
    labels = parsed.raw_host.removesuffix(b".").split(b".")
    if ":" not in parsed.host and not all(0 < len(label) <= _LONGEST_LABEL for label in labels):
        return f"a part of its host has none or more than {_LONGEST_LABEL} letters"
    return ""


def timeout(timeout_s: float) -> httpx.Timeout:
    """How long a server may be silent, and a little less for its being reached.

    Raises:
        InvalidInputError: it is no time to wait.
    """
    given: object = timeout_s
    is_time = isinstance(given, (int, float)) and 0 < given <= _LONGEST_TIMEOUT_S
    if not is_time:
        raise InvalidInputError(
            f"timeout_s must be more than 0 and at most {_LONGEST_TIMEOUT_S:,} seconds, not "
            f"{timeout_s!r}"
        )
    return httpx.Timeout(timeout_s, connect=min(10.0, timeout_s))


def _is_silent(connection: HTTPConnection) -> bool:
    """Whether a kept connection is open, and nothing came on it that nobody asked for."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return not selector.select(0)


def _exchange(connection: HTTPConnection, request: httpx.Request) -> HTTPResponse:
    """Send a request, and read the head of its answer."""
    connection.sock.settimeout(request.extensions.get("timeout", {}).get("read"))
    body = cast("Iterable[bytes]", request.stream) if "content-length" in request.headers else None
    target = request.url.raw_path.decode("ascii")
    with suppress(BrokenPipeError, ConnectionResetError):  # it may have said why before it hung up
        connection.request(request.method, target, body, dict(request.headers))
    return connection.getresponse()


def _as_sent(field: tuple[str, str]) -> tuple[bytes, bytes]:
    """A header's name and value as they came, whatever bytes they hold; RFC 9110, 5.5."""
    name, value = field
    return name.encode("latin-1"), value.encode("latin-1")


class _Body(httpx.SyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(
        self, answer: HTTPResponse, request: httpx.Request, end: Callable[[bool], None]
    ) -> None:
        self._answer, self._request = answer, request
        self._end: Callable[[bool], None] | None = end
        self._is_read = False

    def __iter__(self) -> Iterator[bytes]:
        receive: Receive = self._answer.fp.read1
        with _as_httpx(self._request):
            if self._answer.chunked:
                yield from without_coding(receive)
            else:
                yield from _up_to(self._answer.length, receive)
        self._is_read = True

    def close(self) -> None:
        if self._end is None:
            return
        end, self._end = self._end, None
        # What was not read to its end is of no use for another request.
        is_kept = not self._answer.will_close and (self._is_read or self._answer.length == 0)
        self._answer.close()
        end(is_kept)


def _up_to(length: int | None, receive: Receive) -> Iterator[bytes]:
    """So many bytes, or all that come before the end."""
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
    """Raise what the standard library says of the network as httpx says it."""
    try:
        yield
    except TimeoutError as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except (HTTPException, OSError) as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error
