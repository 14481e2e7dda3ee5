"""Locations: opens, creates and clones the repository at a URL; alone imports the backends."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict, Unpack, get_args
from urllib.parse import unquote

from versioned_zarr.backends.gateway import open_snapshot as open_snapshot  # noqa: PLC0414 - re-exported
from versioned_zarr.backends.gateway.gateway_snapshot import caches
from versioned_zarr.backends.http.authorization import basic, names_one
from versioned_zarr.backends.local import LocalStorage
from versioned_zarr.backends.memory import MemoryStorage
from versioned_zarr.blocks.protocol import BoundedCache
from versioned_zarr.engine.backend import BEGUN, Backend, StorageBackend, Verify, is_begun
from versioned_zarr.engine.backend import begin as begin_place
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.marker import encode_marker, read_marker
from versioned_zarr.engine.partial_clone import PartialClone
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.engine.transfer.clone import (
    begin,
    begun,
    check_begun,
    check_paths,
    check_refs,
    fill,
    finish,
)
from versioned_zarr.errors import (
    InvalidInputError,
    InvalidUrlError,
    RepositoryNotFoundError,
)
from versioned_zarr.fork_local import ForkLocal
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history.refs import HEADS, create_or_explain
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.address.multiaddr import spelled_out
from versioned_zarr.ipld.cid import from_text, hash_function
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.repository import Repository
from versioned_zarr.storage.protocol import Storage
from versioned_zarr.urls import (
    User,
    check_characters,
    has_scheme,
    split_url,
    take_user,
    tidied,
    without_user,
)


class Options(TypedDict, total=False):
    """How to reach a repository on a server: an IPFS node, or lakeFS from `endpoint` on.

    Attributes:
        headers: sent with every request; values are never shown.
        token: a bearer token; $VERSIONED_ZARR_IPFS_AUTH by default. Never shown.
        client: an `ipfshttpclient.Client` whose credentials and headers are used; which node, the
            URL says, and not the client.
        timeout_s: how long a request may take, in seconds, beside what its bytes take at 4 KiB a
            second.
        cache_bytes: how much of what lies there is kept on this machine; 0 for nothing.
        endpoint: the URL of the lakeFS server; as what follows, by default as lakeFS's own clients
            find it: in the environment or the configuration of `lakectl`.
        access_key_id: whose credentials.
        secret_access_key: their secret. Never shown.
        storage_namespace: where lakeFS is to store a repository that `create` makes, as
            `s3://bucket/path`.
        progress: called while what others wrote to lakeFS is read and hashed, with the bytes that
            are done and all that were found so far, on the thread that waits for it.
    """

    headers: Mapping[str, str]
    token: str
    client: Any
    timeout_s: float
    cache_bytes: int
    endpoint: str
    access_key_id: str
    secret_access_key: str
    storage_namespace: str
    progress: OnProgress


_KUBO_OPTIONS = frozenset({"headers", "token", "client", "timeout_s", "cache_bytes"})
_LAKEFS_OPTIONS = frozenset(
    {
        "endpoint",
        "access_key_id",
        "secret_access_key",
        "storage_namespace",
        "progress",
        "cache_bytes",
        "timeout_s",
    }
)
_EXTRAS = {
    "s3": "s3", "gs": "s3", "az": "s3", "abfs": "s3", "http": "serve", "https": "serve",
}  # fmt: skip
_OPEN: ForkLocal[weakref.WeakValueDictionary[tuple[str, str, str | None], Repository]] = ForkLocal(
    weakref.WeakValueDictionary
)
_GUARD = threading.RLock()


def create(
    url: str | os.PathLike[str],
    *,
    hash: str = "sha2-256",
    verify: Verify = "network",
    **options: Unpack[Options],
) -> Repository:
    """Make a new repository, with a branch `main` at a root commit of the empty tree.

    If it is interrupted, call it again with the same hash function to resume.

    Args:
        url: a path, `file://…`, `memory://NAME`, `ipfs+http://HOST:PORT/NAME` (or `ipfs+https://…`)
            on an IPFS node, perhaps with `USER:PASSWORD@`, `ipfs+/ip4/HOST/tcp/PORT/NAME` likewise,
            or `lakefs://REPO/PREFIX`.
        hash: the function that names every block: "sha2-256", as `ipfs add` does, or "blake3",
            about three times as fast (extra `blake3`). It can never be changed afterwards.
        verify: see `open`.

    Raises:
        AlreadyExistsError: there is a repository already, or a folder that is not empty.
        InvalidUrlError: the URL cannot be read.
        ReadOnlyError: no permission to write there.
    """
    place, _ = _place(url, options)
    function = hash_function(hash)
    _check_verify(verify)
    _check_free(place, hash)  # before anything is made there, the lock included
    with place.storage.lock("create"):
        _check_free(place, hash)
        if place.has_history:
            place.write_marker(encode_marker(hash))
            return open(url, verify=verify, **options)
        begin_place(place, hash)
        stores = place.stores(function, verify, _open_other)
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
        stores.blocks.put([(function.dag_pb(tree), tree), *own], root)
        if stores.refs.read(HEADS, MAIN) is None:
            create_or_explain(stores.refs, HEADS, MAIN, root, "create")
        place.write_marker(encode_marker(hash))
        place.storage.delete(BEGUN)
    return open(url, verify=verify, **options)


def _check_free(place: Backend, hash_name: str) -> None:
    """Make sure that a repository can be made at a place, or was begun there.

    Raises:
        AlreadyExistsError: there is something else.
    """
    if not is_begun(place, hash_name):
        place.check_free()


def open(  # noqa: A001 - the public name is vz.open
    url: str | os.PathLike[str],
    *,
    verify: Verify = "network",
    **options: Unpack[Options],
) -> Repository:
    """Open a repository.

    Args:
        url: a path, `file://…`, `memory://NAME`, `ipfs+http://HOST:PORT/NAME` (or `ipfs+https://…`)
            on an IPFS node, perhaps with `USER:PASSWORD@`, `ipfs+/ip4/HOST/tcp/PORT/NAME` likewise,
            or `lakefs://REPO/PREFIX`.
        verify: which blocks are hashed and compared with their CID on every read: "always",
            those from a "network", or "never". Writing, `fsck` and whatever leaves the
            repository are not touched by this.

    Raises:
        RepositoryNotFoundError: there is none.
        FormatError: it was made by a newer version, or its marker is damaged.
        InvalidUrlError: the URL cannot be read.
    """
    place, options = _place(url, options)
    _check_verify(verify)
    document = read_marker(place.url, place.read_marker)
    # One that was made again at the same place is another, of which nothing is known.
    key = (place.url, verify, document.get("id"))
    with _GUARD:
        found = _OPEN().get(key)
    if found is not None and found.hash == document["hash"] and not options:
        return found
    stores = place.stores(hash_function(document["hash"]), verify, _open_other)
    kept = {name: value for name, value in options.items() if name != "progress"}
    repository = Repository(stores, _reopen, place.url, verify, kept)
    if not options:
        with _GUARD:
            _OPEN()[key] = repository
    return repository


def open_or_create(
    url: str | os.PathLike[str],
    *,
    hash: str = "sha2-256",
    verify: Verify = "network",
    **options: Unpack[Options],
) -> Repository:
    """Open a repository, or make it if there is none; see `open` and `create`."""
    try:
        return open(url, verify=verify, **options)
    except RepositoryNotFoundError:
        return create(url, hash=hash, verify=verify, **options)


def clone(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    refs: str | Sequence[str] | None = None,
    depth: int | None = None,
    paths: Sequence[str] | None = None,
    progress: OnProgress | None = None,
) -> Repository:
    """Make a new repository as a copy of another, which it knows as the remote `origin`.

    Branches, tags and all that they reach are copied, each block verified; logs begin anew.
    If it is interrupted, call it again to resume.

    Args:
        src: the repository to copy.
        dst: where the copy shall be; see `create`.
        refs: only these branches and tags.
        depth: copy only so many commits of each branch, counted from its end. Here and below, what
            is left out is fetched from `src` when it is read, verified, and kept.
        paths: copy only these groups, arrays or keys, with the metadata on the way to them.
        progress: called after each batch that was stored.

    Raises:
        RepositoryNotFoundError: there is nothing at `src`.
        AlreadyExistsError: there is something at `dst`.
        RefNotFoundError: `src` has no such ref.
        InvalidRefError: of `refs`, none is a branch.
        KeyNotFoundError: no branch has anything at one of `paths`.
        InvalidInputError: `depth` is less than 1, or the rest could not be fetched later.
    """
    source = open(src)
    if isinstance(paths, str):
        raise InvalidInputError(f"paths is a list of paths, such as [{paths!r}]")
    selection = PartialClone(source.url, depth, tuple(sorted(set(paths or ()))))
    check_paths(source._stores, selection)
    if refs is not None:
        check_refs(source._stores, [refs] if isinstance(refs, str) else refs)
    place, _ = _place(dst, {})
    _to_begin(dst, place, source.hash, selection)  # before anything is made there, as in `create`
    with place.storage.lock("create"):
        stores = _to_begin(dst, place, source.hash, selection)
        if stores is not None:
            begin(stores, selection)
            if place.has_history:
                place.write_marker(encode_marker(source.hash))
    # It can be opened once it is whole, and not before.
    is_made = stores is None or place.has_history
    if is_made:
        copy = open(dst)._stores
    else:
        copy = place.stores(hash_function(source.hash), "network", _open_other)
    fill(copy, src, refs, progress=progress)
    if not is_made:
        place.write_marker(encode_marker(source.hash))
    finish(copy)
    return open(dst)


def gateway_caches() -> Sequence[BoundedCache]:
    """What all processes of this user have kept of snapshots from gateways."""
    return caches()


def _to_begin(
    dst: str | os.PathLike[str], place: Backend, hash_name: str, selection: PartialClone
) -> RepositoryContext | None:
    """The parts of a clone that is still to be made a repository; None where it is one.

    Raises:
        AlreadyExistsError: there is something that is no such clone.
    """
    try:
        check_begun(open(dst)._stores, selection)
    except RepositoryNotFoundError:
        stores = place.stores(hash_function(hash_name), "network", _open_other)
        if begun(stores) is None:
            place.check_free()
        else:
            check_begun(stores, selection)
        return stores
    return None


def _reopen(url: str, verify: Verify, options: Options) -> Repository:
    return open(url, verify=verify, **options)


def _open_other(url: str | os.PathLike[str]) -> RepositoryContext:
    return open(url)._stores


def _check_verify(verify: str) -> None:
    if verify not in get_args(Verify):
        raise InvalidInputError(f"verify must be one of {get_args(Verify)}, not {verify!r}")


def _place(url: str | os.PathLike[str], options: Options) -> tuple[Backend, Options]:
    """A place, and the options that it is reached with: those given, and the user in its URL."""
    given: object = os.fspath(url)
    if not given or not isinstance(given, str):
        shown = repr(given) if not given else f"of {type(given).__name__}"
        raise InvalidUrlError(f"a repository's place must be a path or a URL, not {shown}", url="")
    text = given
    check_characters(text)
    is_path = os.path.exists(text)
    if not is_path:
        text = spelled_out(tidied(text) if isinstance(url, str) else text)
    if has_scheme(text) and not is_path:
        scheme = split_url(text).scheme
        if scheme in ("ipfs+http", "ipfs+https"):
            # The backend needs a package that most repositories do without.
            from versioned_zarr.backends.kubo.kubo_backend import KuboBackend  # noqa: PLC0415

            bare, user = take_user(text)
            options = options if user is None else _with_user(options, user)
            return KuboBackend(bare, **_only(options, _KUBO_OPTIONS, bare)), options
        if scheme == "lakefs":
            from versioned_zarr.backends.lakefs.lakefs_backend import LakefsBackend  # noqa: PLC0415

            _check_no_user(text)
            return LakefsBackend(text, **_only(options, _LAKEFS_OPTIONS, text)), options
    if options:
        shown = text if is_path else without_user(text)
        raise InvalidInputError(
            f"{shown!r} is no repository on a server and takes none of {', '.join(options)}"
        )
    return StorageBackend(_storage(text)), options


def _with_user(options: Options, user: User) -> Options:
    """Options with the user of a URL among them, unless they say already who asks."""
    headers = options.get("headers") or {}
    if "token" in options or names_one(headers):
        return options
    return {**options, "headers": {**headers, **basic(user)}}


def _only(options: Options, names: frozenset[str], url: str) -> dict[str, Any]:
    """The options, if they are all of these.

    Raises:
        InvalidInputError: one is not.
    """
    others = sorted(options.keys() - names)
    if others:
        raise InvalidInputError(f"{url!r} takes none of {', '.join(others)}")
    return dict(options)


def _check_no_user(url: str) -> None:
    """Make sure that no credentials are in a URL that takes none.

    Raises:
        InvalidUrlError: some are; does not show them.
    """
    shown = without_user(url)
    if shown != url:
        raise InvalidUrlError(
            f"credentials do not belong in a URL such as {shown!r}; pass access_key_id= and "
            "secret_access_key=",
            url=shown,
        )


def _storage(text: str) -> Storage:
    if not has_scheme(text) or os.path.exists(text):
        return LocalStorage(text)
    parts = split_url(text)
    shown = without_user(text)
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
    if parts.scheme in ("ipfs", "ipns"):
        raise InvalidUrlError(
            f"{shown!r} is no repository but what one may hold; vz.open_snapshot opens it",
            url=shown,
        )
    if parts.scheme in _EXTRAS:
        raise InvalidUrlError(
            f"no backend for {parts.scheme!r} in {shown!r} is installed; "
            f"pip install 'versioned-zarr[{_EXTRAS[parts.scheme]}]' would bring it, in a release "
            "that has it; this one knows paths, file://, memory://, ipfs+http:// and lakefs://",
            url=shown,
        )
    raise InvalidUrlError(
        f"unknown scheme {parts.scheme!r} in {shown!r}; known are a plain path, file://, "
        "memory://, ipfs+http:// and lakefs://",
        url=shown,
    )
