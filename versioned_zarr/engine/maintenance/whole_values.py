"""Whole values: the values of the current commits that `repack` makes contiguous.

Values may share leaves, and a leaf is stored once, so not all of them can be contiguous. Values are
taken in a fixed order, the branches before the tags. A value stays in several runs if earlier ones
have at least a fourth of it. The order does not depend on the packs, so repacking again changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from versioned_zarr.blocks.file_reader import sized_leaves
from versioned_zarr.blocks.protocol import PartialBlocks, PlacedBlocks
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.maintenance.collected import WholeValue
from versioned_zarr.errors import VersionedZarrError
from versioned_zarr.history.refs import KINDS
from versioned_zarr.ipld.cid import Cid, from_text, is_raw, to_text
from versioned_zarr.ipld.unixfs import LEAF_SIZE

_LEAST_SHARED = 4
"""A value is not made whole if this would store again at least one fourth of it."""


def whole_values(stores: RepositoryContext, store: PlacedBlocks) -> list[WholeValue]:
    """The values of more than one leaf that should be contiguous. O(the current values).

    None in a partial clone, which may lack some of their blocks.
    """
    if isinstance(store, PartialBlocks) and store.is_partial():
        return []
    found: list[WholeValue] = []
    taken: set[Cid] = set()
    for cid in _current_values(stores):
        leaves = None
        with suppress(VersionedZarrError):  # fsck reports it
            leaves = sized_leaves(store.get, cid)
        if leaves is None or len(leaves) < 2:
            continue
        shared = 0
        for leaf, size in leaves:
            shared += size if leaf in taken else 0
            taken.add(leaf)
        parts, sizes = zip(*leaves, strict=True)
        if shared * _LEAST_SHARED < sum(sizes):
            found.append(WholeValue(parts, sizes, store.common_pack(parts, sizes)))
    return found


def _current_values(stores: RepositoryContext) -> Iterator[Cid]:
    """The values of more than one leaf in the commits that refs name, each once."""
    seen: set[Cid] = set()
    for kind in KINDS:
        for name in stores.refs.names(kind):
            with suppress(VersionedZarrError):
                entry = stores.refs.read(kind, name)
                if entry is None or entry.commit is None or entry.commit in seen:
                    continue
                seen.add(entry.commit)
                tree = from_text(stores.commit(to_text(entry.commit)).tree)
                for _, link in stores.trees.walk(tree):
                    if not is_raw(link.cid) and link.tsize > LEAF_SIZE and link.cid not in seen:
                        seen.add(link.cid)
                        yield link.cid
