"""Requests to a lakeFS server, over the lakeFS SDK's own transport.

The SDK resolves the server, signs, and keeps connections. Its model classes validate each object
of a listing, which costs more than the request: what is asked for thousands of times is read from
the JSON here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from versioned_zarr.backends.lakefs.credentials import Connection
from versioned_zarr.backends.lakefs.failures import (
    AnswerLostError,
    failure,
)
from versioned_zarr.backends.per_process import PerProcess
from versioned_zarr.errors import MissingDependencyError, StorageError
from versioned_zarr.storage import Bytes

try:
    import urllib3
    from lakefs_sdk.client import LakeFSClient
    from lakefs_sdk.configuration import Configuration

    from versioned_zarr.backends.lakefs.lines import Answer, Lines
except ImportError as error:
    raise MissingDependencyError(
        "repositories on lakeFS need the packages lakefs-sdk and PyYAML: "
        "pip install 'versioned-zarr[lakefs]'",
        package="lakefs-sdk",
        extra="lakefs",
    ) from error

Query: TypeAlias = Mapping[str, str | int | bool]

PAGE = 1000
"""The most entries that lakeFS gives, or takes, at a time."""
CONNECTIONS = 32
_TIMEOUT = urllib3.Timeout(connect=10, read=300)
_RETRY_STATUS = (423, 429, 503)
_REPEATABLE = urllib3.Retry(
    total=6,
    status_forcelist=_RETRY_STATUS,
    allowed_methods=None,
    backoff_factor=0.1,
    backoff_jitter=0.1,
    raise_on_status=False,
)
# Not sent again once it may have been done; a server that says "later" has not done it.
_ONCE = urllib3.Retry(
    total=6,
    read=0,
    other=0,
    status_forcelist=_RETRY_STATUS,
    allowed_methods=None,
    backoff_factor=0.1,
    backoff_jitter=0.1,
    raise_on_status=False,
)


class _Opened(NamedTuple):
    """What one process has open to a server."""

    client: LakeFSClient
    url: str
    pool: urllib3.PoolManager
    sign: Mapping[str, str]
    lines: Lines


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
    return _Opened(client, url, pool, sign, Lines(pool, url, sign, _TIMEOUT, CONNECTIONS))


class Transport:
    """How one repository of a lakeFS server is asked. Thread-safe; pickles and forks.

    Args:
        connection: the server and the credentials.
        repository: the name of the repository.
    """

    def __init__(self, connection: Connection, repository: str) -> None:
        self.connection, self.repository = connection, repository
        self.endpoint = connection.endpoint
        self._open = PerProcess(partial(_opened, connection))

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
        """Send a request; gives the answer, whatever it says.

        Args:
            method: as GET.
            path: below the API's own.
            what: what it is to do, for errors.
            query: of the URL.
            document: is sent as JSON.
            body: is sent as it is.
            headers: beside the usual ones.
            is_repeatable: whether it may be done twice.
            is_small: whether it is one of many, and answered with a length; see `Lines`. These
                are repeatable.

        Raises:
            AnswerLostError: it may have been done, and must not be sent again.
            StorageError: the server cannot be reached.
        """
        opened = self._open()
        if query:
            path = f"{path}?{'&'.join(f'{name}={_quoted(query[name])}' for name in query)}"
        own = dict(headers or {})
        if document is not None:
            body = json.dumps(document).encode()
            own["Content-Type"] = "application/json"
        if is_small:
            answer = opened.lines.exchange(method, path, own, body)
            if answer is not None:
                return answer
        url, sent = f"{opened.url}{path}", {**opened.sign, **own}
        found = self._exchange(method, url, what, body, sent, is_repeatable=is_repeatable)
        return Answer(found.status, found.data)

    def send_elsewhere(
        self, method: str, url: str, what: str, body: Bytes
    ) -> urllib3.BaseHTTPResponse:
        """Send a request to a URL that lakeFS signed, without its credentials.

        Raises:
            StorageError: what is there cannot be reached.
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
                timeout=_TIMEOUT,
                retries=_REPEATABLE if is_repeatable else _ONCE,
            )
        except urllib3.exceptions.HTTPError as error:
            cause = getattr(error, "reason", None) or error
            never_there = isinstance(cause, urllib3.exceptions.NewConnectionError)
            kind = StorageError if never_there or is_repeatable else AnswerLostError
            raise kind(
                f"lakeFS at {self.endpoint} does not answer: cannot {what}: {cause}; "
                "is the server up, and is this its address?"
            ) from error
        return answer

    def ask(self, method: str, path: str, what: str, **options: Any) -> Any:
        """As `send`; gives the JSON of a success, and raises what the server refuses."""
        answer = self.send(method, path, what, **options)
        if answer.status >= 300:
            raise failure(
                answer.status,
                answer.data,
                what=what,
                endpoint=self.endpoint,
                source=self.connection.source,
            )
        data = answer.data
        return json.loads(data) if data[:1] in (b"{", b"[") else data

    def within(self, path: str) -> str:
        """The path of an API call, below that of the repository."""
        return f"/repositories/{quote(self.repository, safe='')}{path}"

    def pages(
        self, path: str, what: str, query: Query, amount: int = PAGE
    ) -> Iterator[dict[str, Any]]:
        """All results of a listing; the next page is asked for while this one is used."""
        after = str(query.get("after", ""))

        def page(after: str) -> Any:
            asked = {**query, "amount": amount, "after": after}
            return self.ask("GET", path, what, query=asked)

        found = page(after)
        with ThreadPoolExecutor(1, "lakefs-page") as ahead:
            while True:
                pagination = found["pagination"]
                is_more = pagination["has_more"]
                following = ahead.submit(page, pagination["next_offset"]) if is_more else None
                yield from found["results"]
                if following is None:
                    return
                found = following.result()


def _quoted(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else quote(str(value), safe="")
