"""DAG nodes from any tool: decodes them, and reads the bytes of a value in pieces.

Unlike `lookup`, this caches nothing, and accepts what our trees never contain: dag-pb leaves with
inline data, other leaf sizes, HAMTs of any width, CIDv0, identity CIDs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from versioned_zarr.errors import CorruptBlockError, InvalidInputError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb, unixfs
from versioned_zarr.ipld.cid import Buffer, Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.identity import inline
from versioned_zarr.ipld.unixfs import VALUES, UnixFsNode, UnixFsType

Get: TypeAlias = Callable[[Cid], bytes | memoryview]
"""Returns the block with a CID, or raises BlockNotFoundError."""

DIRECTORIES = frozenset([UnixFsType.DIRECTORY, UnixFsType.HAMT])


def kind_of(get: Get, cid: Cid) -> UnixFsType:
    """Return the kind of the node with this CID: Kind.RAW for a raw block.

    Raises:
        CorruptBlockError: it is not UnixFS.
    """
    return UnixFsType.RAW if cids.is_raw(cid) else read_node(get, cid).kind


def size_of(get: Get, cid: Cid) -> int:
    """Return the byte length of a value. Reads its root block.

    Raises:
        InvalidInputError: it is a directory, not a value.
        CorruptBlockError: it is not UnixFS.
    """
    if cids.is_raw(cid):
        return len(read_block(get, cid))
    node = read_node(get, cid)
    if node.kind not in VALUES:
        text = cids.to_text(cid)
        raise InvalidInputError(f"{text} is a {node.kind.name.lower()}, not a value")
    return node.size


def pieces(get: Get, cid: Cid, start: int, stop: int) -> Iterator[memoryview]:
    """Yield the bytes of a value from `start` to `stop` in pieces, without a copy, in order.

    Reads each leaf only when it is its turn, and only those that overlap the range.

    Raises:
        CorruptBlockError: the size of a block differs from the size that its parent states.
    """
    stack = [(cid, start, stop)]
    while stack:
        cid, start, stop = stack.pop()
        if start >= stop:
            continue
        if cids.is_raw(cid):
            leaf = memoryview(read_block(get, cid))
            _check_size(cid, len(leaf), stop)
            yield leaf[start:stop]
            continue
        node = read_node(get, cid)
        _check_size(cid, node.size, stop)
        if start < len(node.data):
            yield memoryview(node.data)[start:stop]
        stack += reversed([part for part, _ in sized_parts(node, start, stop)])


def sized_parts(
    node: UnixFsNode, start: int, stop: int
) -> Iterator[tuple[tuple[Cid, int, int], int]]:
    """Yield the part of a range under each link, relative to the start of the linked part.

    Also yields the arguments with which `pieces` continues, and the size of everything below.

    Raises:
        CorruptBlockError: the node is not a value or a part of one.
    """
    if node.kind not in VALUES:
        raise CorruptBlockError(f"a value has a {node.kind.name.lower()} among its parts")
    position = len(node.data)
    for link, size in zip(node.links, node.blocksizes, strict=True):
        if position >= stop:
            return
        low, high = max(0, start - position), min(size, stop - position)
        if low < high:
            yield (link.cid, low, high), size
        position += size


def slot_digits(node: UnixFsNode) -> int:
    """Return the number of hexadecimal digits of a link's name in a shard that are its slot."""
    fanout = node.fanout
    if fanout < 2 or fanout & (fanout - 1) or fanout > 1 << 16:
        raise CorruptBlockError(
            f"a HAMT of fanout {fanout}, which is not a power of two up to 65536"
        )
    if node.hash_type != unixfs.HAMT_HASH_TYPE:
        raise CorruptBlockError(f"a HAMT of hash function {node.hash_type:#x}, not murmur3-x64-64")
    return len(f"{fanout - 1:X}")


def read_node(get: Get, cid: Cid) -> UnixFsNode:
    """Read the UnixFS node with this CID.

    Raises:
        CorruptBlockError: it is not a UnixFS node.
    """
    return decode_node(cid, read_block(get, cid))


def decode_node(cid: Cid, block: Buffer) -> UnixFsNode:
    """Decode a block as a UnixFS node; a raw block becomes one of kind RAW with its bytes.

    Raises:
        CorruptBlockError: it is not a UnixFS node.
    """
    if cids.is_raw(cid):
        return UnixFsNode(UnixFsType.RAW, [], len(block), (), bytes(block))
    try:
        _check_dag_pb(cid)
        return unixfs.decode(block)
    except CorruptBlockError as error:
        raise corrupt(cid, str(error)) from error


def links_of(cid: Cid, block: Buffer) -> list[Link]:
    """Return the links of a dag-pb block, UnixFS or not.

    Raises:
        CorruptBlockError: it is not a dag-pb block.
    """
    try:
        _check_dag_pb(cid)
        return dag_pb.decode(block)[0]
    except CorruptBlockError as error:
        raise corrupt(cid, str(error)) from error


def _check_dag_pb(cid: Cid) -> None:
    codec = cids.codec(cid)
    if codec != cids.DAG_PB:
        raise CorruptBlockError(f"its codec {codec:#x} is neither raw nor dag-pb")


def read_block(get: Get, cid: Cid) -> bytes | memoryview:
    """Return the block with this CID, or the one that the CID contains."""
    held = inline(cid)
    return get(cid) if held is None else held


def _check_size(cid: Cid, size: int, wanted: int) -> None:
    if wanted > size:
        raise corrupt(cid, f"it holds {size} bytes, but the block above it says more")


def corrupt(cid: Cid, what: str) -> CorruptBlockError:
    """Return the error that describes a problem with a block."""
    text = cids.to_text(cid)
    return CorruptBlockError(f"block {text}: {what}", cid=text)
