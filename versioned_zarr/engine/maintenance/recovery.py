"""Recovery: finds the commits in packs of which the refs are lost, for example after a wipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from versioned_zarr.blocks.packs.pack_format import decode_footer
from versioned_zarr.blocks.packs.pack_registry import pack_names, pack_path
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.maintenance.repack import blocks_in
from versioned_zarr.engine.progress import OnProgress, Steps
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.errors import (
    AlreadyExistsError,
    BlockNotFoundError,
    CorruptError,
    StorageError,
)
from versioned_zarr.history import commit_object
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.refs import HEADS, KINDS, create_or_explain
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import from_text
from versioned_zarr.storage.protocol import Storage, view_or_read

_WHY = "recover"


def hash_code_in(storage: Storage) -> int | None:
    """The multihash code in the first pack that is sound; None if there is none."""
    for name in sorted(pack_names(storage)):
        with suppress(FileNotFoundError, CorruptError, StorageError):
            return decode_footer(view_or_read(storage, pack_path(name)), name).hash_code
    return None


def recover_branches(
    stores: RepositoryContext, progress: OnProgress | None = None
) -> dict[str, Commit]:
    """Create a branch for each commit that has no child and that no ref reaches. O(all packs).

    The newest becomes `main`, if there is none; each other one gets the name `recovered/CID`.
    """
    found = _commits(stores, progress)
    left = _not_reached(stores, found)
    parents = {parent for commit in left.values() for parent in commit.parents}
    heads = [commit for cid, commit in left.items() if cid not in parents]
    heads.sort(key=lambda commit: (commit.time, commit.cid), reverse=True)
    made: dict[str, Commit] = {}
    for commit in heads:
        names = [MAIN] if MAIN not in made and stores.refs.read(HEADS, MAIN) is None else []
        for name in [*names, f"recovered/{commit.cid[-12:]}"]:
            with suppress(AlreadyExistsError):
                create_or_explain(stores.refs, HEADS, name, from_text(commit.cid), _WHY)
                made[name] = commit
                break
    return made


def _commits(stores: RepositoryContext, progress: OnProgress | None) -> dict[str, Commit]:
    """The commits in the packs, by CID, whose trees are there."""
    packs = pack_names(stores.storage)
    steps = Steps(sum(packs.values()), progress)
    found: dict[str, Commit] = {}
    for pack, size_bytes in packs.items():
        for block in blocks_in(stores, pack):
            with suppress(BlockNotFoundError, CorruptError):
                if not cids.is_raw(block.cid) and commit_object.is_commit(block.cid, stores.blocks):
                    commit = commit_object.read(block.cid, stores.blocks)
                    stores.blocks.get(from_text(commit.tree))
                    found[commit.cid] = commit
        steps.add(size_bytes)
    return found


def _not_reached(stores: RepositoryContext, found: dict[str, Commit]) -> dict[str, Commit]:
    waiting = list(_named(stores))
    left = dict(found)
    while waiting:
        commit = left.pop(waiting.pop(), None)
        waiting += commit.parents if commit is not None else ()
    return left


def _named(stores: RepositoryContext) -> Iterator[str]:
    for kind in KINDS:
        for name in stores.refs.names(kind):
            entry = stores.refs.read(kind, name)
            if entry is not None and entry.commit is not None:
                yield cids.to_text(entry.commit)
