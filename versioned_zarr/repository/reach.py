"""What is reached from where: the roots of a repository, and every block below them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from versioned_zarr.blocks.partial import PartialStore
from versioned_zarr.history.refs import KINDS
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.repository.journal import Kind, read_head, session_ids
from versioned_zarr.repository.sessions import read_records
from versioned_zarr.repository.stores import Stores
from versioned_zarr.tree.lookup import BlockSource


def ref_roots(stores: Stores, since: datetime | None) -> set[Cid]:
    """The commits that refs name, or named until some time after `since` (None: ever)."""
    roots: set[Cid] = set()
    for kind in KINDS:
        for name in stores.refs.names(kind, deleted=True):
            left_at: datetime | None = None
            for entry in stores.refs.history(kind, name):
                is_kept = left_at is None or since is None or left_at >= since
                if entry.commit is not None and is_kept:
                    roots.add(entry.commit)
                left_at = entry.time
    return roots


def session_roots(stores: Stores) -> tuple[set[Cid], set[Cid]]:
    """The commits and the values that sessions hold on to.

    Raises:
        CorruptJournalError: a journal cannot be read, so nobody knows what it holds on to.
    """
    commits: set[Cid] = set()
    values: set[Cid] = set()
    for session in session_ids(stores.storage):
        try:
            commits.add(from_text(read_head(stores.storage, session).base))
            for record in read_records(stores.storage, session):
                if record.kind is Kind.SET:
                    values.add(record.cid)
                elif record.kind is Kind.COMMIT:
                    commits.add(record.cid)
        except FileNotFoundError:
            continue
    return commits, values


def reach(source: BlockSource, roots: Iterable[Cid], reached: set[bytes]) -> None:
    """Add to `reached` the digests of the roots and of all blocks below them. O(new blocks).

    Raises:
        BlockNotFoundError: one of them is missing, and not merely absent from a partial copy.
    """
    get = source.get_here if isinstance(source, PartialStore) else source.get
    stack = [cid for cid in roots if cid[-32:] not in reached]
    while stack:
        cid = stack.pop()
        digest = cid[-32:]
        if digest in reached:
            continue
        reached.add(digest)
        if cids.is_raw(cid):
            continue
        links = dag_pb.decode(get(cid))[0]
        stack += [link.cid for link in links if link.cid[-32:] not in reached]
