"""Reachability: the roots of a repository, and every block that they reach."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime

from versioned_zarr.blocks.protocol import PartialBlocks
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.sessions.journal import RecordKind, read_head, session_ids
from versioned_zarr.engine.sessions.listing import sound_records
from versioned_zarr.errors import (
    CorruptRefError,
    NotFoundError,
    ReadOnlyError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.history.refs import KINDS, times_left
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.tree.lookup import BlockSource

_AT_ONCE = 16
"""The number of nodes that are read from a network at a time."""


@dataclass
class Roots:
    """The roots: data that must be kept.

    Attributes:
        commits: the commits.
        values: values of sessions, some of which are only in drafts, and leaves that they reuse.
        problems: refs and sessions that could not be read, so that what they reach is unknown.
        named_by: for each commit one of the refs, logs and sessions that name it.
    """

    commits: set[Cid] = field(default_factory=set)
    values: set[Cid] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    named_by: dict[Cid, str] = field(default_factory=dict)

    def name(self, commit: Cid, where: str) -> None:
        """Add a commit."""
        self.commits.add(commit)
        self.named_by.setdefault(commit, where)

    def missing(self, commit: Cid) -> str:
        """The problem that a commit is missing."""
        where = self.named_by.get(commit, "a session")
        return (
            f"commit {to_text(commit)}, which {where} names, is missing; fetch it from another "
            "copy of the repository, or delete what names it and run gc with keep_reflog=0"
        )


def roots_of(stores: RepositoryContext, since: datetime | None) -> Roots:
    """What refs name, or named at some time after `since` (None: ever), and what sessions use.

    Damage raises no error: it is listed in the problems.
    """
    roots = Roots({stores.empty_tree})
    _add_refs(stores, since, roots)
    for session in session_ids(stores.storage):
        _add_session(stores, session, roots)
    try:
        for commit, where in stores.session_roots() if stores.session_roots is not None else ():
            roots.name(commit, where)
    except VersionedZarrError as error:
        roots.problems.append(str(error))
    return roots


def _add_refs(stores: RepositoryContext, since: datetime | None, roots: Roots) -> None:
    for kind in KINDS:
        for name in stores.refs.names(kind, deleted=True):
            try:
                entries = list(stores.refs.history(kind, name))
            except CorruptRefError as error:
                roots.problems.append(str(error))
                entries = list(stores.refs.history(kind, name, readable=True))
                for entry in entries:
                    if entry.commit is not None:
                        roots.name(entry.commit, f"the log of {name!r}")
                continue
            for entry, left_at in times_left(entries):
                is_kept = left_at is None or since is None or left_at >= since
                if entry.commit is not None and is_kept:
                    where = repr(name) if left_at is None else f"the log of {name!r}"
                    roots.name(entry.commit, where)


def _add_session(stores: RepositoryContext, session: str, roots: Roots) -> None:
    try:
        base = from_text(read_head(stores.storage, session).base)
        roots.name(base, f"session {session}")
    except NotFoundError:
        pass  # it has no head, or no longer has one
    except VersionedZarrError as error:
        roots.problems.append(str(error))
    try:
        records, damage = sound_records(stores.storage, session)
    except FileNotFoundError:
        return
    except (ReadOnlyError, StorageError) as error:
        roots.problems.append(str(error))
        return
    if damage is not None:
        roots.problems.append(str(damage))
    for record in records:
        if record.kind is RecordKind.SET:
            roots.values.add(record.cid)
            roots.values.update(record.reused.cids())
        elif record.kind is RecordKind.LINK:
            roots.values.add(record.cid)
        elif record.kind is RecordKind.COMMIT:
            roots.name(record.cid, f"session {session}")


def reach(source: BlockSource, roots: Iterable[Cid], reached: set[bytes]) -> None:
    """Add to `reached` the digests of the roots and of all blocks below them. O(new blocks).

    Raises:
        BlockNotFoundError: a block is missing, and not just absent from a partial clone.
    """
    get = source.get_here if isinstance(source, PartialBlocks) else source.get
    is_remote = getattr(source, "is_remote", False)
    with ThreadPoolExecutor(_AT_ONCE, "vz-reach") if is_remote else nullcontext() as pool:
        read = map if pool is None else pool.map
        wanted = _new(roots, reached)
        while wanted:
            nodes = [cid for cid in wanted if not cids.is_raw(cid)]
            links = (link.cid for node in read(get, nodes) for link in dag_pb.decode(node)[0])
            wanted = _new(links, reached)


def _new(found: Iterable[Cid], reached: set[bytes]) -> list[Cid]:
    """Those whose digests were not reached before; adds these."""
    new = []
    for cid in found:
        if cid[-32:] not in reached:
            reached.add(cid[-32:])
            new.append(cid)
    return new
