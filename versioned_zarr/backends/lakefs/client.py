"""The lakeFS HTTP API, as far as this backend speaks it, over the lakeFS SDK's own transport.

The SDK resolves the server, signs, and keeps connections. Its model classes validate each object
of a listing, which costs more than the request: what is asked for thousands of times is read from
the JSON here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, urlencode

from versioned_zarr.backends.lakefs.credentials import Connection
from versioned_zarr.backends.lakefs.failures import (
    AnswerLostError,
    PreconditionFailedError,
    failure,
)
from versioned_zarr.errors import (
    KeyNotFoundError,
    MissingDependencyError,
    RefNotFoundError,
    StorageError,
)
from versioned_zarr.storage import Bytes

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

__all__ = [
    "AnswerLostError",
    "Change",
    "LakefsClient",
    "LakefsCommit",
    "PreconditionFailedError",
    "Stat",
]

Query: TypeAlias = Mapping[str, str | int | bool]

PAGE = 1000
"""The most entries that lakeFS gives, or takes, at a time."""
CONNECTIONS = 32
_META = "x-lakefs-meta-"
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


class Stat(NamedTuple):
    """An object.

    Attributes:
        path: where it lies in the lakeFS repository.
        size: its length in bytes.
        checksum: what lakeFS tells its content by.
        mtime: when it was written, in seconds since 1970.
        metadata: its user metadata.
        physical_address: where lakeFS stores it.
    """

    path: str
    size: int
    checksum: str
    mtime: int
    metadata: Mapping[str, str]
    physical_address: str


class LakefsCommit(NamedTuple):
    """A commit of lakeFS.

    Attributes:
        id: 64 hexadecimal digits.
        parents: the ids of those before it.
        committer: who made it.
        message: why.
        creation_date: when, in seconds since 1970.
        metadata: what was given with it.
    """

    id: str
    parents: tuple[str, ...]
    committer: str
    message: str
    creation_date: int
    metadata: Mapping[str, str]


class Change(NamedTuple):
    """A path that differs.

    Attributes:
        path: which.
        kind: "added", "removed", "changed", or "conflict".
    """

    path: str
    kind: str


class LakefsClient:
    """One repository of a lakeFS server. Thread-safe; pickles and forks.

    Args:
        connection: the server and the credentials.
        repository: the name of the repository.
    """

    def __init__(self, connection: Connection, repository: str) -> None:
        self.connection, self.repository = connection, repository
        self.endpoint = connection.endpoint
        self._sdk: tuple[int, LakeFSClient, Mapping[str, str]] | None = None

    def __repr__(self) -> str:
        return f"<LakefsClient {self.repository!r} at {self.endpoint}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return LakefsClient, (self.connection, self.repository)

    # The transport

    def _client(self) -> tuple[LakeFSClient, Mapping[str, str]]:
        process = os.getpid()
        if self._sdk is None or self._sdk[0] != process:
            reached = self.connection
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
            self._sdk = (process, LakeFSClient(configuration), sign)  # type: ignore[no-untyped-call]
        return self._sdk[1], self._sdk[2]

    def _send(
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
    ) -> urllib3.BaseHTTPResponse:
        """Send a request; gives the answer, whatever it says.

        Raises:
            AnswerLostError: it may have been done, and must not be sent again.
            StorageError: the server cannot be reached.
        """
        client, sign = self._client()
        url = f"{client._api.configuration.host}{path}"
        if query:
            asked = {
                name: str(value).lower() if isinstance(value, bool) else value
                for name, value in query.items()
            }
            url = f"{url}?{urlencode(asked, quote_via=quote)}"
        sent = {**sign, **(headers or {})}
        if document is not None:
            body = json.dumps(document).encode()
            sent["Content-Type"] = "application/json"
        pool = client._api.rest_client.pool_manager
        try:
            answer: urllib3.BaseHTTPResponse = pool.request(
                method,
                url,
                body=body if body is None else bytes(body),
                headers=sent,
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

    def _ask(self, method: str, path: str, what: str, **options: Any) -> Any:
        """As `_send`; gives the JSON of a success, and raises what the server refuses."""
        answer = self._send(method, path, what, **options)
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

    def _in(self, path: str) -> str:
        return f"/repositories/{quote(self.repository, safe='')}{path}"

    def _pages(
        self, path: str, what: str, query: Query, amount: int = PAGE
    ) -> Iterator[dict[str, Any]]:
        """All results of a listing; the next page is asked for while this one is used."""
        after = str(query.get("after", ""))

        def page(after: str) -> Any:
            asked = {**query, "amount": amount, "after": after}
            return self._ask("GET", path, what, query=asked)

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

    # The repository

    def exists(self) -> bool:
        """Whether there is a repository of this name."""
        what = f"look for the repository {self.repository!r}"
        try:
            self._ask("GET", self._in(""), what)
        except RefNotFoundError:
            return False
        return True

    def create_repository(self, storage_namespace: str, default_branch: str = "main") -> None:
        """Make the repository."""
        document = {
            "name": self.repository,
            "storage_namespace": storage_namespace,
            "default_branch": default_branch,
        }
        what = f"create the repository {self.repository!r} at {storage_namespace!r}"
        self._ask("POST", "/repositories", what, document=document, is_repeatable=False)

    # Branches and tags

    def head(self, branch: str) -> str:
        """The commit that a branch names.

        Raises:
            RefNotFoundError: there is no such branch.
        """
        path = self._in(f"/branches/{quote(branch, safe='')}")
        return str(self._ask("GET", path, f"read branch {branch!r}")["commit_id"])

    def branches(self, prefix: str = "", *, hidden: bool = False) -> Iterator[tuple[str, str]]:
        """The names of branches and the commits they name; of hidden ones only if asked."""
        query: Query = {"prefix": prefix, "show_hidden": hidden}
        for each in self._pages(self._in("/branches"), "list branches", query):
            yield each["id"], each["commit_id"]

    def create_branch(self, name: str, source: str, *, hidden: bool = False) -> None:
        """Make a branch at a ref; of many that do so at once, one does.

        Raises:
            AlreadyExistsError: there is one of this name.
        """
        document = {"name": name, "source": source, "hidden": hidden}
        what = f"create branch {name!r} at {source!r}"
        self._ask("POST", self._in("/branches"), what, document=document, is_repeatable=False)

    def delete_branch(self, name: str) -> None:
        """Remove a branch, with what is uncommitted on it."""
        path = self._in(f"/branches/{quote(name, safe='')}")
        self._ask("DELETE", path, f"delete branch {name!r}", is_repeatable=False)

    def hard_reset(self, branch: str, to: str) -> None:
        """Let a branch name another commit; what is uncommitted on it stays."""
        path = self._in(f"/branches/{quote(branch, safe='')}/hard_reset")
        self._ask("PUT", path, f"move branch {branch!r} to {to!r}", query={"ref": to})

    def tags(self) -> Iterator[tuple[str, str]]:
        """The names of tags and the commits they name."""
        for each in self._pages(self._in("/tags"), "list tags", {}):
            yield each["id"], each["commit_id"]

    def tag(self, name: str) -> str:
        """The commit that a tag names.

        Raises:
            RefNotFoundError: there is no such tag.
        """
        path = self._in(f"/tags/{quote(name, safe='')}")
        return str(self._ask("GET", path, f"read tag {name!r}")["commit_id"])

    def create_tag(self, name: str, ref: str) -> None:
        """Make a tag.

        Raises:
            AlreadyExistsError: there is one of this name.
        """
        document = {"id": name, "ref": ref}
        what = f"create tag {name!r} at {ref!r}"
        self._ask("POST", self._in("/tags"), what, document=document, is_repeatable=False)

    def delete_tag(self, name: str) -> None:
        """Remove a tag."""
        path = self._in(f"/tags/{quote(name, safe='')}")
        self._ask("DELETE", path, f"delete tag {name!r}", is_repeatable=False)

    # Commits

    def resolve(self, ref: str) -> LakefsCommit:
        """The commit that a lakeFS ref expression names: a branch, a tag, an id or part of one.

        Raises:
            RefNotFoundError: there is none.
        """
        path = self._in(f"/commits/{quote(ref, safe='')}")
        return _commit(self._ask("GET", path, f"read commit {ref!r}"))

    def log(
        self, ref: str, *, amount: int = PAGE, first_parent: bool = False
    ) -> Iterator[LakefsCommit]:
        """The commits that a ref reaches, the newest first, lazily, `amount` to a request."""
        query = {"first_parent": first_parent}
        path = self._in(f"/refs/{quote(ref, safe='')}/commits")
        return map(_commit, self._pages(path, f"read the log of {ref!r}", query, amount))

    def commit(
        self,
        branch: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        allow_empty: bool = False,
    ) -> LakefsCommit:
        """Commit what is uncommitted on a branch."""
        document = {"message": message, "metadata": dict(metadata), "allow_empty": allow_empty}
        path = self._in(f"/branches/{quote(branch, safe='')}/commits")
        what = f"commit to branch {branch!r}"
        return _commit(self._ask("POST", path, what, document=document, is_repeatable=False))

    def merge(
        self,
        source: str,
        into: str,
        message: str,
        metadata: Mapping[str, str],
        *,
        squash: bool = False,
        allow_empty: bool = False,
    ) -> str:
        """Merge a ref into a branch; the id of the commit that this makes.

        Raises:
            ConflictError: both changed the same paths.
            RefusedError: a hook or a protection rule said no.
            StorageError: something is uncommitted on the branch.
        """
        document = {
            "message": message,
            "metadata": dict(metadata),
            "squash_merge": squash,
            "allow_empty": allow_empty,
        }
        path = self._in(f"/refs/{quote(source, safe='')}/merge/{quote(into, safe='')}")
        what = f"merge {source!r} into {into!r}"
        answer = self._ask("POST", path, what, document=document, is_repeatable=False)
        return str(answer["reference"])

    def diff(self, left: str, right: str, *, prefix: str = "") -> Iterator[Change]:
        """What differs between two refs, path by path."""
        path = self._in(f"/refs/{quote(left, safe='')}/diff/{quote(right, safe='')}")
        query = {"type": "two_dot", "prefix": prefix}
        return map(_change, self._pages(path, f"compare {left!r} and {right!r}", query))

    def uncommitted(self, branch: str, *, prefix: str = "") -> Iterator[Change]:
        """What is uncommitted on a branch, path by path."""
        path = self._in(f"/branches/{quote(branch, safe='')}/diff")
        what = f"list what is uncommitted on {branch!r}"
        return map(_change, self._pages(path, what, {"prefix": prefix}))

    # Objects

    def list(self, ref: str, prefix: str = "") -> Iterator[Stat]:
        """All objects below a prefix, sorted by path, with their user metadata."""
        path = self._in(f"/refs/{quote(ref, safe='')}/objects/ls")
        query: Query = {"prefix": prefix, "user_metadata": True, "presign": False}
        return map(_stat, self._pages(path, f"list {prefix!r} at {ref!r}", query))

    def stat(self, ref: str, path: str) -> Stat | None:
        """An object; None if there is none."""
        where = self._in(f"/refs/{quote(ref, safe='')}/objects/stat")
        query: Query = {"path": path, "user_metadata": True, "presign": False}
        try:
            return _stat(self._ask("GET", where, f"look at {path!r} at {ref!r}", query=query))
        except RefNotFoundError:
            return None

    def upload(
        self,
        branch: str,
        path: str,
        data: Bytes,
        metadata: Mapping[str, str],
        *,
        only_new: bool = False,
    ) -> Stat:
        """Put an object on a branch, uncommitted.

        Raises:
            PreconditionFailedError: there is one, and `only_new` was asked for.
        """
        headers = {"Content-Type": "application/octet-stream"}
        headers.update({_META + name: value for name, value in metadata.items()})
        if only_new:
            headers["If-None-Match"] = "*"
        where = self._in(f"/branches/{quote(branch, safe='')}/objects")
        what = f"write {path!r} to branch {branch!r}"
        return _stat(
            self._ask("POST", where, what, query={"path": path}, body=data, headers=headers)
        )

    def read(self, ref: str, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of an object, or a range of them.

        Raises:
            KeyNotFoundError: there is none.
        """
        if end is not None and end <= start:
            return b""
        headers = {}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        where = self._in(f"/refs/{quote(ref, safe='')}/objects")
        what = f"read {path!r} at {ref!r}"
        query: Query = {"path": path, "presign": False}
        answer = self._send("GET", where, what, query=query, headers=headers)
        if answer.status in (404, 410):
            raise KeyNotFoundError(f"lakeFS has no object {path!r} at {ref!r}", key=path)
        if answer.status == 416:
            return b""
        if answer.status >= 300:
            raise failure(
                answer.status,
                answer.data,
                what=what,
                endpoint=self.endpoint,
                source=self.connection.source,
            )
        return answer.data

    def delete(self, branch: str, path: str) -> None:
        """Take an object away from a branch; none is fine."""
        where = self._in(f"/branches/{quote(branch, safe='')}/objects")
        self._ask("DELETE", where, f"delete {path!r} on {branch!r}", query={"path": path})

    def delete_many(self, branch: str, paths: Iterable[str]) -> None:
        """Take objects away from a branch, a thousand in a request."""
        waiting = list(paths)
        where = self._in(f"/branches/{quote(branch, safe='')}/objects/delete")
        for start in range(0, len(waiting), PAGE):
            document = {"paths": waiting[start : start + PAGE]}
            what = f"delete {len(document['paths'])} objects on {branch!r}"
            errors = self._ask("POST", where, what, document=document)["errors"]
            if errors:
                first = errors[0]
                raise StorageError(
                    f"lakeFS at {self.endpoint} could not delete {len(errors)} of "
                    f"{len(document['paths'])} objects on {branch!r}; {first.get('path')!r}: "
                    f"{first.get('message')}"
                )

    def link(self, branch: str, path: str, stat: Stat, metadata: Mapping[str, str]) -> None:
        """Put an object on a branch whose bytes lakeFS has already; nothing is copied."""
        document = {
            "staging": {"physical_address": stat.physical_address},
            "checksum": stat.checksum,
            "size_bytes": stat.size,
            "user_metadata": dict(metadata),
        }
        where = self._in(f"/branches/{quote(branch, safe='')}/staging/backing")
        what = f"link {path!r} on branch {branch!r} to what {stat.path!r} holds"
        self._ask("PUT", where, what, query={"path": path}, document=document)


def _commit(found: Mapping[str, Any]) -> LakefsCommit:
    return LakefsCommit(
        found["id"],
        tuple(found["parents"]),
        found["committer"],
        found["message"],
        found["creation_date"],
        found.get("metadata") or {},
    )


def _change(found: Mapping[str, Any]) -> Change:
    return Change(found["path"], found["type"])


def _stat(found: Mapping[str, Any]) -> Stat:
    return Stat(
        found["path"],
        found.get("size_bytes", 0),
        found["checksum"],
        found["mtime"],
        found.get("metadata") or {},
        found["physical_address"],
    )
