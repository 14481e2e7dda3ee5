"""Clone: creates a repository as a copy of another, and resumes if it was interrupted.

An interrupted clone has a record of what it copies.
"""

from __future__ import annotations

from collections.abc import Sequence

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.open_options import Location, ServerOptions
from versioned_zarr.engine.partial_clone import (
    PARTIAL,
    PartialClone,
    read,
    write,
)
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.engine.remotes import ORIGIN, Remotes
from versioned_zarr.engine.transfer.history_walk import has_path
from versioned_zarr.engine.transfer.push_fetch import fetch
from versioned_zarr.engine.transfer.ref_updates import move_ref
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidInputError,
    InvalidRefError,
    KeyNotFoundError,
    RefNotFoundError,
)
from versioned_zarr.history.ref_names import check_ref_name, looks_like_cid, word_before_cid
from versioned_zarr.history.refs import HEADS, REMOTES, TAGS
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, to_text

RECORD = "clone.json"


def begin(stores: RepositoryContext, selection: PartialClone) -> None:
    """Prepare a copy of another repository, or of a part of it.

    A record is written first, so that an interrupted clone can be resumed.

    Raises:
        InvalidInputError: a partial clone, and the backend cannot fetch missing data later.
    """
    if not selection.is_everything and stores.documents is None:
        raise InvalidInputError(
            "a clone with depth or paths fetches missing data on demand, but a clone at "
            f"{stores.storage.url!r} cannot; clone everything, or clone into a folder or onto an "
            "IPFS node"
        )
    write(stores.storage, RECORD, selection)
    if not selection.is_everything and stores.documents is not None:
        write(stores.documents, PARTIAL, selection)
    empty = unixfs.EMPTY_DIRECTORY
    stores.blocks.put([(stores.empty_tree, empty)], stores.empty_tree)
    remotes = Remotes(stores)
    if remotes.get(ORIGIN) != selection.origin:
        remotes.add(ORIGIN, selection.origin)


def begun(stores: RepositoryContext) -> PartialClone | None:
    """The partial clone that is unfinished here; None if there is none."""
    return read(stores.storage, RECORD)


def check_begun(stores: RepositoryContext, selection: PartialClone) -> None:
    """Make sure that there is an unfinished clone of exactly this.

    Raises:
        AlreadyExistsError: there is a repository, or a clone of something else.
    """
    url, found = stores.storage.url, begun(stores)
    if found is None:
        raise AlreadyExistsError(
            f"{url!r} is already a repository; open it and pull, or choose another location",
            name=url,
        )
    if found != selection:
        raise AlreadyExistsError(
            f"{url!r} is an unfinished clone {found}; finish it with the same call, or choose "
            "another location",
            name=url,
        )


def check_paths(source: RepositoryContext, selection: PartialClone) -> None:
    """Make sure that each path exists in the tree of some branch.

    Raises:
        KeyNotFoundError: a path does not exist.
    """
    for path in selection.paths:
        standing = [source.refs.read(HEADS, name) for name in source.refs.names(HEADS)]
        trees = [source.tree_of(entry.commit) for entry in standing if entry and entry.commit]
        if not any(has_path(source.blocks.get, tree, path) for tree in trees):
            raise KeyNotFoundError(
                f"no branch of {source.storage.url!r} has anything at {path!r}", key=path
            )


def check_refs(source: RepositoryContext, refs: Sequence[str]) -> None:
    """Make sure that a repository has these branches and tags, and that one is a branch.

    Raises:
        RefNotFoundError: a ref does not exist.
        InvalidRefError: none is a branch, or a name cannot be parsed.
    """
    names = {kind: set(source.refs.names(kind)) for kind in (HEADS, TAGS)}
    has_branch = False
    for ref in refs:
        kinds = [
            kind
            for kind, there in names.items()
            if {ref, check_ref_name(ref).removeprefix(f"{kind}/")} & there
        ]
        if not kinds:
            there = ", ".join(map(repr, sorted(names[HEADS])[:8])) or "none"
            raise RefNotFoundError(
                f"no branch or tag {ref!r} in {source.storage.url!r}; branches there: {there}",
                ref=ref,
            )
        has_branch = has_branch or HEADS in kinds
    if not has_branch:
        raise InvalidRefError(f"a clone needs a branch, but {refs!r} names none", ref=str(refs))


def fill(
    stores: RepositoryContext,
    source: Location,
    refs: str | Sequence[str] | None,
    *,
    progress: OnProgress | None = None,
    options: ServerOptions | None = None,
) -> None:
    """Fetch from `origin`, and create a local branch for each fetched branch.

    Args:
        stores: the new repository.
        source: `origin` as the caller passed it, with credentials, which `origin` does not have.
        refs: fetch only these branches and tags.
        progress: called after each stored batch.
        options: the options of `vz.open` for it.

    Raises:
        InvalidRefError: none of `refs` is a branch, and a repository needs one.
    """
    fetch(stores, source, refs, progress=progress, options=options)
    start = f"{ORIGIN}/"
    for seen in stores.refs.names(REMOTES):
        entry = stores.refs.read(REMOTES, seen)
        name = seen.removeprefix(start)
        if name == seen or entry is None or entry.commit is None:
            continue
        own = word_before_cid(name) if looks_like_cid(name) else name
        standing = stores.refs.read(HEADS, own)
        at = None if standing is None else standing.commit
        if at is None or _is_untouched(stores, at):
            why = f"clone of {Remotes(stores)[ORIGIN]}"
            move_ref(stores, HEADS, own, at, entry.commit, why)
    if not stores.refs.names(HEADS):
        raise InvalidRefError(f"a clone needs a branch, but {refs!r} names none", ref=str(refs))


def finish(stores: RepositoryContext) -> None:
    """Remove the record of the clone, once it is a repository."""
    stores.storage.delete(RECORD)


def _is_untouched(stores: RepositoryContext, head: Cid) -> bool:
    """Whether a branch is unchanged since a server with its own commits created it."""
    return stores.others is not None and not stores.commit(to_text(head)).parents
