"""A client of Kubo's RPC: the calls that a repository needs, and the meaning of their errors.

Knows requests, retries and credentials, but not repositories. The calls are those of
https://docs.ipfs.tech/reference/kubo/rpc/ for Kubo 0.42. The node never searches the network for a
block: it has all blocks of its repositories.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

from versioned_zarr.backends.http.authorization import checked, from_environment, names_one
from versioned_zarr.backends.http.retry_after import retry_after_s
from versioned_zarr.backends.kubo.multipart import MultipartUpload as MultipartUpload  # noqa: PLC0414 - re-exported
from versioned_zarr.errors import (
    BlockNotFoundError,
    InvalidUrlError,
    MissingDependencyError,
    StorageError,
    StorageFullError,
)
from versioned_zarr.fork_local import ForkLocal, threads
from versioned_zarr.ipld.car_v1 import SECTION_LIMIT_BYTES
from versioned_zarr.ipld.cid import Cid, to_text

try:
    import httpx

    from versioned_zarr.backends.http.http_transport import HttpTransport, timeout, why_not
    from versioned_zarr.backends.kubo.rpc_response import ANSWER_LIMIT_BYTES, RpcResponse, read_all
except ImportError as error:
    raise MissingDependencyError(
        "repositories on an IPFS node need the package httpx; pip install 'versioned-zarr[ipfs]'",
        package="httpx",
        extra="ipfs",
    ) from error

AUTH_VARIABLE = "VERSIONED_ZARR_IPFS_AUTH"
"""The value of the header Authorization, or a token that is sent as `Bearer`."""
CONNECTIONS = 16
_Query: TypeAlias = list[tuple[str, str | int | float | bool | None]]
_T = TypeVar("_T")
_R = TypeVar("_R")
_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.1
_LONGEST_WISH_S = 5.0
"""The maximum Retry-After that is respected; requests are repeated no later than this."""
_LATER = (429, 502, 503, 504)
"""The status codes of a busy node, or of a proxy in front of a starting one."""
_MISSING = ("not found locally", "could not find", "block not found")


class NoSuchPathError(Exception):
    """An MFS path does not exist."""


class PathTakenError(Exception):
    """An MFS path already exists."""


class MfsEntry(NamedTuple):
    """A name in an MFS directory, and its CID in the form that the node returned."""

    name: str
    cid: str


def _is_amid_gc(command: str, answer: RpcResponse) -> bool:
    """Whether MFS lacks a block, which a collection removed and a writer will send again."""
    return command.startswith("files/") and any(words in answer.text for words in _MISSING)


def _connect(base_url: str, headers: Mapping[str, str], limits: httpx.Timeout) -> httpx.Client:
    return httpx.Client(
        base_url=f"{base_url}/api/v0/",
        headers={"Accept-Encoding": "identity", **headers},
        timeout=limits,
        transport=HttpTransport(CONNECTIONS),
    )


class KuboClient:
    """Calls to one node. Thread-safe; a forked child opens its own connections.

    Args:
        base_url: the URL of the RPC, such as `http://127.0.0.1:5001`.
        headers: sent with every request; may contain credentials, and are never shown.
        timeout_s: the time for an exchange, without its bytes at 4 KiB a second.

    Raises:
        InvalidUrlError: the URL cannot be used for requests.
        InvalidInputError: a header is not valid.
    """

    def __init__(
        self, base_url: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 60
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._headers = checked(headers or {}, "headers=")
        if not names_one(self._headers):
            self._headers.update(from_environment(AUTH_VARIABLE))
        why = why_not(self.base_url)
        if why:
            raise InvalidUrlError(
                f"{self.base_url!r} is not the address of a node: {why}", url=self.base_url
            )
        # Buffered blocks are sent when the process ends, so these must exist then.
        self._client = ForkLocal(
            partial(_connect, self.base_url, self._headers, timeout(timeout_s)), httpx.Client.close
        )
        self._threads = threads(CONNECTIONS // 2, "kubo")

    def __repr__(self) -> str:
        return f"KuboClient({self.base_url!r})"

    # Requests

    def in_parallel(self, call: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """Call a function for each item, with as many calls at a time as there are connections."""
        return list(self._threads().map(call, items)) if len(items) > 1 else [*map(call, items)]

    def in_background(self, call: Callable[[], _R]) -> Future[_R]:
        """Call a function without waiting for it."""
        return self._threads().submit(call)

    def call(
        self,
        command: str,
        *arguments: str,
        body: MultipartUpload | None = None,
        is_repeatable: bool = True,
        limit_bytes: int = ANSWER_LIMIT_BYTES,
        **options: str | bool | int,
    ) -> bytes:
        """Send a command and return the whole response.

        Args:
            command: the command, such as `block/get`.
            arguments: its positional arguments.
            body: the uploaded file.
            is_repeatable: whether it can safely be sent again if the response is lost.
            limit_bytes: the maximum size of the response.
            options: its flags, with `_` for `-`.

        Raises:
            StorageError: no response, no permission, or the node reports an error.
            NoSuchPathError: the node reports that an MFS path does not exist.
            PathTakenError: the node reports that an MFS path already exists.
        """
        query: _Query = [("arg", argument) for argument in arguments]
        for name, value in options.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            query.append((name.replace("_", "-"), text))
        attempts = _ATTEMPTS if is_repeatable else 1
        for attempt in range(1, attempts + 1):
            wish_s = 0.0
            try:
                answer = self._call_once(command, query, body, limit_bytes)
            except httpx.RequestError as error:
                if attempt == attempts:
                    raise StorageError(
                        f"no answer from the IPFS node at {self.base_url} to {command!r}: "
                        f"{type(error).__name__}: {error}; check that it is running and that this "
                        "is the address of its RPC",
                        where=self.base_url,
                    ) from error
            else:
                if answer.status_code == 200:
                    return self._content(command, answer)
                is_passing = answer.status_code in _LATER or _is_amid_gc(command, answer)
                if attempt == attempts or not is_passing:
                    raise self._failure(command, answer)
                wish_s = retry_after_s(answer.headers.get("retry-after")) or 0.0
            pause_s = _FIRST_PAUSE_S * 2 ** (attempt - 1) * (1 + secrets.randbelow(100) / 100)
            time.sleep(max(pause_s, min(wish_s, _LONGEST_WISH_S)))
        raise AssertionError

    def _call_once(
        self, command: str, query: _Query, body: MultipartUpload | None, limit_bytes: int
    ) -> RpcResponse:
        headers: dict[str, str] = {}
        content: Iterable[bytes] | None = None
        if body is not None:
            headers, pieces = body.as_form()
            content = cast("Iterable[bytes]", pieces)  # the errors of `HttpTransport`
        with self._client().stream(
            "POST", command, params=query, content=content, headers=headers
        ) as answer:
            content_bytes = read_all(answer, limit_bytes)
        if content_bytes is None:
            raise StorageError(
                f"the IPFS node at {self.base_url} answered {command!r} with more than "
                f"{limit_bytes:,} bytes, more than a correct answer has",
                where=self.base_url,
            )
        return RpcResponse(answer.status_code, answer.reason_phrase, answer.headers, content_bytes)

    def _content(self, command: str, answer: RpcResponse) -> bytes:
        if answer.headers.get("content-type", "").startswith("text/html"):
            raise self._no_rpc(command, "a web page")
        return answer.content

    def _said(self, command: str, answer: bytes, *names: str) -> Any:
        """The value at a path of names in a JSON response."""
        try:
            found = json.loads(answer)
            for name in names:
                found = found[name]
        except (ValueError, LookupError, TypeError):
            raise self._no_rpc(command, "an unexpected document") from None
        return found

    def _no_rpc(self, command: str, answered: str) -> StorageError:
        return StorageError(
            f"the server at {self.base_url} is not the RPC of an IPFS node: it answered "
            f"{command!r} with {answered}; give the address that 'ipfs config Addresses.API' "
            "prints, which is not that of the node's gateway",
            where=self.base_url,
        )

    def _failure(self, command: str, answer: RpcResponse) -> Exception:
        if answer.status_code in (401, 403):
            return StorageError(
                f"the IPFS node at {self.base_url} refused {command!r} "
                f"({answer.status_code}): pass headers= or token= that it accepts, or set "
                f"{AUTH_VARIABLE}, the only one of these that works for a named remote",
                where=self.base_url,
            )
        try:
            message = str(json.loads(answer.content)["Message"])
        except (ValueError, KeyError, TypeError):
            if answer.status_code in (404, 405):
                return self._no_rpc(command, str(answer.status_code))
            message = answer.text[:200] or answer.reason_phrase
        if "file does not exist" in message:
            return NoSuchPathError(message)
        if "already has entry by that name" in message or "already has entry" in message:
            return PathTakenError(message)
        if "no space left" in message:
            return StorageFullError(
                f"the IPFS node at {self.base_url} has no space left; free some and try again; "
                "all commits are intact",
                where=self.base_url,
            )
        return StorageError(
            f"the IPFS node at {self.base_url} failed at {command!r} "
            f"({answer.status_code}): {message}",
            where=self.base_url,
        )

    # Blocks

    def get_block(self, cid: Cid) -> bytes:
        """The bytes of a block; not verified.

        Raises:
            BlockNotFoundError: the node does not have it.
        """
        text = to_text(cid)
        try:
            return self.call("block/get", text, offline=True, limit_bytes=SECTION_LIMIT_BYTES)
        except StorageError as error:
            if any(words in str(error) for words in _MISSING):
                raise BlockNotFoundError(
                    f"block {text} is not on the IPFS node at {self.base_url}", cid=text
                ) from None
            raise

    def concatenate(self, leaves: Sequence[Cid]) -> bytes:
        """The bytes of raw blocks, joined in order; not verified."""
        limit_bytes = SECTION_LIMIT_BYTES * max(1, len(leaves))
        # In the body, because a URL of a thousand CIDs would be refused.
        names = "".join(f"{to_text(leaf)}\n" for leaf in leaves).encode()
        return self.call(
            "cat",
            body=MultipartUpload.of(names),
            offline=True,
            progress=False,
            limit_bytes=limit_bytes,
        )

    def has_block(self, cid: Cid) -> bool:
        """Whether the node has a block."""
        try:
            self.call("block/stat", to_text(cid), offline=True)
        except StorageError as error:
            if any(words in str(error) for words in _MISSING):
                return False
            raise
        return True

    def missing(self, cids: Sequence[Cid]) -> list[Cid]:
        """The blocks that the node does not have; checked in parallel."""
        there = self.in_parallel(self.has_block, cids)
        return [cid for cid, is_there in zip(cids, there, strict=True) if not is_there]

    def put_block(self, data: bytes, *, pin: bool = False) -> str:
        """Store a raw block; returns its CID."""
        answer = self.call("block/put", body=MultipartUpload.of(data), cid_codec="raw", pin=pin)
        return str(self._said("block/put", answer, "Key"))

    def import_car(self, car: MultipartUpload, blocks: int) -> None:
        """Store the blocks of a CAR without pinning them.

        Args:
            car: the CAR.
            blocks: the number of its blocks; the node must report the same number.
        """
        answer = self.call(
            "dag/import", body=car, pin_roots=False, stats=True, allow_big_block=True
        )
        counted = 0
        for line in answer.splitlines():
            if b'"Stats"' in line:
                counted = self._said("dag/import", line, "Stats", "BlockCount")
        if counted != blocks:
            raise StorageError(
                f"the IPFS node at {self.base_url} stored {counted} of {blocks} blocks; try again; "
                "nothing was lost",
                where=self.base_url,
            )

    def wait_for_gc(self) -> None:
        """Return when no garbage collection that began earlier is running.

        Pinning takes the lock that a collection holds; this pins one constant block, and unpins it
        afterward.
        """
        cid = self.put_block(b"versioned-zarr: waiting for gc", pin=True)
        try:
            self.call("pin/rm", cid)
        except StorageError as error:
            if "not pinned" not in str(error):  # another process did it
                raise

    # MFS

    def list(self, path: str) -> list[MfsEntry]:
        """The names in an MFS directory.

        Raises:
            NoSuchPathError: it does not exist.
        """
        answer = self.call("files/ls", path, long=True, U=True)
        entries = self._said("files/ls", answer, "Entries") or []
        try:
            return [MfsEntry(entry["Name"], entry["Hash"]) for entry in entries]
        except (LookupError, TypeError):
            raise self._no_rpc("files/ls", "an unexpected document") from None

    def stat(self, path: str) -> str:
        """The CID of an MFS path.

        Raises:
            NoSuchPathError: it does not exist.
        """
        answer = self.call("files/stat", path, hash=True)
        return str(self._said("files/stat", answer, "Hash")).strip()

    def read(self, path: str) -> bytes:
        """The bytes of an MFS file.

        Raises:
            NoSuchPathError: it does not exist.
        """
        return self.call("files/read", path)

    def copy(self, cid: str, path: str, *, parents: bool = True) -> None:
        """Link a CID at an MFS path. Sent once: if the response is lost, the caller must check.

        Args:
            cid: the CID.
            path: the path.
            parents: create the parent directories.

        Raises:
            PathTakenError: the path already exists; of concurrent calls, one wins.
            NoSuchPathError: a parent directory does not exist.
        """
        self.call("files/cp", f"/ipfs/{cid}", path, parents=parents, is_repeatable=False)

    def write(self, path: str, data: bytes) -> None:
        """Replace the bytes of an MFS file; readers see the old ones or the new ones."""
        body = MultipartUpload.of(data)
        self.call("files/write", path, body=body, create=True, truncate=True, raw_leaves=True)

    def remove(self, path: str) -> None:
        """Remove an MFS path and everything below it."""
        try:
            self.call("files/rm", path, recursive=True, force=True)
        except NoSuchPathError:
            return

    # The node

    def peer_id(self) -> str:
        """The node's peer ID, whatever its address; empty if the node does not return it."""
        try:
            return str(self._said("id", self.call("id"), "ID"))
        except StorageError:  # some nodes allow only files and blocks
            return ""

    # IPNS

    def key_ids(self) -> dict[str, str]:
        """The node's IPNS keys: each name with its ID."""
        found = self._said("key/list", self.call("key/list", ipns_base="base36"), "Keys")
        return {key["Name"]: key["Id"] for key in found}

    def make_key(self, name: str) -> str:
        """Create an IPNS key; returns its ID."""
        answer = self.call("key/gen", name, type="ed25519", ipns_base="base36", is_repeatable=False)
        return str(self._said("key/gen", answer, "Id"))

    def publish(self, path: str, key: str, lifetime: str) -> str:
        """Publish a path under an IPNS key; returns the name."""
        answer = self.call(
            "name/publish", path, key=key, lifetime=lifetime, allow_offline=True, resolve=False
        )
        return str(self._said("name/publish", answer, "Name"))

    def resolve(self, name: str) -> str:
        """The path that an IPNS name resolves to."""
        return str(self._said("name/resolve", self.call("name/resolve", name), "Path"))
