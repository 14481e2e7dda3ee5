"""A client of one trustless gateway: requests blocks and CARs, and maps its errors.

Knows HTTP and how long to avoid a failing gateway. Does not verify data; the caller does. Rules:
the Trustless Gateway specification of IPFS, and RFC 9110 for Retry-After.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Self
from urllib.request import getproxies

from versioned_zarr.backends.http.authorization import basic
from versioned_zarr.backends.http.retry_after import retry_after_s
from versioned_zarr.errors import CorruptError, InvalidUrlError, MissingDependencyError
from versioned_zarr.fork_local import ForkLocal
from versioned_zarr.ipld.car_v1 import SECTION_LIMIT_BYTES, Car, CarBlock
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.urls import User, take_user, without_user

try:
    import httpx

    from versioned_zarr.backends.http.http_transport import HttpTransport, timeout, why_not
except ImportError as error:
    raise MissingDependencyError(
        "snapshots from gateways need the package httpx; pip install 'versioned-zarr[ipfs]'",
        package="httpx",
        extra="ipfs",
    ) from error

CONNECTIONS = 16
_LEAST_BYTES_A_SECOND = 4096
_LONGEST_PAUSE_S = 300.0
_LIE_PAUSE_S = 60.0
_FORM = re.compile("[^?#]*")
_CAR = "application/vnd.ipld.car"
_RAW = "application/vnd.ipld.raw"


class GatewayError(Exception):
    """A gateway did not return what was requested. Package-internal.

    Attributes:
        pause_s: how long to avoid it, in seconds; doubles with each error.
        may_pass: whether the same request may succeed later.
    """

    def __init__(self, reason: str, pause_s: float = 5.0, *, may_pass: bool = False) -> None:
        super().__init__(reason)
        self.pause_s, self.may_pass = pause_s, may_pass


class AbsentError(GatewayError):
    """A gateway reports that it does not have a block; the gateway itself is fine."""


class NoCarError(Exception):
    """A gateway does not serve CARs, or not of this kind. Package-internal."""


class StoppedError(Exception):
    """Another gateway was faster. Package-internal."""


def lie(cid: Cid) -> GatewayError:
    """The error for a gateway that sends bytes other than the requested ones."""
    return GatewayError(f"sent bytes that are not block {to_text(cid)}", _LIE_PAUSE_S)


def _connect(headers: Mapping[str, str], limits: httpx.Timeout) -> httpx.Client:
    return httpx.Client(
        timeout=limits,
        limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        headers={"User-Agent": "versioned-zarr", "Accept-Encoding": "identity", **headers},
        follow_redirects=True,
        # Requests through a proxy are left to httpx.
        transport=None if getproxies() else HttpTransport(CONNECTIONS),
    )


class Gateway:
    """A gateway and its recent behavior. Thread-safe; a forked child opens new connections.

    Args:
        base_url: the URL before `/ipfs/CID`; may contain `USER:PASSWORD@`, which is never shown.
        timeout_s: how long the gateway may be silent, in seconds.

    Attributes:
        name: the base URL without credentials.
        base_url: the URL for requests, without credentials.
        headers: the credentials.
        has_car: whether it serves CARs, as far as is known.
        aside_until: until this time, of `time.monotonic`, other gateways are preferred.
        must_wait: whether an earlier request would break rate limits, rather than just fail.
    """

    def __init__(self, base_url: str, timeout_s: float) -> None:
        bare, user = _read(base_url)
        self.name = bare.rstrip("/")
        self.base_url = self.name.removesuffix("/ipfs")
        self.headers = {} if user is None else basic(user)
        self._timeout_s = timeout_s
        self.has_car = True
        self.aside_until = 0.0
        self.must_wait = False
        self._failures = 0
        self._client = ForkLocal(
            partial(_connect, self.headers, timeout(timeout_s)), httpx.Client.close
        )

    def __repr__(self) -> str:
        return f"Gateway({self.name!r})"

    # Recent behavior

    def did_well(self) -> None:
        """Record a success."""
        self._failures, self.aside_until, self.must_wait = 0, 0.0, False

    def did_badly(self, error: GatewayError) -> None:
        """Record a failure, and avoid the gateway for a while."""
        if isinstance(error, AbsentError):
            return
        pause_s = min(error.pause_s * 2**self._failures, _LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 8)
        self.aside_until = time.monotonic() + pause_s
        self.must_wait = error.may_pass

    # Requests

    def block(self, cid: Cid, stop: threading.Event) -> bytes:
        """The bytes of a block; not verified.

        Raises:
            GatewayError: the gateway did not return them.
            StoppedError: `stop` was set.
        """
        with self._answer(cid, _RAW, {"format": "raw"}, stop) as answer:
            return b"".join(answer.parts(SECTION_LIMIT_BYTES))

    def sections(
        self, cid: Cid, query: Mapping[str, str], stop: threading.Event, limit_bytes: int
    ) -> Iterator[CarBlock]:
        """The blocks of a CAR as they arrive; not verified.

        Args:
            cid: the root of the CAR.
            query: `dag-scope` and `entity-bytes`.
            stop: set when the rest is no longer needed.
            limit_bytes: reading stops after this many bytes.

        Raises:
            GatewayError: the response is not a CAR, or is truncated.
            NoCarError: the gateway does not serve CARs.
            StoppedError: `stop` was set.
        """
        accept = f"{_CAR}; version=1; order=dfs; dups=n"
        with self._answer(cid, accept, {"format": "car", **query}, stop) as answer:
            stream = _Stream(answer.parts(limit_bytes))
            try:
                yield from Car(stream, self.name).sections()
            except CorruptError as error:
                if stream.taken_bytes < limit_bytes:
                    raise GatewayError(
                        f"its answer is truncated or not a CAR ({error})", 1.0, may_pass=True
                    ) from error

    def _answer(
        self, cid: Cid, accept: str, query: Mapping[str, str], stop: threading.Event
    ) -> _GatewayResponse:
        request = self._client().build_request(
            "GET",
            f"{self.base_url}/ipfs/{to_text(cid)}",
            params=query,
            headers={"Accept": accept},
        )
        return _GatewayResponse(
            self._client(), request, accept.partition(";")[0], stop, self._timeout_s
        )


class _GatewayResponse:
    """A response while it is read; closes its connection if it is not read to the end."""

    def __init__(
        self,
        client: httpx.Client,
        request: httpx.Request,
        kind: str,
        stop: threading.Event,
        timeout_s: float,
    ) -> None:
        self._client, self._request, self._kind = client, request, kind
        self._stop, self._timeout_s = stop, timeout_s
        self._response: httpx.Response | None = None

    def __enter__(self) -> Self:
        try:
            self._response = self._client.send(self._request, stream=True)
        except httpx.HTTPError as error:
            raise GatewayError(f"no answer: {_in_words(error)}") from error
        try:
            self._check(self._response)
        except BaseException:
            self._response.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._response is not None:
            self._response.close()

    def _check(self, response: httpx.Response) -> None:
        code = response.status_code
        kind = response.headers.get("content-type", "").partition(";")[0].strip()
        if code == 200 and self._kind in {kind, _RAW}:
            return
        if self._kind == _CAR and code in {200, 400, 406, 415, 501}:
            raise NoCarError
        text = f"answered {code}"
        if code in {404, 410}:
            raise AbsentError(text)
        if code == 429 or code >= 500:
            pause_s = retry_after_s(response.headers.get("retry-after"))
            raise GatewayError(text, 0.25 if pause_s is None else pause_s, may_pass=True)
        raise GatewayError(text)

    def parts(self, limit_bytes: int) -> Iterator[bytes]:
        """The bytes as they arrive, up to a limit."""
        assert self._response is not None
        is_encoded = "content-encoding" in self._response.headers
        parts = self._response.iter_bytes() if is_encoded else self._response.iter_raw()
        began = time.monotonic()
        size = 0
        try:
            for part in parts:
                if self._stop.is_set():
                    raise StoppedError
                size += len(part)
                yield part
                if size > limit_bytes:
                    return
                spent_s = time.monotonic() - began
                if spent_s > self._timeout_s and size < spent_s * _LEAST_BYTES_A_SECOND:
                    raise GatewayError(f"sent only {size} bytes in {spent_s:.0f} seconds")
        except httpx.HTTPError as error:
            raise GatewayError(
                f"the connection broke during the answer: {_in_words(error)}",
                1.0,
                may_pass=not isinstance(error, httpx.TimeoutException),
            ) from error


class _Stream:
    """The parts of a response as a stream that `Car` reads.

    Attributes:
        taken_bytes: the number of bytes received so far.
    """

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._part = b""
        self._at = 0
        self.taken_bytes = 0

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while self._at >= len(self._part):
            part = next(self._parts, None)
            if part is None:
                return b""
            self._part, self._at = part, 0
            self.taken_bytes += len(part)
        start, self._at = self._at, self._at + size
        return self._part[start : self._at]


def _read(base_url: str) -> tuple[str, User | None]:
    """Split the URL of a gateway into the base URL without its user, and the user.

    Raises:
        InvalidUrlError: it is not the URL of a gateway.
    """
    bare, user = take_user(base_url) if "//" in base_url else (base_url, None)
    if why_not(bare) or not _FORM.fullmatch(bare):
        shown = without_user(base_url)
        if "//" not in base_url:
            shown = without_user(f"//{shown}").removeprefix("//")
        raise InvalidUrlError(
            f"{shown!r} is not a gateway; give its base URL, such as http://127.0.0.1:8080, or "
            "its multiaddr, such as /ip4/127.0.0.1/tcp/8080",
            url=shown,
        )
    return bare, user


def _in_words(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
