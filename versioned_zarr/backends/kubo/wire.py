"""httpx's requests over urllib3's connections, which cost a fraction of the interpreter's time.

A node answers in chunks of 4 KiB, and httpx's own reader takes 15 µs for each, as much as the node
does; a small request takes half the time. With a body of a known length, the system sends parts of
a pack as they lie in its file, without a copy.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from versioned_zarr.storage import FilePart

_PIECE_BYTES: Final = 64 << 10


class _SendsFiles(HTTPConnection):
    """A connection that lets the system send parts of files."""

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
    """The same with TLS, which needs a copy."""


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _SendsFiles


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SendsFilesSecurely


class Wire(httpx.BaseTransport):
    """A transport for `httpx.Client`. Thread-safe.

    Args:
        connections: how many are open at once; who needs another one waits.
    """

    def __init__(self, connections: int) -> None:
        self._pool = urllib3.PoolManager(maxsize=connections, block=True)
        self._pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See `httpx.BaseTransport.handle_request`."""
        timeout = request.extensions.get("timeout", {})
        with _as_httpx(request):
            answer = self._pool.urlopen(
                request.method,
                str(request.url),
                body=request.stream if "content-length" in request.headers else None,
                headers=dict(request.headers),
                timeout=urllib3.Timeout(timeout.get("connect"), timeout.get("read")),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
        return httpx.Response(
            answer.status,
            headers=list(answer.headers.items()),
            stream=_Stream(answer, request),
            request=request,
        )

    def close(self) -> None:
        """See `httpx.BaseTransport.close`."""
        self._pool.clear()


class _Stream(httpx.SyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, answer: urllib3.BaseHTTPResponse, request: httpx.Request) -> None:
        self._answer, self._request = answer, request

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx(self._request):
            yield from self._answer.stream(_PIECE_BYTES)

    def close(self) -> None:
        # What was not read to its end is of no use for another request.
        if not self._answer.closed:
            self._answer.close()
        self._answer.release_conn()


@contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    """Raise what urllib3 says of the network as httpx says it."""
    try:
        yield
    except urllib3.exceptions.ConnectTimeoutError as error:
        raise httpx.ConnectTimeout(str(error), request=request) from error
    except urllib3.exceptions.NewConnectionError as error:
        raise httpx.ConnectError(str(error), request=request) from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise httpx.ReadTimeout(str(error), request=request) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise httpx.RemoteProtocolError(str(error), request=request) from error
