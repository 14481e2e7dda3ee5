"""The Kubo backend: a repository at `ipfs+http://HOST:PORT/NAME`, in MFS and a local folder.

Uncommitted sessions and the cache are local to this machine, in a folder under
$VERSIONED_ZARR_HOME.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote

from versioned_zarr.backends.http.authorization import basic, bearer, checked
from versioned_zarr.backends.kubo.car_upload import send
from versioned_zarr.backends.kubo.client import KuboClient, NoSuchPathError
from versioned_zarr.backends.kubo.ipns_publisher import IpnsPublisher
from versioned_zarr.backends.kubo.kubo_blocks import KuboBlocks
from versioned_zarr.backends.kubo.kubo_session_log import KuboSessionLog
from versioned_zarr.backends.kubo.mfs_files import MfsFiles
from versioned_zarr.backends.kubo.mfs_refs import MfsRefs
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.local.cache_storage import CacheStorage
from versioned_zarr.backends.local.state_dir import home
from versioned_zarr.blocks.cache.block_cache import LIMIT_BYTES, BlockCache
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.blocks.remote.lazy_origin import LazyOrigin
from versioned_zarr.engine.backend import Verify
from versioned_zarr.engine.context import OpenOther, RepositoryContext
from versioned_zarr.engine.marker import MARKER, encode_marker, hash_name_in, identity_in
from versioned_zarr.engine.partial_clone import origin_of
from versioned_zarr.engine.stored_sessions.stored_session_store import StoredSessionStore
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidUrlError,
    StorageError,
)
from versioned_zarr.ipld.cid import HashFunction
from versioned_zarr.storage.protocol import Storage
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.urls import User, split_url

MFS_ROOT = "/versioned-zarr"
LONGEST_NAME_BYTES = 255
_IDENTITY = "identity"


class KuboBackend:
    """A location on a Kubo node; see `versioned_zarr.engine.backend.Backend`.

    Args:
        url: `ipfs+http://HOST:PORT/NAME`, or with https; without a user.
        headers: see `versioned_zarr.engine.open_options.Options`, also for the others.
        token: see there.
        client: see there.
        timeout_s: see there.
        cache_bytes: see there.

    Raises:
        InvalidUrlError: the URL does not have that form.
    """

    has_history = False

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        client: Any = None,
        timeout_s: float = 60,
        cache_bytes: int = LIMIT_BYTES,
    ) -> None:
        parts = split_url(url)
        address = parts.netloc
        shown = f"{parts.scheme}://{address}{parts.path}".rstrip("/")
        name = _name(parts, shown)
        sent = {} if token is None else bearer(token, "token=")
        sent.update(checked(headers or {}, "headers="))
        base_url = f"{parts.scheme.removeprefix('ipfs+')}://{address}"
        if client is not None:
            sent = {**checked(_headers_of(client), "client="), **sent}
        self.url = shown
        self.client = KuboClient(base_url, headers=sent, timeout_s=timeout_s)
        self._root = f"{MFS_ROOT}/{name}"
        self._documents = MfsFiles(self.client, self._root, shown)
        self._cache_bytes = cache_bytes
        self._homes = home() / "ipfs"
        # State from before the repository exists, under the only name that it has then.
        self.storage: Storage = LocalStorage(
            self._homes / "urls" / _file_name(address) / _file_name(name), url=shown
        )

    def check_free(self) -> None:
        """See `Backend.check_free`; one request, and one for each folder above it."""
        *above, _ = self._root.removeprefix(f"{MFS_ROOT}/").split("/")
        for end in range(1, len(above) + 1):
            around = "/".join(above[:end])
            with suppress(NoSuchPathError):
                self.client.stat(f"{MFS_ROOT}/{around}/{MARKER}")
                raise AlreadyExistsError(
                    f"{self.url!r} would be within the repository {around!r} on the same node; "
                    "choose a name outside it",
                    name=self.url,
                )
        try:
            names = {entry.name for entry in self.client.list(self._root)}
        except NoSuchPathError:
            return
        if MARKER not in names:
            raise AlreadyExistsError(
                f"{self.url!r} is not a repository and holds other things: "
                f"{', '.join(sorted(names)[:5])}; choose another name",
                name=self.url,
            )
        raise AlreadyExistsError(
            f"{self.url!r} exists already; open it with vz.open, or choose another name "
            f"('ipfs files rm -r {self._root}' removes it)",
            name=self.url,
        )

    def read_marker(self) -> bytes:
        """See `Backend.read_marker`."""
        return bytes(self._documents.read(MARKER))

    def write_marker(self, marker: bytes) -> None:
        """See `Backend.write_marker`; an existing repository keeps its marker."""
        hash_name = hash_name_in(marker)
        try:
            self.read_marker()
        except FileNotFoundError:
            self._documents.put(MARKER, [encode_marker(hash_name, self._identity())])
        self.storage.delete(_IDENTITY)

    def _identity(self) -> str:
        """Distinguishes this repository from others that are created under the same name.

        A repository that is being created has the same identity in all processes of this machine
        that begin or resume its creation.
        """
        try:
            return identity_in(self.read_marker()) or ""
        except FileNotFoundError:
            pass
        try:
            return bytes(self.storage.read(_IDENTITY)).decode()
        except FileNotFoundError:
            made = secrets.token_hex(16)
            self.storage.put(_IDENTITY, [made.encode()])
            return made

    def _folder(self) -> Path:
        """The local folder of this repository, which depends on its identity, not on its address.

        It also depends on the node's peer ID, because a copy of its data belongs to another node.
        """
        name = self._root.removeprefix(f"{MFS_ROOT}/")
        facts = f"{self.client.peer_id()}\n{name}\n{self._identity()}"
        digest = hashlib.sha256(facts.encode()).hexdigest()[:32]
        return self._homes / f"{quote(name, safe='')[:64]}-{digest}"

    def stores(
        self, hash_function: HashFunction, verify: Verify, open_other: OpenOther
    ) -> RepositoryContext:
        """See `Backend.stores`."""
        storage = CacheStorage(self._folder() / hash_function.name, url=self.url)
        cache = BlockCache(
            storage,
            hash_function,
            limit_bytes=self._cache_bytes,
            verify=verify == "always",
        )
        documents = self._documents
        completion = LazyOrigin(
            lambda: origin_of(documents, open_other), partial(_send_fetched, self.client)
        )
        blocks = KuboBlocks(self.client, cache, completion)
        refs = MfsRefs(self.client, self._root, blocks, storage)
        trees, names = Trees(blocks, hash_function), IpnsPublisher(self.client)
        context = RepositoryContext(
            storage, blocks, refs, trees, self.read_marker, open_other, documents, names
        )
        log = KuboSessionLog(self.client, self._root, blocks, self.url)
        context.session_store = StoredSessionStore(context, log)
        return context


def _send_fetched(client: KuboClient, blocks: list[Block]) -> None:
    """Send fetched blocks of a partial clone to its node; errors only leave them missing there."""
    with suppress(StorageError):
        send(client, blocks, blocks[-1][0])


def _name(parts: SplitResult, shown: str) -> str:
    """The name of the repository in its URL.

    Raises:
        InvalidUrlError: there is none, or it is not valid in MFS.
    """
    if parts.query or parts.fragment:
        what = "?query" if parts.query else "#fragment"
        raise InvalidUrlError(
            f"no {what} can follow the name of a repository, as it does after {shown!r}; "
            "write a '?' or '#' in the name as %3F or %23",
            url=shown,
        )
    name = unquote(parts.path).strip("/")
    if not parts.hostname or any(part in ("", ".", "..") for part in name.split("/")):
        raise InvalidUrlError(
            f"{shown!r} must have the form ipfs+http://HOST:PORT/NAME, with the address of the "
            "node's RPC and a name for the repository, such as ipfs+http://127.0.0.1:5001/climate",
            url=shown,
        )
    for part in name.split("/"):
        try:
            size_bytes = len(part.encode())
        except UnicodeEncodeError:
            raise InvalidUrlError(f"{part!r} in {shown!r} is not UTF-8 text", url=shown) from None
        if size_bytes > LONGEST_NAME_BYTES:
            raise InvalidUrlError(
                f"{part!r} in {shown!r} is {size_bytes} bytes long; each part of a repository name "
                f"can have at most {LONGEST_NAME_BYTES}",
                url=shown,
            )
    return name


def _file_name(text: str) -> str:
    """A folder name for a host or a repository name of any length."""
    quoted = quote(text, safe="")
    if len(quoted) <= LONGEST_NAME_BYTES:
        return quoted
    return f"{quoted[:128]}-{hashlib.sha256(text.encode()).hexdigest()}"


def _headers_of(client: Any) -> dict[str, str]:
    """The headers and credentials of an `ipfshttpclient.Client`."""
    sends = getattr(getattr(client, "_client", None), "_session_props", None)
    if not isinstance(sends, dict):
        raise InvalidInputError(
            f"client= takes an ipfshttpclient.Client of version 0.7 or 0.8, not a "
            f"{type(client).__name__}; with any other client, pass headers= or token="
        )
    auth = sends.get("auth")
    found = basic(User(*auth)) if isinstance(auth, tuple) else {}
    return {**found, **(sends.get("headers") or {})}
