"""The deadline of an HTTP exchange, from the first byte sent to the last byte received.

A time for each single wait bounds nothing: a server that sends one byte before each ends never
would be waited for as long as it likes. Here the whole has a time, to which every byte that moves
either way adds what it would take on a slow line.
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
"""On average: what is slower ends, once the time for silence has passed as well."""
_LONGEST_TIMEOUT_S: Final = 1_000_000
"""What the system's own clocks for waiting can hold."""
_CONNECT_TIMEOUT_S: Final = 10.0
_PIECE_BYTES: Final = 256 << 10


def check_timeout(timeout_s: float) -> None:
    """Make sure that a number is a time to wait.

    Raises:
        InvalidInputError: it is none.
    """
    given: object = timeout_s
    is_time = isinstance(given, (int, float)) and 0 < given <= _LONGEST_TIMEOUT_S
    if not is_time:
        raise InvalidInputError(
            f"timeout_s must be more than 0 and at most {_LONGEST_TIMEOUT_S:,} seconds, not "
            f"{timeout_s!r}"
        )


def connect_timeout_s(timeout_s: float) -> float:
    """How long to wait for a connection to one address of a server, in seconds."""
    return min(_CONNECT_TIMEOUT_S, timeout_s)


class Deadline:
    """The time that an exchange has left.

    Args:
        timeout_s: how long it may take without its bytes, in seconds; None for ever.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self._timeout_s = timeout_s
        self._ends_s = None if timeout_s is None else time.monotonic() + timeout_s

    def moved(self, size_bytes: int) -> None:
        """Take note of bytes that were sent or received."""
        if self._ends_s is not None:
            self._ends_s += size_bytes / LEAST_BYTES_A_SECOND

    def left_s(self) -> float | None:
        """How long the next wait may be.

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
    """What comes from a socket, as a stream that is read in time.

    Args:
        sock: the socket; stays open when this is closed.
        clock: that of the exchange.
    """

    def __init__(self, sock: socket.socket, clock: Deadline) -> None:
        self._sock, self._clock = sock, clock
        # As long as this lives the socket does, whoever closes the connection.
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
    """A connection whose exchanges end in time, and which lets the system send parts of files.

    A base for classes of `http.client` and of urllib3.

    Attributes:
        clock: that of the exchange that is under way.
    """

    clock: Deadline

    def send(self, data: Any) -> None:
        """See `http.client.HTTPConnection.send`; with TLS, a part of a file takes a copy."""
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
    """An answer that is read in time."""

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
    """Send part of a file as it lies there, without a copy unless TLS needs one.

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
