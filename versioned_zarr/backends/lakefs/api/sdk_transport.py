"""The SDK transport: sends requests to lakeFS through the lakeFS SDK's connections.

The SDK finds the server, and its connections retry and redirect. Its model classes validate each
object of a listing, which costs more than the request, so the JSON is parsed here. Requests for
single small objects use the package's own connections first, which need less of the interpreter's
time; if that fails, they are sent again through the SDK.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPException
from typing import Any, NamedTuple, Self, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

from versioned_zarr.backends.http.connection_pool import Answer, ConnectionPool, Origin
from versioned_zarr.backends.http.deadline import Deadline, TimedConnection, connect_timeout_s
from versioned_zarr.backends.lakefs.api.api_errors import (
    NO_ANSWER,
    WHO_ANSWERS,
    AnswerLateError,
    AnswerLostError,
    ForeignAnswerError,
    failure,
)
from versioned_zarr.backends.lakefs.api.credentials import Connection
from versioned_zarr.errors import MissingDependencyError, StorageError, VersionedZarrError
from versioned_zarr.fork_local import ForkLocal
from versioned_zarr.storage.protocol import Bytes

try:
    import urllib3
    from lakefs_sdk.client import LakeFSClient
    from lakefs_sdk.configuration import Configuration

except ImportError as error:
    raise MissingDependencyError(
        "repositories on lakeFS need the packages lakefs-sdk and PyYAML: "
        "pip install 'versioned-zarr[lakefs]'",
        package="lakefs-sdk",
        extra="lakefs",
    ) from error

_T = TypeVar("_T")
Query: TypeAlias = Mapping[str, str | int | bool]

PAGE = 1000
"""The maximum number of entries per lakeFS request."""
CONNECTIONS = 32
_RETRY_STATUS = (423, 429, 503)
_GATEWAY_TIMEOUT = 504
_FINAL = frozenset({200, 201, 204, 206, 400, 401, 403, 404, 409, 410, 412, 416})
"""Status codes that are neither a redirect nor a temporary failure."""


def _is_late(error: Exception) -> bool:
    """Whether an error of urllib3 means that a request timed out after it was sent."""
    return isinstance(error, urllib3.exceptions.ReadTimeoutError) or (
        isinstance(error, urllib3.exceptions.ProtocolError)
        and any(isinstance(cause, TimeoutError) for cause in error.args)
    )


class _Retry(urllib3.Retry):
    """Retries all requests except those that timed out: others would time out, too."""

    def increment(self, *args: Any, **options: Any) -> Self:
        """See `urllib3.Retry.increment`."""
        error: Exception | None = options.get("error")
        if error is not None and _is_late(error):
            raise error
        return super().increment(*args, **options)


_REPEATABLE = _Retry(
    total=6,
    status_forcelist=(*_RETRY_STATUS, 502, 504),
    allowed_methods=None,
    backoff_factor=0.1,
    backoff_jitter=0.1,
    raise_on_status=False,
)
# Not repeated if it may have been executed; a server that says "later" has not executed it.
_ONCE = _REPEATABLE.new(read=0, other=0, status_forcelist=_RETRY_STATUS)


# urllib3's types of connections depend on its own response classes.
class _Timed(TimedConnection, urllib3.connection.HTTPConnection):  # type: ignore[misc]  # see above
    """A connection of urllib3 with deadlines."""

    def __init__(self, *args: Any, exchange_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._exchange_s = exchange_s

    def request(self, *args: Any, **options: Any) -> None:
        """See `urllib3.connection.HTTPConnection.request`."""
        self.clock = Deadline(self._exchange_s)
        super().request(*args, **options)


class _TimedSecure(_Timed, urllib3.connection.HTTPSConnection):  # type: ignore[misc]  # as above
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Timed  # type: ignore[assignment]  # a protocol that leaves out what it has


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TimedSecure  # type: ignore[assignment]  # as above


class _Opened(NamedTuple):
    """The open connections of one process to a server."""

    client: LakeFSClient
    url: str
    pool: urllib3.PoolManager
    sign: Mapping[str, str]
    objects: ConnectionPool
    origin: Origin
    above: str


def _opened(reached: Connection) -> _Opened:
    configuration = Configuration(
        host=f"{reached.endpoint}/api/v1",
        username=reached.access_key_id,
        password=reached.secret_access_key,
    )
    configuration.connection_pool_maxsize = CONNECTIONS
    sign = urllib3.make_headers(
        basic_auth=f"{reached.access_key_id}:{reached.secret_access_key}",
        user_agent="versioned-zarr",
    )
    client = LakeFSClient(configuration)  # type: ignore[no-untyped-call]  # as generated
    url = client._api.configuration.host
    pool = client._api.rest_client.pool_manager
    made: dict[str, Any] = {
        "http": partial(_Pool, exchange_s=reached.timeout_s),
        "https": partial(_SecurePool, exchange_s=reached.timeout_s),
    }
    pool.pool_classes_by_scheme = made
    parts = urlsplit(url)
    origin = Origin(parts.scheme, parts.hostname or "", parts.port)
    objects = ConnectionPool(CONNECTIONS, ssl.create_default_context)
    return _Opened(client, url, pool, sign, objects, origin, parts.path)


def _timeout(reached: Connection) -> urllib3.Timeout:
    connect_s = connect_timeout_s(reached.timeout_s)
    return urllib3.Timeout(connect=connect_s, read=reached.timeout_s)


class Transport:
    """Sends requests for one repository to a lakeFS server. Thread-safe; pickles and forks.

    Args:
        connection: the server and the credentials.
        repository: the name of the repository.
    """

    def __init__(self, connection: Connection, repository: str) -> None:
        self.connection, self.repository = connection, repository
        self.endpoint = connection.endpoint
        self._open = ForkLocal(partial(_opened, connection))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.repository!r} at {self.endpoint}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.connection, self.repository)

    def send(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: Query | None = None,
        document: Mapping[str, Any] | None = None,
        body: Bytes | None = None,
        headers: Mapping[str, str] | None = None,
        is_repeatable: bool = True,
        is_small: bool = False,
    ) -> Answer:
        """Send a request; returns the response, also if it is an error.

        Args:
            method: the method, such as GET.
            path: the path below that of the API.
            what: the operation, for errors.
            query: the query of the URL.
            document: the body as JSON.
            body: the body as bytes.
            headers: in addition to the usual ones.
            is_repeatable: whether it may be executed twice.
            is_small: whether it is one of many requests for single objects. These are repeatable.

        Raises:
            AnswerLostError: it may have been executed, and must not be sent again.
            StorageError: the server cannot be reached.
        """
        opened = self._open()
        if query:
            path = f"{path}?{'&'.join(f'{name}={_quoted(query[name])}' for name in query)}"
        own = dict(headers or {})
        if document is not None:
            body = json.dumps(document).encode()
            own["Content-Type"] = "application/json"
        sent = {**opened.sign, **own}
        if is_small:
            answer = self._exchange_small(method, f"{opened.above}{path}", what, body, sent)
            if answer is not None:
                return answer
        url = f"{opened.url}{path}"
        found = self._exchange(method, url, what, body, sent, is_repeatable=is_repeatable)
        return Answer(found.status, found.data)

    def _exchange_small(
        self, method: str, target: str, what: str, body: Bytes | None, headers: Mapping[str, str]
    ) -> Answer | None:
        """Send a request over a connection of ours; None if the SDK must send it again."""
        opened, timeout_s = self._open(), self.connection.timeout_s
        try:
            answer = opened.objects.exchange(
                method,
                opened.origin,
                target,
                headers,
                body,
                timeout_s=timeout_s,
                connect_s=connect_timeout_s(timeout_s),
            )
        except TimeoutError as error:
            raise self._unreachable(StorageError, what, error) from error
        except (OSError, HTTPException, UnicodeError):
            return None
        return answer if answer.status in _FINAL else None

    def send_elsewhere(
        self, method: str, url: str, what: str, body: Bytes
    ) -> urllib3.BaseHTTPResponse:
        """Send a request to a presigned URL, without the credentials of lakeFS.

        Raises:
            StorageError: the server cannot be reached.
        """
        return self._exchange(method, url, what, body, {}, is_repeatable=True)

    def _exchange(
        self,
        method: str,
        url: str,
        what: str,
        body: Bytes | None,
        headers: Mapping[str, str],
        *,
        is_repeatable: bool,
    ) -> urllib3.BaseHTTPResponse:
        try:
            answer: urllib3.BaseHTTPResponse = self._open().pool.request(
                method,
                url,
                body=body if body is None else bytes(body),
                headers=headers,
                timeout=_timeout(self.connection),
                retries=_REPEATABLE if is_repeatable else _ONCE,
            )
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            never_there = isinstance(cause, urllib3.exceptions.NewConnectionError)
            kind = StorageError
            if not (never_there or is_repeatable):
                kind = AnswerLateError if _is_late(error) else AnswerLostError
            raise self._unreachable(kind, what, cause) from error
        return answer

    def _unreachable(
        self, kind: type[StorageError], what: str, cause: BaseException
    ) -> StorageError:
        return kind(
            f"lakeFS at {self.endpoint} does not answer: cannot {what}: {cause}; "
            "is the server up, and is this its address?"
        )

    def ask(self, method: str, path: str, what: str, **options: Any) -> None:
        """Like `send`; raises an error if the server rejects the request.

        Raises:
            VersionedZarrError: see `failure`.
            AnswerLostError: the response is not from lakeFS, and the request must not be repeated.
            StorageError: the response is not from lakeFS.
        """
        data = self._succeed(method, path, what, **options)
        if data.lstrip()[:1] == b"<":
            raise self._foreign(data, what, **options)

    def get(
        self, method: str, path: str, what: str, read: Callable[[Any], _T], **options: Any
    ) -> _T:
        """Like `ask`; returns the parsed JSON of the response."""
        data = self._succeed(method, path, what, **options)
        try:
            return read(json.loads(data))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise self._foreign(data, what, **options) from error

    def _succeed(self, method: str, path: str, what: str, **options: Any) -> bytes:
        answer = self.send(method, path, what, **options)
        if answer.status >= 300:
            error = self.refusal(answer, what)
            if answer.status >= 500 and not options.get("is_repeatable", True):
                kind = AnswerLateError if answer.status == _GATEWAY_TIMEOUT else AnswerLostError
                raise kind(str(error)) from error  # an earlier attempt may have been executed
            raise error
        return answer.data

    def refusal(self, answer: Answer, what: str) -> VersionedZarrError:
        """The error for a response that is not a success."""
        source = self.connection.source
        return failure(answer.status, answer.data, what=what, endpoint=self.endpoint, source=source)

    def _foreign(self, data: bytes, what: str, **options: Any) -> StorageError:
        kind = ForeignAnswerError if options.get("is_repeatable", True) else AnswerLostError
        return kind(
            f"lakeFS at {self.endpoint} did not {what}: {NO_ANSWER} {data[:80]!r}{WHO_ANSWERS}"
        )

    def within(self, path: str) -> str:
        """The path of an API call below that of the repository."""
        return f"/repositories/{quote(self.repository, safe='')}{path}"

    def pages(
        self, path: str, what: str, read: Callable[[Any], _T], query: Query, amount: int = PAGE
    ) -> Iterator[_T]:
        """All results of a listing, each as it is parsed; the next page is requested meanwhile."""
        after = str(query.get("after", ""))

        def page(after: str) -> tuple[list[_T], str | None]:
            asked = {**query, "amount": amount, "after": after}
            return self.get("GET", path, what, _page, query=asked)

        def _page(found: Any) -> tuple[list[_T], str | None]:
            pagination = found["pagination"]
            following = str(pagination["next_offset"]) if pagination["has_more"] else None
            return [*map(read, found["results"])], following

        results, following = page(after)
        with ThreadPoolExecutor(1, "lakefs-page") as ahead:
            while following is not None:
                next_page = ahead.submit(page, following)
                yield from results
                results, following = next_page.result()
            yield from results


def _quoted(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else quote(str(value), safe="")
