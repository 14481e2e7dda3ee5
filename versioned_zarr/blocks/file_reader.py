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
    """Remote blocks, from which reading a value at once costs less than reading its blocks."""

    def read_value(self, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value, as the function `read_value` returns them; always verified."""
        ...


@runtime_checkable
class HasCache(Protocol):
    """Remote blocks with a local cache, which may be damaged."""

    def get_verified(self, cid: Cid) -> memoryview:
        """A verified block; from the remote store if the cached copy is damaged.

        Raises:
            CorruptBlockError: the remote block is damaged, too.
        """
        ...


def get_verified(blocks: BlockStore, cid: Cid, where: str) -> memoryview:
    """A verified block; `where` is the name of the store in errors.

    Raises:
        CorruptBlockError: the block does not match its CID.
    """
    if isinstance(blocks, HasCache):
        return blocks.get_verified(cid)
    data = blocks.get(cid)
    cids.check(cid, data, where)
    return data


def read_value(get: Get, cid: Cid, start: int = 0, end: int | None = None) -> memoryview:
    """The bytes of a value from `start` to `end`, clamped as Python slices are; read-only.

    Not copied if it is in one block. Only the leaves that overlap the range are read.

    Args:
        get: returns the bytes of a block.
        cid: the value.
        start: the first byte, not negative.
        end: the byte after the last; None for the value's end.

    Raises:
        InvalidInputError: this machine does not have enough memory.
        CorruptBlockError: a block is not part of a value, or its size differs from the size that
            its parent states.
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
    """Yield the bytes of a whole value in pieces, in order, without a copy; one at a time.

    Raises:
        CorruptBlockError: see `read_value`.
    """
    block = get(cid)
    if cids.is_raw(cid):
        yield block
        return
    node = _decoded(cid, block)
    yield from _pieces(get, node, 0, node.size)


def leaves_of(get: Get, cid: Cid) -> list[Cid]:
    """All blocks below the root of a value, at any depth, each once; reads the nodes."""
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
    """Like `read_value`, from a store; a whole value of many leaves is read with one copy.

    Negative positions count from the end of the value, which costs reading its root.
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
    """The bytes of a value as one range; None if they are not contiguous. O(its leaves).

    Raises:
        BlockNotFoundError: a block of the value is missing.
    """
    if not isinstance(blocks, LocatedBlocks):
        return None
    leaves = sized_leaves(blocks.get, cid)
    return blocks.locate(*zip(*leaves, strict=True)) if leaves else None


def sized_leaves(get: Get, cid: Cid) -> list[tuple[Cid, int]] | None:
    """The leaves of a value in order, with their sizes in bytes; together, they are its bytes.

    None if another layout than ours has bytes of the value in nodes, or very small leaves.

    Raises:
        BlockNotFoundError: a node of the value is missing.
        CorruptBlockError: a block is not part of a value.
    """
    block = get(cid)
    if cids.is_raw(cid):
        return [(cid, len(block))]
    leaves: list[tuple[Cid, int]] = []
    root = _decoded(cid, block)
    waiting = [root]
    while waiting:
        node = waiting.pop()
        # Our layouts have no leaves of less than 1 KiB, and other layouts may have any number.
        if node.data or len(leaves) > root.size >> 10:
            return None
        if all(cids.is_raw(link.cid) for link in node.links):
            sizes = zip(node.links, node.blocksizes, strict=True)
            leaves += [(link.cid, size) for link, size in sizes]
        elif any(cids.is_raw(link.cid) for link in node.links):
            return None
        else:
            waiting += [_decoded(link.cid, get(link.cid)) for link in node.links[::-1]]
    return leaves


def check_room(size_bytes: int) -> None:
    """Make sure that a value fits into memory: a node may claim any size.

    Raises:
        InvalidInputError: the value is larger than the memory of this machine.
    """
    limit = memory_bytes()
    if size_bytes > limit:
        raise InvalidInputError(
            f"{size_bytes:,} bytes exceed the {limit:,} bytes of this machine's memory; "
            "read them in ranges: read(key, start, end)"
        )


@cache
def memory_bytes() -> int:
    """The memory of this machine in bytes; `sys.maxsize` if the system does not report it.

    Windows does not report it, but raises `MemoryError` at once for more memory than it has.
    """
    if not hasattr(os, "sysconf"):
        return sys.maxsize
    size_bytes: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return size_bytes


def _whole(blocks: BlockStore, node: UnixFsNode) -> memoryview | None:
    """All bytes of a value whose leaves are all directly below its root; None for any other."""
    leaves = [link.cid for link in node.links]
    if not leaves or node.data or not all(map(cids.is_raw, leaves)):
        return None
    check_room(node.size)
    return blocks.get_joined(leaves, node.blocksizes)


def join(cids_: Sequence[Cid], sizes_bytes: Sequence[int], blocks: Iterable[Bytes]) -> memoryview:
    """Join blocks from another store; each must have the expected size.

    Raises:
        CorruptBlockError: a block has another size.
    """
    held = list(blocks)
    for cid, size, block in zip(cids_, sizes_bytes, held, strict=True):
        check_size(cid, len(block), size)
    return memoryview(b"".join(held))


def _pieces(get: Get, root: UnixFsNode, start: int, stop: int) -> Iterator[memoryview]:
    """Yield the bytes of a value from `start` to `stop` in pieces, in order; one at a time.

    The size of every block is compared with the size that its parent states.
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
    """Yield the part of a range that is in a node itself, and queue the blocks below it."""
    position = len(node.data)
    if start < position:
        yield memoryview(node.data)[start:stop]
    below = []
    for link, size in zip(node.links, node.blocksizes, strict=True):
        if position > stop or (position == stop and size):
            break
        low, high = max(0, start - position), min(size, stop - position)
        # An empty leaf is read to verify its size; an empty node is not: it may lead to any number.
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
    """Compare the size of a block with the size that its parent states, both in bytes.

    Raises:
        CorruptBlockError: they differ.
    """
    if found != told:
        text = cids.to_text(cid)
        raise CorruptBlockError(
            f"block {text} holds {found} bytes, but the block above it says {told}", cid=text
        )
