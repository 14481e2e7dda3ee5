"""The file reader: reads a value, or a range of it, from the blocks of its UnixFS file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Protocol, runtime_checkable

import numpy as np

from versioned_zarr.blocks.protocol import BlockStore, ByteRange, LocatedBlocks
from versioned_zarr.errors import CorruptBlockError, InvalidInputError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.unixfs import VALUES, UnixFsNode
from versioned_zarr.storage.protocol import Bytes

Get = Callable[[Cid], memoryview]


@runtime_checkable
class FileReader(Protocol):
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

    Raises:
        InvalidInputError: this machine has no memory for so much at once.
        CorruptBlockError: a block is no part of a value, or holds another number of bytes than the
            one above it says.
    """
    block = get(cid)
    if cids.is_raw(cid):
        return block[start:end]
    node = _decoded(cid, block)
    stop = node.size if end is None else min(end, node.size)
    if start >= stop:
        return memoryview(b"")
    check_room(stop - start)
    pieces = _pieces(get, node, start, stop)
    first = next(pieces)
    return first if len(first) == stop - start else _joined(first, pieces, stop - start)


def read_pieces(get: Get, cid: Cid) -> Iterator[memoryview]:
    """Yield the bytes of a whole value in pieces, in order, without a copy; holds one at a time.

    Raises:
        CorruptBlockError: as `read_value`.
    """
    block = get(cid)
    if cids.is_raw(cid):
        yield block
        return
    node = _decoded(cid, block)
    yield from _pieces(get, node, 0, node.size)


def leaves_of(get: Get, cid: Cid) -> list[Cid]:
    """All blocks below the root of a value, however deep, each once; the nodes are read."""
    found: dict[Cid, None] = {}
    waiting = [cid]
    while waiting:
        above = waiting.pop()
        if cids.is_raw(above):
            continue
        for link in unixfs.decode(get(above)).links:
            if link.cid not in found:
                found[link.cid] = None
                waiting.append(link.cid)
    return list(found)


def read_stored(blocks: BlockStore, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
    """As `read_value`, from a store; a whole value of many leaves is read with one copy.

    What is negative counts from the value's end, which costs reading its root.
    """
    if start < 0 or (end is not None and end < 0):
        root = blocks.get(cid)
        size = len(root) if cids.is_raw(cid) else _decoded(cid, root).size
        start, end, _ = slice(start, end).indices(size)
    if cids.is_raw(cid):
        block = blocks.get(cid)
        return block[start:end] if start or end is not None else block
    if blocks.is_remote and isinstance(blocks, FileReader):
        return blocks.read_value(cid, start, end)
    if start == 0 and end is None:
        whole = _whole(blocks, _decoded(cid, blocks.get(cid)))
        if whole is not None:
            return whole
    return read_value(blocks.get, cid, start, end)


def locate(blocks: BlockStore, cid: Cid) -> ByteRange | None:
    """Where the bytes of a value lie as one range; None if they do not. O(its leaves).

    Raises:
        BlockNotFoundError: a block of it is not here.
    """
    if not isinstance(blocks, LocatedBlocks):
        return None
    block = blocks.get(cid)
    if cids.is_raw(cid):
        return blocks.locate([cid], [len(block)])
    leaves: list[tuple[Cid, int]] = []
    root = _decoded(cid, block)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        # Leaves of less than 1 KiB are of no layout of ours, and there may be any number of them.
        if node.data or len(leaves) > root.size >> 10:
            return None
        if all(cids.is_raw(link.cid) for link in node.links):
            sizes = zip(node.links, node.blocksizes, strict=True)
            leaves += [(link.cid, size) for link, size in sizes]
        elif any(cids.is_raw(link.cid) for link in node.links):
            return None
        else:
            waiting += [_decoded(link.cid, blocks.get(link.cid)) for link in node.links[::-1]]
    return blocks.locate(*zip(*leaves, strict=True)) if leaves else None


def check_room(size_bytes: int) -> None:
    """Make sure that so much can be held in memory: a node may claim any size.

    Raises:
        InvalidInputError: it is more than this machine has.
    """
    limit = memory_bytes()
    if size_bytes > limit:
        raise InvalidInputError(
            f"{size_bytes:,} bytes exceed the {limit:,} bytes of this machine's memory; "
            "read them in ranges: read(key, start, end)"
        )


@cache
def memory_bytes() -> int:
    """How many bytes of memory this machine has; `sys.maxsize` where the system does not tell.

    Windows does not tell. It also promises no more memory than it has, so that too much is a
    `MemoryError` there at once.
    """
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    size_bytes: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return size_bytes


def _whole(blocks: BlockStore, node: UnixFsNode) -> memoryview | None:
    """All bytes of a value whose leaves are all below its root; None for any other."""
    leaves = [link.cid for link in node.links]
    if not leaves or node.data or not all(map(cids.is_raw, leaves)):
        return None
    check_room(node.size)
    return blocks.get_joined(leaves, node.blocksizes)


def join(cids_: Sequence[Cid], sizes_bytes: Sequence[int], blocks: Iterable[Bytes]) -> memoryview:
    """Blocks that have come from elsewhere, one behind the other, each of the size told of it.

    Raises:
        CorruptBlockError: one of them is of another size.
    """
    held = list(blocks)
    for cid, size, block in zip(cids_, sizes_bytes, held, strict=True):
        check_size(cid, len(block), size)
    return memoryview(b"".join(held))


def _pieces(get: Get, root: UnixFsNode, start: int, stop: int) -> Iterator[memoryview]:
    """Yield the bytes of a value from `start` to `stop` in pieces, in order; holds one at a time.

    Every block is compared with what the one above it says of its size.
    """
    waiting: list[tuple[Cid, int, int, int]] = []
    yield from _opened(root, start, stop, waiting)
    while waiting:
        cid, size, start, stop = waiting.pop()
        block = get(cid)
        if cids.is_raw(cid):
            check_size(cid, len(block), size)
            yield block[start:stop]
            continue
        node = _decoded(cid, block)
        check_size(cid, node.size, size)
        yield from _opened(node, start, stop, waiting)


def _opened(
    node: UnixFsNode, start: int, stop: int, waiting: list[tuple[Cid, int, int, int]]
) -> Iterator[memoryview]:
    """Yield what a node holds itself of a range, and put in line what lies below it."""
    position = len(node.data)
    if start < position:
        yield memoryview(node.data)[start:stop]
    below = []
    for link, size in zip(node.links, node.blocksizes, strict=True):
        if position > stop or (position == stop and size):
            break
        low, high = max(0, start - position), min(size, stop - position)
        # A leaf that is told to be empty is looked at; a node is not, it may lead to any number.
        if low < high or (not size and cids.is_raw(link.cid)):
            below.append((link.cid, size, low, high))
        position += size
    waiting += reversed(below)


def _joined(first: memoryview, rest: Iterator[memoryview], size_bytes: int) -> memoryview:
    try:
        into = np.empty(size_bytes, "u1").data
    except MemoryError as error:
        raise InvalidInputError(
            f"not enough memory for {size_bytes:,} bytes; read them in ranges"
        ) from error
    into[: len(first)] = first
    at = len(first)
    for piece in rest:
        into[at : at + len(piece)] = piece
        at += len(piece)
    return into.toreadonly()


def _decoded(cid: Cid, block: memoryview) -> UnixFsNode:
    node = unixfs.decode(block)
    if node.kind not in VALUES:
        text = cids.to_text(cid)
        raise CorruptBlockError(
            f"block {text} is a {node.kind.name.lower()}, not a value", cid=text
        )
    return node


def check_size(cid: Cid, found: int, told: int) -> None:
    """Compare a block's size with what the block above it says, both in bytes.

    Raises:
        CorruptBlockError: they differ.
    """
    if found != told:
        text = cids.to_text(cid)
        raise CorruptBlockError(
            f"block {text} holds {found} bytes, but the block above it says {told}", cid=text
        )
