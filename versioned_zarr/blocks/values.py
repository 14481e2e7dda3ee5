"""Reading the bytes of a value, all of them or a range, from the blocks of its UnixFS file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from versioned_zarr.blocks.store import BlockStore
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid

Get = Callable[[Cid], memoryview]


@runtime_checkable
class ReadsValues(Protocol):
    """Blocks elsewhere, from where a value comes at less cost than its blocks one by one."""

    def read_value(self, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value, as the function `read_value` gives them; always verified."""
        ...


@runtime_checkable
class HasCache(Protocol):
    """Blocks elsewhere, of which some are kept here, where they may be damaged."""

    def get_verified(self, cid: Cid) -> memoryview:
        """A block compared with its CID; from where it is at home, if what is kept is not it.

        Raises:
            CorruptBlockError: there it is damaged, too.
        """
        ...


def get_verified(blocks: BlockStore, cid: Cid, where: str) -> memoryview:
    """A block compared with its CID; `where` is what an error calls the store.

    Raises:
        CorruptBlockError: it is not what its CID says.
    """
    if isinstance(blocks, HasCache):
        return blocks.get_verified(cid)
    data = blocks.get(cid)
    cids.check(cid, data, where)
    return data


def read_value(get: Get, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
    """The bytes of a value from `start` to `end`, clamped as Python slices are; read-only.

    Without a copy where they lie in one block. Only the leaves that the range touches are read.

    Args:
        get: gives blocks.
        cid: the value.
        start: the first byte, not negative.
        end: the byte behind the last; None for the value's end.
    """
    block = get(cid)
    if cids.is_raw(cid):
        return block[start:end]
    node = unixfs.decode(block)
    stop = node.size if end is None else min(end, node.size)
    if start >= stop:
        return memoryview(b"")
    pieces: list[memoryview] = []
    _gather(get, node, start, stop, pieces)
    if len(pieces) == 1:
        return pieces[0]
    return memoryview(b"".join(pieces))


def leaves_of(get: Get, cid: Cid) -> list[Cid]:
    """All blocks below the root of a value, however deep; the nodes among them are read."""
    if cids.is_raw(cid):
        return []
    below = [link.cid for link in unixfs.decode(get(cid)).links]
    return below + [deeper for each in below for deeper in leaves_of(get, each)]


def read_stored(blocks: BlockStore, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
    """As `read_value`, from a store; a whole value of many leaves is read with one copy.

    What is negative counts from the value's end, which costs reading its root.
    """
    if start < 0 or (end is not None and end < 0):
        root = blocks.get(cid)
        size = len(root) if cids.is_raw(cid) else unixfs.decode(root).size
        start, end, _ = slice(start, end).indices(size)
    if cids.is_raw(cid):
        block = blocks.get(cid)
        return block[start:end] if start or end is not None else block
    if blocks.is_remote and isinstance(blocks, ReadsValues):
        return blocks.read_value(cid, start, end)
    if start == 0 and end is None:
        node = unixfs.decode(blocks.get(cid))
        leaves = [link.cid for link in node.links]
        if leaves and not node.data and all(map(cids.is_raw, leaves)):
            return blocks.get_joined(leaves, node.size)
    return read_value(blocks.get, cid, start, end)


def _gather(get: Get, node: unixfs.Node, start: int, end: int, pieces: list[memoryview]) -> None:
    """Collect the pieces of a node's bytes from `start` to `end`, counted from its own first."""
    position = len(node.data)
    if start < position:
        pieces.append(memoryview(node.data)[start:end])
    for link, size in zip(node.links, node.blocksizes, strict=True):
        if position >= end:
            return
        if position + size > start:
            low, high = max(0, start - position), min(size, end - position)
            block = get(link.cid)
            if cids.is_raw(link.cid):
                pieces.append(block[low:high])
            else:
                _gather(get, unixfs.decode(block), low, high, pieces)
        position += size
