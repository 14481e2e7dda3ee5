"""From a URL to a repository: the one place that knows the backends."""

from __future__ import annotations

import os
import re
import threading
import weakref
from datetime import UTC, datetime
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.memory import MemoryStorage
from versioned_zarr.blocks.packed import PackedStore
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidUrlError,
    RepositoryNotFoundError,
)
from versioned_zarr.history import commit as commits
from versioned_zarr.history.refs import HEADS, LogRefs
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import from_text, hash_function
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.marker import MARKER, encode_marker, read_marker
from versioned_zarr.repository.names import MAIN
from versioned_zarr.repository.repository import BlockRepository
from versioned_zarr.repository.stores import Stores
from versioned_zarr.storage import Storage
from versioned_zarr.tree.lookup import Trees

Verify = Literal["always", "network", "never"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_EXTRAS = {
    "s3": "s3", "gs": "s3", "az": "s3", "abfs": "s3", "http": "serve", "https": "serve",
    "ipfs": "ipfs", "ipns": "ipfs", "ipfs+http": "ipfs", "ipfs+https": "ipfs", "lakefs": "lakefs",
}  # fmt: skip
_OPEN: weakref.WeakValueDictionary[tuple[str, str, int], BlockRepository] = (
    weakref.WeakValueDictionary()
)
_GUARD = threading.Lock()


def create(
    url: str | os.PathLike[str], *, hash: str = "sha2-256", verify: Verify = "network"
) -> BlockRepository:
    """Make a new repository, with a branch `main` at a root commit of the empty tree.

    Args:
        url: a path, `file://…` or `memory://NAME`.
        hash: the function that names every block: "sha2-256", as `ipfs add` does, or "blake3",
            about three times as fast (extra `blake3`). It can never be changed afterwards.
        verify: see `open`.

    Raises:
        AlreadyExistsError: there is a repository already, or a folder that is not empty.
        InvalidUrlError: the URL cannot be read.
        ReadOnlyError: no permission to write there.
    """
    storage = _storage(url)
    function = hash_function(hash)
    _check_verify(verify)
    with storage.lock("create"):
        if any(not stored.path.startswith("locks/") for stored in storage.list("")):
            raise AlreadyExistsError(
                f"{storage.url!r} is not empty; open it with vz.open, or choose another place",
                name=storage.url,
            )
        blocks = PackedStore(storage, function, verify=verify == "always")
        tree = unixfs.directory([])
        commit, own = commits.encode(
            tree=Link("", function.dag_pb(tree), len(tree)),
            parents=[],
            author=commits.default_author(),
            time=datetime.now(UTC),
            message="Create the repository",
            metadata=None,
            hash_function=function,
        )
        root = from_text(commit.cid)
        blocks.put([(function.dag_pb(tree), tree), *own], root)
        LogRefs(storage).swap(HEADS, MAIN, None, root, "create")
        storage.put(MARKER, [encode_marker(hash)])
    return open(url, verify=verify)


def open(  # noqa: A001 - the public name is vz.open
    url: str | os.PathLike[str], *, verify: Verify = "network"
) -> BlockRepository:
    """Open a repository.

    Args:
        url: a path, `file://…` or `memory://NAME`.
        verify: which blocks are hashed and compared with their CID on every read: "always",
            those from a "network", or "never". Writing, `fsck` and whatever leaves the
            repository are not touched by this.

    Raises:
        RepositoryNotFoundError: there is none.
        FormatError: it was made by a newer version, or its marker is damaged.
        InvalidUrlError: the URL cannot be read.
    """
    storage = _storage(url)
    _check_verify(verify)
    with _GUARD:
        found = _OPEN.get((storage.url, verify, os.getpid()))
    document = read_marker(storage)
    if found is not None and found.hash == document["hash"]:
        return found
    function = hash_function(document["hash"])
    blocks = PackedStore(storage, function, verify=verify == "always")
    stores = Stores(storage, blocks, LogRefs(storage), Trees(blocks, function))
    repository = BlockRepository(stores, _reopen, storage.url, verify)
    with _GUARD:
        _OPEN[storage.url, verify, os.getpid()] = repository
    return repository


def open_or_create(
    url: str | os.PathLike[str], *, hash: str = "sha2-256", verify: Verify = "network"
) -> BlockRepository:
    """Open a repository, or make it if there is none; see `open` and `create`."""
    try:
        return open(url, verify=verify)
    except RepositoryNotFoundError:
        return create(url, hash=hash, verify=verify)


def _reopen(url: str, verify: Verify) -> BlockRepository:
    return open(url, verify=verify)


def _check_verify(verify: str) -> None:
    if verify not in get_args(Verify):
        raise InvalidInputError(f"verify must be one of {get_args(Verify)}, not {verify!r}")


def _storage(url: str | os.PathLike[str]) -> Storage:
    text = os.fspath(url)
    if not text or not isinstance(text, str):
        raise InvalidUrlError(
            f"a repository's place must be a path or a URL, not {url!r}", url=str(url)
        )
    if "\0" in text:
        raise InvalidUrlError(f"a path cannot hold a NUL byte: {text!r}", url=text)
    if not _SCHEME.match(text) or os.path.exists(text):
        return LocalStorage(text)
    parts = urlsplit(text)
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise InvalidUrlError(
                f"{text!r} names the host {parts.netloc!r}; a local path needs three slashes: "
                "file:///path",
                url=text,
            )
        return LocalStorage(unquote(parts.path))
    if parts.scheme == "memory":
        name = text.partition(":")[2].lstrip("/")
        if not name:
            raise InvalidUrlError(
                f"{text!r} names no place; give it a name, as in memory://scratch", url=text
            )
        return MemoryStorage.named(name)
    if parts.scheme in _EXTRAS:
        raise InvalidUrlError(
            f"no backend for {parts.scheme!r} in {text!r} is installed; "
            f"pip install 'versioned-zarr[{_EXTRAS[parts.scheme]}]' would bring it, in a release "
            "that has it; this one knows paths, file:// and memory://",
            url=text,
        )
    raise InvalidUrlError(
        f"unknown scheme {parts.scheme!r} in {text!r}; known are a plain path, file:// and "
        "memory://",
        url=text,
    )
