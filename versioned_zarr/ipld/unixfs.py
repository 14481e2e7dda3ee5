"""UnixFS: how values and trees are stored in blocks, with the profile unixfs-v1-2025 (IPIP-499).

A value is a raw leaf, or a balanced tree over raw leaves of 1 MiB with 1024 links per node. A tree
is a directory: one block of at most 256 KiB, or else a HAMT (see `hamt`). Data written by other
tools with other settings can be read too. Nothing here reads or stores a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from versioned_zarr.errors import CorruptBlockError
from versioned_zarr.ipld import dag_pb, varint
from versioned_zarr.ipld.cid import Buffer, Cid, HashFunction, is_raw
from versioned_zarr.ipld.dag_pb import Link

LEAF_SIZE: Final = 1 << 20
LINKS_PER_NODE: Final = 1024
HAMT_THRESHOLD: Final = 256 << 10
"""The maximum size of a directory's block; larger directories are HAMTs."""

# The last fields of the profile's HAMT shards: hash function murmur3-x64-64, fanout 256.
HAMT_FANOUT: Final = 256
HAMT_HASH_TYPE: Final = 0x22
_HAMT_TAIL: Final = b"\x28" + varint.encode(HAMT_HASH_TYPE) + b"\x30" + varint.encode(HAMT_FANOUT)

DIRECTORY_DATA: Final = b"\x08\x01"
EMPTY_DIRECTORY: Final = dag_pb.encode((), DIRECTORY_DATA)
"""The block of the empty directory."""


class UnixFsType(IntEnum):
    """The type of a UnixFS node; the numbers are those of its Type field."""

    RAW = 0
    DIRECTORY = 1
    FILE = 2
    METADATA = 3
    SYMLINK = 4
    HAMT = 5


VALUES: Final = frozenset({UnixFsType.FILE, UnixFsType.RAW, UnixFsType.SYMLINK})
"""The types that can be read as bytes; those of a symbolic link are its target."""


class UnixFsNode(NamedTuple):
    """A UnixFS node, as decoded by `decode`.

    Attributes:
        kind: its type.
        links: its links, in the order of the block.
        size: the size of the value, if it is (a part of) one, in bytes.
        blocksizes: the number of bytes of the value under each link.
        data: the bytes of the value in the node itself, before those of its links.
        bitfield: for a HAMT shard, its occupied slots.
        fanout: for a HAMT shard, its number of slots.
        hash_type: for a HAMT shard, the multicodec number of its hash function.
    """

    kind: UnixFsType
    links: list[Link]
    size: int = 0
    blocksizes: tuple[int, ...] = ()
    data: bytes = b""
    bitfield: int = 0
    fanout: int = 0
    hash_type: int = 0


_KINDS: Final = {kind.value: kind for kind in UnixFsType}


class File(NamedTuple):
    """A value as blocks.

    Attributes:
        cid: the CID of its root block.
        size: the size of the value in bytes.
        tsize: the total size of all its blocks.
        blocks: those blocks, the root first, then depth first; leaves are views of the value.
    """

    cid: Cid
    size: int
    tsize: int
    blocks: list[tuple[Cid, Buffer]]


class Leaf(NamedTuple):
    """A leaf of a value.

    Attributes:
        cid: its CID.
        size: its size in bytes.
        data: its bytes, if they are at hand.
    """

    cid: Cid
    size: int
    data: Buffer | None


class _Part(NamedTuple):
    """A subtree of a value's blocks that is being built from the leaves up."""

    cid: Cid
    size: int
    tsize: int
    blocks: list[tuple[Cid, Buffer]]


def build_file(
    data: Buffer,
    hash_function: HashFunction,
    run: Callable[[Callable[[memoryview], Cid], Iterable[memoryview]], Iterable[Cid]] = map,
) -> File:
    """Split the value `data` (any C-contiguous buffer) into blocks, without copying it.

    Args:
        data: the value.
        hash_function: the hash function of the CIDs.
        run: how to hash leaves: `map`, or an executor's `map` to use more cores. Called only
            for a value of more than one leaf.
    """
    view = memoryview(data).cast("B")
    if len(view) <= LEAF_SIZE:
        cid = hash_function.raw(view)
        return File(cid, len(view), len(view), [(cid, view)])
    leaves = [view[at : at + LEAF_SIZE] for at in range(0, len(view), LEAF_SIZE)]
    found = zip(run(hash_function.raw, leaves), leaves, strict=True)
    return build_nodes((Leaf(cid, len(leaf), leaf) for cid, leaf in found), hash_function)


def build_nodes(leaves: Iterable[Leaf], hash_function: HashFunction) -> File:
    """Build the blocks of a value of at least two leaves.

    Args:
        leaves: the leaves, in order; those without bytes are left out of the blocks of the result.
        hash_function: the hash function of the CIDs.
    """
    level = [
        _Part(cid, size, size, [] if data is None else [(cid, data)]) for cid, size, data in leaves
    ]
    while len(level) > 1:
        level = [
            _join(level[at : at + LINKS_PER_NODE], hash_function)
            for at in range(0, len(level), LINKS_PER_NODE)
        ]
    return File(*level[0])


def _join(parts: list[_Part], hash_function: HashFunction) -> _Part:
    size = sum(part.size for part in parts)
    data = b"".join(
        (
            b"\x08\x02\x18",
            varint.encode(size),
            *(b"\x20" + varint.encode(part.size) for part in parts),
        )
    )
    block = dag_pb.encode([("", part.cid, part.tsize) for part in parts], data)
    cid = hash_function.dag_pb(block)
    nodes = (found for part in parts for found in part.blocks if not is_raw(found[0]))
    leaves = (found for part in parts for found in part.blocks if is_raw(found[0]))
    blocks: list[tuple[Cid, Buffer]] = [(cid, block), *nodes, *leaves]
    return _Part(cid, size, len(block) + sum(part.tsize for part in parts), blocks)


def directory(links: Iterable[tuple[str, Cid, int]]) -> bytes:
    """Return the block of a directory of `links` (name, cid, tsize), sorted by name."""
    return dag_pb.encode(links, DIRECTORY_DATA)


def shard(links: Iterable[tuple[str, Cid, int]], bitfield: int) -> bytes:
    """Return the block of a HAMT shard with `links`; its occupied slots are the bits of `bitfield`.

    The bitfield is big-endian without leading zero bytes, as go-unixfs writes it.
    """
    bits = bitfield.to_bytes((bitfield.bit_length() + 7) // 8, "big")
    return dag_pb.encode(links, b"\x08\x05\x12%c%b%b" % (len(bits), bits, _HAMT_TAIL))


def link_size(link: tuple[str, Cid, int]) -> int:
    """Return the number of bytes of `link` in a directory's block."""
    name, cid, tsize = link
    name_size = len(name.encode())
    body = 3 + len(cid) + name_size
    body += varint.size(len(cid)) + varint.size(name_size) + varint.size(tsize)
    return 1 + varint.size(body) + body


def decode(block: Buffer) -> UnixFsNode:
    """Decode a dag-pb block from any tool as a UnixFS node.

    Raises:
        CorruptBlockError: it is not valid; the error has no CID, because it is unknown.
    """
    links, data = dag_pb.decode(block)
    if data == DIRECTORY_DATA:
        return UnixFsNode(UnixFsType.DIRECTORY, links)
    bits_end = len(data) - len(_HAMT_TAIL)
    if data[:3] == b"\x08\x05\x12" and data[bits_end:] == _HAMT_TAIL and data[3] == bits_end - 4:
        bits = int.from_bytes(data[4:bits_end], "big")
        return UnixFsNode(UnixFsType.HAMT, links, 0, (), b"", bits, HAMT_FANOUT, HAMT_HASH_TYPE)
    return _read_data(data, links)


def _read_data(data: bytes, links: list[Link]) -> UnixFsNode:
    kind: UnixFsType | None = None
    content = b""
    size: int | None = None
    blocksizes: list[int] = []
    numbers = {5: 0, 6: 0}
    for field, value in _fields(data):
        if field == 1 and isinstance(value, int) and value in _KINDS:
            kind = _KINDS[value]
        elif field == 2 and isinstance(value, bytes):
            content = value
        elif field == 3 and isinstance(value, int):
            size = value
        elif field == 4 and isinstance(value, int):
            blocksizes.append(value)
        elif field in numbers and isinstance(value, int):
            numbers[field] = value
        elif field <= 6:
            raise CorruptBlockError(f"not a UnixFS node: its field {field} is invalid")
    if kind is None:
        raise CorruptBlockError("not a UnixFS node: it has no type")
    if kind is UnixFsType.HAMT:
        return UnixFsNode(
            kind,
            links,
            bitfield=int.from_bytes(content, "big"),
            fanout=numbers[6],
            hash_type=numbers[5],
        )
    if kind in VALUES and len(blocksizes) != len(links):
        raise CorruptBlockError(
            f"not a UnixFS node: it has {len(links)} links but sizes for {len(blocksizes)}"
        )
    whole = len(content) + sum(blocksizes)
    if kind in VALUES and size is not None and size != whole:
        raise CorruptBlockError(
            f"not a UnixFS node: it says that it holds {size} bytes, but holds {whole}"
        )
    return UnixFsNode(kind, links, size=whole, blocksizes=tuple(blocksizes), data=content)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a UnixFS message, block sizes one by one even if they are packed."""
    for field, value in dag_pb.read_fields(data):
        if field == 4 and isinstance(value, bytes):
            yield from ((4, number) for number in dag_pb.read_varints(value))
        else:
            yield field, value
