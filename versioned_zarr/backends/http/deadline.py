"""The deadline of an HTTP exchange, from the first byte sent to the last byte received.

A timeout for each wait is no limit: a server that sends one byte before each timeout could continue
forever. Here the whole exchange has a time limit, to which each byte sent or received adds what it
would take on a slow line.
"""

from __future__ import annotations

import errno
import io
import socket
import ssl
import time
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from typing import TYPE_CHECKING, Any, Final

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.storage.protocol import Bytes, FilePart

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LEAST_BYTES_A_SECOND: Final = 4096
"""The minimum average rate: a slower exchange ends once the timeout has passed as well."""
_LONGEST_TIMEOUT_S: Final = 1_000_000
"""The maximum timeout that the operating system supports."""
_CONNECT_TIMEOUT_S: Final = 10.0
_PIECE_BYTES: Final = 256 << 10


def check_timeout(timeout_s: float) -> None:
    """Make sure that a number is a valid timeout.

    Raises:
        InvalidInputError: it is not.
    """
    given: object = timeout_s
    is_time = isinstance(given, (int, float)) and 0 < given <= _LONGEST_TIMEOUT_S
    if not is_time:
        raise InvalidInputError(
            f"timeout_s must be more than 0 and at most {_LONGEST_TIMEOUT_S:,} seconds, not "
            f"{timeout_s!r}"
        )


def connect_timeout_s(timeout_s: float) -> float:
    """The time to wait for a connection to one address of a server, in seconds."""
    return min(_CONNECT_TIMEOUT_S, timeout_s)


class Deadline:
    """The time that is left for an exchange.

    Args:
        timeout_s: the time without its bytes, in seconds; None for no limit.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._ends_s = None if timeout_s is None else time.monotonic() + timeout_s

    def moved(self, size_bytes: int) -> None:
        """Record bytes that were sent or received."""
        if self._ends_s is not None:
            self._ends_s += size_bytes / LEAST_BYTES_A_SECOND

    def left_s(self) -> float | None:
        """The maximum time of the next wait.

        Raises:
            TimeoutError: there is no time left.
        """
        if self._ends_s is None or self._timeout_s is None:
            return None
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(
                f"the transfer was slower than {LEAST_BYTES_A_SECOND} bytes per second for more "
                f"than {self._timeout_s:g} s"
            )
        return min(left_s, self._timeout_s)


class Received(io.RawIOBase):
    """The data from a socket as a stream with a deadline.

    Args:
        sock: the socket; it is kept open when this is closed.
        clock: the deadline of the exchange.
    """

    def __init__(self, sock: socket.socket, clock: Deadline) -> None:
        self._sock, self._clock = sock, clock
        # The socket lives as long as this, even if the connection is closed.
        self._held = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """See `io.IOBase.readable`."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """See `io.RawIOBase.readinto`."""
        self._sock.settimeout(self._clock.left_s())
        size = self._sock.recv_into(buffer)
        self._clock.moved(size)
        return size

    def close(self) -> None:
        """See `io.IOBase.close`."""
        if not self.closed:
            self._held.close()
        super().close()


class TimedConnection(HTTPConnection):
    """A connection with deadlines, which can send files without a copy.

    A base class for connections of `http.client` and of urllib3.

    Attributes:
        clock: the deadline of the current exchange.
    """

    clock: Deadline

    def send(self, data: Any) -> None:
        """See `http.client.HTTPConnection.send`; with TLS, parts of files are copied."""
        if self.sock is None:
            self.connect()
        if isinstance(data, FilePart):
            send_file(self.sock, data, self.clock)
        elif isinstance(data, (bytes, bytearray, memoryview)):
            send_bytes(self.sock, data, self.clock)
        else:
            super().send(data)

    def getresponse(self) -> HTTPResponse:
        """See `http.client.HTTPConnection.getresponse`."""
        self.response_class = partial(_TimedResponse, self.clock)  # type: ignore[assignment]  # as it is used
        return super().getresponse()


class _TimedResponse(HTTPResponse):
    """A response with a deadline."""

    def __init__(self, clock: Deadline, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self.fp = io.BufferedReader(Received(sock, clock))


def send_bytes(sock: socket.socket, data: Bytes, clock: Deadline) -> None:
    """Send bytes.

    Raises:
        TimeoutError: it took too long.
    """
    view = memoryview(data)
    for start in range(0, len(view), _PIECE_BYTES):
        piece = view[start : start + _PIECE_BYTES]
        sock.settimeout(clock.left_s())
        sock.sendall(piece)
        clock.moved(len(piece))


def receive_bytes(sock: socket.socket, limit_bytes: int, clock: Deadline) -> bytes:
    """Receive some bytes; none at the end.

    Raises:
        TimeoutError: it took too long.
    """
    sock.settimeout(clock.left_s())
    data = sock.recv(limit_bytes)
    clock.moved(len(data))
    return data


def send_file(sock: socket.socket, part: FilePart, clock: Deadline) -> None:
    """Send part of a file, without a copy unless TLS needs one.

    Raises:
        TimeoutError: it took too long.
        OSError: the file is too short.
    """
    at, size = 0, len(part)
    is_copied = isinstance(sock, ssl.SSLSocket)
    while at < size:
        if is_copied:
            data = part.read(at, _PIECE_BYTES)
            send_bytes(sock, data, clock)
            sent = len(data)
        else:
            try:
                sent = part.send(sock, at, clock.left_s())
            except BlockingIOError:
                continue
            clock.moved(sent)
        if not sent:
            raise OSError(errno.EIO, f"only {at} of {size} bytes could be read")
        at += sent
