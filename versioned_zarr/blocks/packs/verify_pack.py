"""Verifies a pack: every byte must be what writing its blocks again would give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from versioned_zarr.blocks.packs.index import run_from_file
from versioned_zarr.blocks.packs.pack import read_entries, recover_entries
from versioned_zarr.blocks.packs.pack_registry import INDEX
from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.car import (
    DATA_OFFSET,
    FIRST_SECTION,
    CarSection,
    decode_index,
    decode_varint,
    encode_index,
    header_size,
    header_size_in,
    pack_head,
    read_pack_head,
    section_header,
)
from versioned_zarr.ipld.cid import CID_SIZE, DAG_PB, RAW, Cid, HashFunction
from versioned_zarr.storage.protocol import Storage, look_at


class PackFault(NamedTuple):
    """Something wrong with a pack.

    Attributes:
        problem: what, in words.
        cid: the block that it concerns, if one; its codec may be a guess.
        is_lost: whether that block cannot be read from this pack.
    """

    problem: str
    cid: Cid | None = None
    is_lost: bool = False


class VerifiedPack(NamedTuple):
    """What a check of a pack found: its sound blocks, and its faults."""

    sections: list[CarSection]
    faults: list[PackFault]


def check_pack(
    data: memoryview, hash_function: HashFunction, where: str, *, read_all: bool
) -> VerifiedPack:
    """Check a whole pack.

    Args:
        data: the pack.
        hash_function: the repository's.
        where: its name, for errors.
        read_all: whether to hash every block, or only those whose names are damaged.
    """
    entries, end = recover_entries(data, hash_function, where)
    places = sorted(
        (int(offset) + DATA_OFFSET, bytes(digest)) for digest, offset in entries.tolist()
    )
    checked = VerifiedPack([], [])
    for number, (offset, digest) in enumerate(places):
        following = places[number + 1][0] if number + 1 < len(places) else end
        _check_block(data, offset, following, digest, hash_function, checked, read_all=read_all)
    if finds_all(data, hash_function, where):
        checked.faults.extend(_of_head_and_index(data, entries, end, checked, hash_function))
    else:
        problem = "it is truncated, or its header and index are damaged"
        checked.faults.append(PackFault(f"{problem}: not all of its blocks can be found"))
    return checked


def _of_head_and_index(
    data: memoryview,
    entries: npt.NDArray[np.void],
    end: int,
    checked: VerifiedPack,
    hash_function: HashFunction,
) -> Iterator[PackFault]:
    digests = {section.cid[-32:] for section in checked.sections}
    root = Cid(bytes(data[FIRST_SECTION - _ROOT_FROM_END :][:CID_SIZE]))
    if bytes(data[:FIRST_SECTION]) != pack_head(root, end):
        yield PackFault("its header is damaged")
    elif root[-32:] not in digests or root[:4] not in _prefixes(hash_function):
        yield PackFault("the root named by its header is not in it")
    if bytes(data[end:]) != encode_index(entries, hash_function.code):
        yield PackFault("its index is damaged; its blocks can be found without it")


def finds_all(data: memoryview, hash_function: HashFunction, where: str) -> bool:
    """Whether a pack names all of its blocks, or they are found although its index is damaged.

    If not, it was cut off, or what it held cannot be told: nothing may be removed for it.
    """
    with suppress(CorruptError):
        read_entries(data, hash_function, where)
        return True
    _, end = recover_entries(data, hash_function, where)
    with suppress(CorruptError):
        return read_pack_head(data, where)[1] == end
    with suppress(CorruptError):
        return len(decode_index(data[end:], hash_function.code, where)) > 0
    return False


def drop_damaged_indexes(storage: Storage, hash_function: HashFunction) -> bool:
    """Remove index files that are damaged; says whether any were. O(index).

    What they said is in the packs.
    """
    has_dropped = False
    for stored in storage.list(INDEX):
        if not stored.path.endswith(".idx"):
            continue
        try:
            run_from_file(
                look_at(storage, stored.path), hash_function.code, stored.path, check=True
            )
        except CorruptError:
            storage.delete(stored.path)
            has_dropped = True
    return has_dropped


_ROOT_FROM_END = CID_SIZE + len(b"\x67version\x01")


def _prefixes(hash_function: HashFunction) -> tuple[bytes, bytes]:
    """How a CID with a raw block and one with a node begin."""
    multihash = bytes((hash_function.code, 32))
    return bytes((1, RAW)) + multihash, bytes((1, DAG_PB)) + multihash


def _check_block(
    data: memoryview,
    offset: int,
    following: int,
    digest: bytes,
    hash_function: HashFunction,
    checked: VerifiedPack,
    *,
    read_all: bool,
) -> None:
    """Find the block of a digest at an offset, by its own header or by where the next begins."""
    raw = Cid(_prefixes(hash_function)[0] + digest)
    for cid, start, end in _candidates(data, offset, following, digest):
        block = data[start:end]
        is_whole = bytes(data[offset:start]) == section_header(cid, len(block))
        is_named = cid[:4] in _prefixes(hash_function)
        if is_whole and is_named and not read_all:
            checked.sections.append(CarSection(offset, cid, start, end))
            return
        if hash_function.digest(block) == digest:
            if not (is_whole and is_named):
                cid = raw if not is_named else cid
                checked.faults.append(
                    PackFault(f"the CID of the block at byte {offset} is damaged", cid)
                )
            checked.sections.append(CarSection(offset, cid, start, end))
            return
    problem = f"the block at byte {offset} does not match its CID"
    checked.faults.append(PackFault(problem, raw, is_lost=True))


def _candidates(
    data: memoryview, offset: int, following: int, digest: bytes
) -> Iterator[tuple[Cid, int, int]]:
    """Where the bytes of a block may lie: as its header says, and as its neighbours say."""
    try:
        length, at = decode_varint(data, offset, "")
        cid = Cid(bytes(data[at : at + CID_SIZE]))
        if cid[-32:] == digest and CID_SIZE <= length <= len(data) - at:
            yield cid, at + CID_SIZE, at + length
    except CorruptError:
        pass
    header = header_size_in(following - offset)
    size = following - offset - header
    if size >= 0 and header_size(size) == header:
        prefix = bytes(data[offset + header - CID_SIZE :][:4])
        yield Cid(prefix + digest), offset + header, following
