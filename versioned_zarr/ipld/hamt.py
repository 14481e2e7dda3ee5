"""HAMT: how UnixFS splits a directory that is too large for one block into shards.

The first byte of a name's murmur3 hash selects one of 256 slots in the root shard. A slot holds one
name, or a shard that separates the names in the slot by the next byte of their hashes. So the
shards depend only on the names, not on their order of insertion. The name of a link is its slot in
hexadecimal, followed by the entry's name if it is not a shard. Nothing here reads a block; `build`
passes new blocks to a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import mmh3
import numpy as np

from versioned_zarr.errors import CorruptBlockError, InvalidInputError
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.ipld.unixfs import HAMT_FANOUT, HAMT_HASH_TYPE, UnixFsNode, UnixFsType

MAX_DEPTH: Final = 8
"""The size of a hash in bytes; a HAMT cannot contain two names with the same hash."""

SLOTS: Final = tuple(f"{slot:02X}" for slot in range(HAMT_FANOUT))
"""The name of each slot in the names of links."""

_SLOT_NUMBERS: Final = {name: slot for slot, name in enumerate(SLOTS)}
_SLOT_DIGITS: Final = 2
_BATCH: Final = 1 << 14
_new: Final = tuple.__new__  # half the time of Link(...)

Put: TypeAlias = Callable[[Cid, bytes], None]
Entry: TypeAlias = tuple[str, Cid, int]
Shard: TypeAlias = dict[str, Link]
"""A decoded shard: its links by slot, in the order of the slots."""


def hash_name(name: str) -> bytes:
    """Return the hash of `name`, 8 bytes that are its slots in the shards from the root down.

    Raises:
        UnicodeEncodeError: `name` has a lone surrogate.
    """
    # mmh3 never gets the str itself: a lone surrogate in one crashes it.
    return mmh3.hash_bytes(name.encode())[7::-1]


def hash_names(names: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """Return the hashes of many names as numbers; their order is the order of the slots."""
    hashes = np.empty(len(names), np.uint64)
    for start in range(0, len(names), _BATCH):
        digests = b"".join(map(mmh3.hash_bytes, map(str.encode, names[start : start + _BATCH])))
        hashes[start : start + _BATCH] = np.frombuffer(digests, "<u8")[::2]
    return hashes


def read_shard(node: UnixFsNode) -> Shard:
    """Return the links of a HAMT's shard by slot.

    Raises:
        CorruptBlockError: it is not one, or has another fanout or hash function than the profile's.
    """
    if node.kind is not UnixFsType.HAMT:
        raise CorruptBlockError(f"not a directory or a HAMT shard but a {node.kind.name.lower()}")
    if node.fanout != HAMT_FANOUT or node.hash_type != HAMT_HASH_TYPE:
        raise CorruptBlockError(
            f"a HAMT of fanout {node.fanout} and hash function {node.hash_type:#x}; "
            "versioned_zarr reads fanout 256 with murmur3-x64-64, as in profile unixfs-v1-2025"
        )
    shard = {link.name[:_SLOT_DIGITS]: link for link in node.links}
    bitfield = 0
    for slot in shard:
        if slot not in _SLOT_NUMBERS:
            raise CorruptBlockError(f"a HAMT shard has no slot {slot!r}")
        bitfield |= 1 << _SLOT_NUMBERS[slot]
    if bitfield != node.bitfield or len(shard) != len(node.links):
        raise CorruptBlockError("the links of a HAMT shard do not match its bitfield")
    return shard


def is_shard(link: Link) -> bool:
    """Return whether a shard's link leads to a shard, not to the target of a name."""
    return len(link.name) == _SLOT_DIGITS


def named(link: Link) -> Link:
    """Return a shard's link to the target of a name under that name, without the slot."""
    name, cid, tsize = link
    return _new(Link, (name[_SLOT_DIGITS:], cid, tsize))


def encode_shard(shard: Shard, hash_function: HashFunction) -> tuple[Link, bytes]:
    """Return the block of `shard`, its links in any order, and a link to it without a name."""
    slots = sorted(shard)
    bitfield = 0
    for slot in slots:
        bitfield |= 1 << _SLOT_NUMBERS[slot]
    block = unixfs.shard([shard[slot] for slot in slots], bitfield)
    tsize = len(block) + sum([link.tsize for link in shard.values()])
    return Link("", hash_function.dag_pb(block), tsize), block


def build(entries: Sequence[Entry], hash_function: HashFunction, put: Put, depth: int = 0) -> Link:
    """Build the shards of a HAMT of `entries` and pass them to `put`, children first.

    Args:
        entries: name, cid and tsize of at least one entry (at least two below the root), in any
            order; the hashes of all names have the same first `depth` bytes.
        hash_function: the hash function of the CIDs.
        put: receives each shard's CID and block.
        depth: the number of shards above.

    Returns:
        A link to the topmost shard, without a name. Costs 2 to 3 µs per name.

    Raises:
        InvalidInputError: two names have the same hash.
    """
    in_order, hashes = _sort(entries)
    return _Builder(in_order, hashes, hash_function, put).build(0, len(in_order), depth)


def _sort(entries: Sequence[Entry]) -> tuple[list[Entry], bytes]:
    """Return the entries sorted by hash, and their concatenated hashes."""
    if len(entries) < 100:  # too few for numpy to pay off
        pairs = sorted((hash_name(entry[0]), entry) for entry in entries)
        return [entry for _, entry in pairs], b"".join([each for each, _ in pairs])
    hashes = hash_names([entry[0] for entry in entries])
    order = hashes.argsort()
    return [entries[at] for at in order.tolist()], hashes[order].astype(">u8").tobytes()


class _Builder:
    """Builds shards from a list of entries that is sorted by hash."""

    def __init__(
        self, entries: list[Entry], hashes: bytes, hash_function: HashFunction, put: Put
    ) -> None:
        self._entries = entries
        self._hashes = hashes
        self._name_block = hash_function.dag_pb
        self._put = put

    def build(self, start: int, stop: int, depth: int) -> Link:
        """Build the shard of the entries from `start` to `stop`."""
        if depth == MAX_DEPTH:
            names = " and ".join(repr(entry[0]) for entry in self._entries[start : start + 2])
            raise InvalidInputError(
                f"the names {names} have the same murmur3 hash, so they cannot be in one large "
                "directory; rename one"
            )
        slots = self._hashes[8 * start + depth : 8 * stop : 8]
        links: list[Entry]
        bitfield = 0
        if len(set(slots)) == len(slots):
            links = [
                (SLOTS[slot] + name, cid, tsize)
                for slot, (name, cid, tsize) in zip(slots, self._entries[start:stop], strict=True)
            ]
            for slot in slots:
                bitfield |= 1 << slot
        else:
            links = []
            at = 0
            while at < len(slots):
                slot = slots[at]
                first = start + at
                at = slots.rindex(slot) + 1
                links.append(self._fill(slot, first, start + at, depth))
                bitfield |= 1 << slot
        block = unixfs.shard(links, bitfield)
        cid = self._name_block(block)
        self._put(cid, block)
        return Link("", cid, len(block) + sum([link[2] for link in links]))

    def _fill(self, slot: int, start: int, stop: int, depth: int) -> Entry:
        if stop - start == 1:
            name, cid, tsize = self._entries[start]
            return SLOTS[slot] + name, cid, tsize
        _, cid, tsize = self.build(start, stop, depth + 1)
        return SLOTS[slot], cid, tsize
