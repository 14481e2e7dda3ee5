"""Verifies a pack: its tail must be valid, and every block must match its CID."""

from __future__ import annotations

from typing import NamedTuple

from versioned_zarr.blocks.packs.index import run_from_file
from versioned_zarr.blocks.packs.pack_format import PackBlock, blocks_of, decode_tail
from versioned_zarr.blocks.packs.pack_recovery import recover
from versioned_zarr.blocks.packs.pack_registry import INDEX
from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Storage, view_or_read


class PackFault(NamedTuple):
    """A problem with a pack.

    Attributes:
        problem: a description.
        cid: the block that is affected, if any.
        is_lost: whether that block cannot be read from this pack.
    """

    problem: str
    cid: Cid | None = None
    is_lost: bool = False


class VerifiedPack(NamedTuple):
    """The result of verifying a pack: its intact blocks, and its faults."""

    blocks: list[PackBlock]
    faults: list[PackFault]


def check_pack(
    data: memoryview, hash_function: HashFunction, where: str, *, read_all: bool
) -> VerifiedPack:
    """Verify a whole pack.

    Args:
        data: the pack.
        hash_function: the hash function of the repository.
        where: its name, for errors.
        read_all: whether to hash every block, or to verify only the tail if that is intact.
    """
    found = recover(data, hash_function, where)
    checked = VerifiedPack([], [])
    for block in blocks_of(found.entries, hash_function.code):
        is_read = read_all or not found.is_whole
        if is_read and hash_function.digest(data[block.start : block.end]) != block.cid[-32:]:
            problem = f"the block at byte {block.start} does not match its CID"
            checked.faults.append(PackFault(problem, block.cid, is_lost=True))
        else:
            checked.blocks.append(block)
    if not found.is_whole:
        problem = "it is truncated, or its tail is damaged"
        checked.faults.append(PackFault(f"{problem}: not all of its blocks can be found"))
        return checked
    cids = {block.cid for block in blocks_of(found.entries, hash_function.code)}
    try:
        decode_tail(data, hash_function.code, where)
    except CorruptError:
        checked.faults.append(PackFault("its tail is damaged; its blocks can be found without it"))
    else:
        if found.root not in cids:
            checked.faults.append(PackFault("the root named by its footer is not in it"))
    return checked


def finds_all(data: memoryview, hash_function: HashFunction, where: str) -> bool:
    """Whether all blocks of a pack are found, even if its tail is damaged.

    If not, the pack was truncated or its content is unknown, and nothing may be removed.
    """
    return recover(data, hash_function, where).is_whole


def drop_damaged_indexes(storage: Storage, hash_function: HashFunction) -> bool:
    """Remove damaged index files; returns whether there were any. O(index).

    The packs contain the same information.
    """
    has_dropped = False
    for stored in storage.list(INDEX):
        if not stored.path.endswith(".idx"):
            continue
        try:
            run_from_file(
                view_or_read(storage, stored.path), hash_function.code, stored.path, check=True
            )
        except CorruptError:
            storage.delete(stored.path)
            has_dropped = True
    return has_dropped
