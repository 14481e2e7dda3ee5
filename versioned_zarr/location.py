"""Locations: opens, creates and clones repositories by URL; the only importer of the backends."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Unpack, cast, get_args

from versioned_zarr._hooks import shows_progress
from versioned_zarr.backends.gateway import open_snapshot as open_snapshot  # noqa: PLC0414 - re-exported
from versioned_zarr.backends.gateway.gateway_snapshot import caches
from versioned_zarr.backends.local.state_dir import home
from versioned_zarr.backends.registry import backend_at
from versioned_zarr.blocks.packs.pack_registry import pack_names
from versioned_zarr.blocks.protocol import BoundedCache
from versioned_zarr.engine.backend import BEGUN, Backend, StorageBackend, Verify, is_begun
from versioned_zarr.engine.backend import begin as begin_backend
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.maintenance.recovery import hash_code_in, recover_branches
from versioned_zarr.engine.maintenance.stray_zarr import stray_documents
from versioned_zarr.engine.marker import encode_marker, read_marker
from versioned_zarr.engine.open_options import Location, Options, ServerOptions
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
    AlreadyExistsError,
    InvalidInputError,
    ReadOnlyError,
    RepositoryNotFoundError,
    StorageError,
)
from versioned_zarr.fork_local import ForkLocal, ForkSafeLock
from versioned_zarr.history import commit_object as commits
from versioned_zarr.history.refs import HEADS, create_or_explain
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import from_text, hash_function, hash_of_code
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session_end import warn_of_strays

_OPEN: ForkLocal[weakref.WeakValueDictionary[tuple[str, str, str | None], Repository]] = ForkLocal(
    weakref.WeakValueDictionary
)
_GUARD = ForkSafeLock()


def create(
    url: Location,
    *,
    hash: str = "sha2-256",
    verify: Verify = "network",
    **options: Unpack[Options],
) -> Repository:
    """Create a repository, with a branch `main` at a root commit of the empty tree.

    If creation is interrupted, call it again with the same hash function to resume.

    Args:
        url: a path, `file://…`, `memory://NAME`, `ipfs+http://HOST:PORT/NAME` (or `ipfs+https://…`)
            on an IPFS node, optionally with `USER:PASSWORD@`, its multiaddr
            `ipfs+/ip4/HOST/tcp/PORT/NAME`, `lakefs://REPO/PREFIX`, `s3://BUCKET/PREFIX` (or
            `gs://`, `az://`, `abfs://`), or a store of obstore, including the prefix.
        hash: the function that names every block: "sha2-256", as `ipfs add` does, or "blake3",
            about three times as fast (extra `blake3`). It cannot be changed later.
        verify: see `open`.

    Raises:
        AlreadyExistsError: there is already a repository, or a folder that is not empty.
        InvalidUrlError: the URL is not valid.
        ReadOnlyError: no permission to write there.

    Example:
        >>> import versioned_zarr as vz
        >>> list(vz.create("memory://created").branches)
        ['main']
    """
    backend, options = backend_at(url, options)
    function = hash_function(hash)
    _check_verify(verify)
    _check_free(backend, hash)  # before anything is created there, including the lock
    with backend.storage.lock("create"):
        _check_free(backend, hash)
        if backend.has_history:
            backend.write_marker(encode_marker(hash))
            return open(url, verify=verify, **options)
        begin_backend(backend, hash)
        stores = backend.stores(function, verify, _open_other)
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
        with suppress(AlreadyExistsError):  # an interrupted process was first
            create_or_explain(stores.refs, HEADS, MAIN, root, "create")
        backend.write_marker(encode_marker(hash))
        backend.storage.delete(BEGUN)
    return _opened(backend, verify, options, stores)


def _check_free(backend: Backend, hash_name: str) -> None:
    """Check that a repository can be created by a backend, or that creation has begun.

    Raises:
        AlreadyExistsError: there is something else.
    """
    if not is_begun(backend, hash_name):
        backend.check_free()


def open(  # noqa: A001 - the public name is vz.open
    url: Location,
    *,
    verify: Verify = "network",
    **options: Unpack[Options],
) -> Repository:
    """Open a repository.

    Args:
        url: a path, `file://…`, `memory://NAME`, `ipfs+http://HOST:PORT/NAME` (or `ipfs+https://…`)
            on an IPFS node, optionally with `USER:PASSWORD@`, its multiaddr
            `ipfs+/ip4/HOST/tcp/PORT/NAME`, `lakefs://REPO/PREFIX`, `s3://BUCKET/PREFIX` (or
            `gs://`, `az://`, `abfs://`), or a store of obstore, including the prefix.
        verify: which blocks are verified against their CID on every read: "always" all blocks,
            "network" blocks from a network, or "never" none. This does not affect writing, `fsck`
            and data that leaves the repository.

    Raises:
        RepositoryNotFoundError: there is no repository at the URL.
        FormatError: it was created by a newer version, or its marker is damaged.
        InvalidUrlError: the URL is not valid.

    Example:
        >>> import versioned_zarr as vz
        >>> made = vz.create("memory://opened")
        >>> print(vz.open("memory://opened").checkout("main").commit.message)
        Create the repository
    """
    backend, options = backend_at(url, options)
    _check_verify(verify)
    try:
        found = _opened(backend, verify, options)
    except RepositoryNotFoundError as error:
        raise _explained(backend, error) from None
    warn_of_strays(found._stores, found.url)
    return found


def _explained(backend: Backend, error: RepositoryNotFoundError) -> RepositoryNotFoundError:
    """The error for a folder without a marker, if plain Zarr or packs are there."""
    if not isinstance(backend, StorageBackend):
        return error
    names = stray_documents(backend.storage)
    packs: dict[str, int] = {}
    with suppress(StorageError, ReadOnlyError):  # it may be a file
        packs = pack_names(backend.storage)
    if not names and not packs:
        return error
    what = f"plain Zarr ({', '.join(names)})" if names else "packs without a marker"
    path = backend.url.removeprefix("file://")
    return RepositoryNotFoundError(
        f"no repository at {backend.url!r}, but {what}. If there was a repository, it was "
        f"overwritten: vz.recover({path!r}) opens what is left of it",
        url=backend.url,
    )


def _opened(
    backend: Backend, verify: Verify, options: Options, stores: RepositoryContext | None = None
) -> Repository:
    """The repository of a backend; the one that is open already, unless there are options."""
    document = read_marker(backend.url, backend.read_marker)
    # A repository that was deleted and created again counts as another one.
    key = (backend.url, verify, document.get("id"))
    with _GUARD:
        found = _OPEN().get(key)
    if found is not None and found.hash == document["hash"] and not options:
        return found
    if stores is None or stores.hash.name != document["hash"]:
        stores = backend.stores(hash_function(document["hash"]), verify, _open_other)
    kept = {name: value for name, value in options.items() if name != "progress"}
    repository = Repository(stores, _reopen, backend.url, verify, kept)
    if not options:
        with _GUARD:
            _OPEN()[key] = repository
    return repository


@shows_progress("recovering")
def recover(url: Location, *, progress: OnProgress | None = None) -> Repository:
    """Open what is left of a repository in a folder whose marker or refs were lost.

    `dataset.to_zarr("climate.vz", mode="w")` deletes what it can in that folder. Every commit that
    is still in the packs, that no ref reaches, and that is no parent of another one gets a branch:
    `main` if there is no such branch, otherwise `recovered/CID`. `Repository.fsck` then says which
    values are missing. Reads all packs once.

    Args:
        url: the path of the folder.
        progress: called with the bytes of packs done and in total.

    Raises:
        RepositoryNotFoundError: there are no packs with a commit.
        InvalidInputError: this is no folder on this machine.

    Example:
        >>> import os, tempfile, versioned_zarr as vz
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = vz.create(f"{folder}/climate.vz")
        ...     os.remove(f"{folder}/climate.vz/versioned-zarr.json")
        ...     list(vz.recover(f"{folder}/climate.vz").branches)
        ['main']
    """
    backend, options = backend_at(url, {})
    if not isinstance(backend, StorageBackend):
        raise InvalidInputError(
            f"{backend.url!r} is not a folder of this machine; only there can files be wiped and "
            "recovered"
        )
    try:
        found = _opened(backend, "network", options)
    except RepositoryNotFoundError:
        code = hash_code_in(backend.storage)
        if code is None:
            raise
        backend.write_marker(encode_marker(hash_of_code(code).name))
        found = _opened(backend, "network", options)
    made = recover_branches(found._stores, progress)
    if not made and not found.branches:
        raise RepositoryNotFoundError(
            f"no commit is left in the packs of {backend.url!r}", url=backend.url
        )
    return found


def open_or_create(
    url: Location,
    *,
    hash: str = "sha2-256",
    verify: Verify = "network",
    **options: Unpack[Options],
) -> Repository:
    """Open a repository, or create it if it does not exist; see `open` and `create`.

    Example:
        >>> import versioned_zarr as vz
        >>> vz.open_or_create("memory://either") is vz.open_or_create("memory://either")
        True
    """
    try:
        return open(url, verify=verify, **options)
    except RepositoryNotFoundError:
        return create(url, hash=hash, verify=verify, **options)


@shows_progress("cloning")
def clone(
    src: Location,
    dst: Location,
    *,
    refs: str | Sequence[str] | None = None,
    depth: int | None = None,
    paths: Sequence[str] | None = None,
    progress: OnProgress | None = None,
    src_options: ServerOptions | None = None,
    **options: Unpack[ServerOptions],
) -> Repository:
    """Clone a repository; the clone has the original as its remote `origin`.

    Branches, tags and everything that they reach are copied, and each block is verified. Reflogs
    start empty. If the clone is interrupted, call it again to resume.

    Args:
        src: the repository to clone.
        dst: the location of the clone; see `create`.
        refs: only these branches and tags.
        depth: only this many of the newest commits of each branch. With `depth` and `paths`,
            omitted data is fetched from `src` when it is read, verified, and kept.
        paths: only these groups, arrays or keys, and the metadata above them.
        progress: called after each stored batch.
        src_options: the options of `open` for `src`. They are not stored: a partial clone fetches
            omitted data with those of the environment.
        options: the options of `open` for `dst`.

    Raises:
        RepositoryNotFoundError: there is no repository at `src`.
        AlreadyExistsError: `dst` is not empty.
        RefNotFoundError: `src` has no such ref.
        InvalidRefError: none of `refs` is a branch.
        KeyNotFoundError: one of `paths` does not exist on any branch.
        InvalidInputError: `depth` is less than 1, or missing data could not be fetched later.

    Example:
        >>> import versioned_zarr as vz
        >>> made = vz.create("memory://original")
        >>> dict(vz.clone("memory://original", "memory://copy").remotes)
        {'origin': 'memory://original'}
    """
    source = open(src, **(src_options or {}))
    if isinstance(paths, str):
        raise InvalidInputError(f"paths must be a list of paths, such as [{paths!r}]")
    selection = PartialClone(source.url, depth, tuple(sorted(set(paths or ()))))
    check_paths(source._stores, selection)
    if refs is not None:
        check_refs(source._stores, [refs] if isinstance(refs, str) else refs)
    backend, _ = backend_at(dst, cast("Options", options))
    _to_begin(dst, options, backend, source.hash, selection)  # before anything is created there
    with backend.storage.lock("create"):
        stores = _to_begin(dst, options, backend, source.hash, selection)
        if stores is not None:
            begin(stores, selection)
            if backend.has_history:
                backend.write_marker(encode_marker(source.hash))
    # It cannot be opened until it is complete.
    is_made = stores is None or backend.has_history
    if is_made:
        copy = open(dst, **options)._stores
    else:
        copy = backend.stores(hash_function(source.hash), "network", _open_other)
    fill(copy, src, refs, progress=progress, options=src_options)
    if not is_made:
        backend.write_marker(encode_marker(source.hash))
    finish(copy)
    return open(dst, **options)


def state_folder() -> str:
    """Where this machine keeps caches and sessions of remote repositories."""
    return str(home())


def gateway_caches() -> Sequence[BoundedCache]:
    """The caches of snapshots from gateways, of all processes of this user."""
    return caches()


def _to_begin(
    dst: Location,
    options: ServerOptions,
    backend: Backend,
    hash_name: str,
    selection: PartialClone,
) -> RepositoryContext | None:
    """The parts of a clone that is not a repository yet; None if it is one.

    Raises:
        AlreadyExistsError: there is something else.
    """
    try:
        check_begun(open(dst, **options)._stores, selection)
    except RepositoryNotFoundError:
        stores = backend.stores(hash_function(hash_name), "network", _open_other)
        if begun(stores) is None:
            backend.check_free()
        else:
            check_begun(stores, selection)
        return stores
    return None


def _reopen(url: str, verify: Verify, options: Options) -> Repository:
    return open(url, verify=verify, **options)


def _open_other(url: Location, /, **options: Unpack[ServerOptions]) -> RepositoryContext:
    return open(url, **options)._stores


def _check_verify(verify: str) -> None:
    if verify not in get_args(Verify):
        raise InvalidInputError(f"verify must be one of {get_args(Verify)}, not {verify!r}")
