"""The index: the location of each block, as sorted runs of digests that are bisected.

A run stores columns, not rows. So it works the same whether mapped from a file or in memory, and
numpy merges runs. docs/design/index-files.md shows the bytes of the file. An index is derived data:
it can be deleted and rebuilt from the packs.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from versioned_zarr.blocks.packs.pack_format import INDEX_ENTRY, Entries, digest_prefixes
from versioned_zarr.errors import CorruptError

_MAGIC = b"vzindex2"
_HEAD = struct.Struct("<8sIIQI4x")  # magic, hash code, packs, entries, crc32 of what follows
HEAD_SIZE = _HEAD.size
NAME_SIZE = 24
_TAIL = np.dtype("V24")
_COLUMNS = (  # in the order of the file and of `Run`
    np.dtype("<u8"),  # prefixes
    np.dtype("<u8"),  # starts
    np.dtype("<u4"),  # numbers
    np.dtype("<u4"),  # sizes
    np.dtype("<u4"),  # checks
    _TAIL,  # tails
)
_FACTORS = 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_ENTRY_SIZE = sum(dtype.itemsize for dtype in _COLUMNS)


class BlockLocation(NamedTuple):
    """The location of a block: the name of its pack, the offset and the size in it."""

    pack: str
    start: int
    size: int


_place = partial(tuple.__new__, BlockLocation)  # half the time of a call into Python


def checks_of(
    starts: npt.NDArray[np.uint64], numbers: npt.NDArray[np.uint32], sizes: npt.NDArray[np.uint32]
) -> npt.NDArray[np.uint32]:
    """The check of each entry: any flipped bit in the location of its block changes it."""
    wide = (starts, numbers.astype("<u8"), sizes.astype("<u8"))
    mixed = np.zeros(len(starts), "<u8")
    for column, factor in zip(wide, _FACTORS, strict=True):
        mixed += column * np.uint64(factor)
    return mixed.view("<u4")[1::2].copy()


def is_sound(start: int, number: int, size: int, check: int) -> bool:
    """Whether the check of an entry matches its location."""
    a, b, c = _FACTORS
    return (start * a + number * b + size * c >> 32) & 0xFFFFFFFF == check


class Run:
    """The locations of the blocks in some packs, sorted by digest.

    Args:
        packs: the names of the packs.
        columns: the columns of an index file, n items each.
    """

    def __init__(self, packs: Sequence[str], columns: Sequence[npt.NDArray[Any]]) -> None:
        self.packs = tuple(packs)
        self.prefixes, self.starts, self.numbers, self.sizes, self.checks, self.tails = columns
        self._prefixes, self._starts = _numbers_of(self.prefixes), _numbers_of(self.starts)
        self._numbers, self._sizes = _numbers_of(self.numbers), _numbers_of(self.sizes)
        self._checks = _numbers_of(self.checks)
        self._tails = np.ascontiguousarray(self.tails).view("u1").data.cast("B")

    def __len__(self) -> int:
        return len(self.prefixes)

    def first(self, digest: bytes) -> BlockLocation | None:
        """One location of a block; like `find`, in half the time."""
        prefixes = self._prefixes
        prefix = int.from_bytes(digest[:8], "big")
        at = bisect_left(prefixes, prefix)
        if at == len(prefixes) or prefixes[at] != prefix:
            return None
        if self._tails[24 * at : 24 * at + 24] == digest[8:]:
            number, start, size = self._numbers[at], self._starts[at], self._sizes[at]
            # The checksum of the whole file may not have been verified.
            if is_sound(start, number, size, self._checks[at]):
                return _place((self.packs[number], start, size))
        return next(self.find(digest), None)

    def find(self, digest: bytes) -> Iterator[BlockLocation]:
        """The locations of a block, usually one; O(log n), about a microsecond."""
        prefix, tail = int.from_bytes(digest[:8], "big"), digest[8:]
        at = bisect_left(self._prefixes, prefix)
        while at < len(self._prefixes) and self._prefixes[at] == prefix:
            number, start, size = self._numbers[at], self._starts[at], self._sizes[at]
            is_it = self._tails[24 * at : 24 * at + 24] == tail
            if is_it and is_sound(start, number, size, self._checks[at]):
                yield BlockLocation(self.packs[number], start, size)
            at += 1

    def digests(self) -> npt.NDArray[np.void]:
        """The digests of all blocks in sorted order: n values of dtype V32."""
        raw = np.empty((len(self), 32), "u1")
        raw[:, :8] = self.prefixes.astype(">u8").view("u1").reshape(-1, 8)
        raw[:, 8:] = self.tails.view("u1").reshape(-1, 24)
        return raw.view("V32").ravel()

    def to_bytes(self, hash_code: int) -> list[bytes]:
        """The run as the parts of an index file."""
        names = b"".join(name.encode("ascii") for name in self.packs)
        columns = (
            self.prefixes,
            self.starts,
            self.numbers,
            self.sizes,
            self.checks,
            self.tails,
        )
        parts = [names, *(column.tobytes() for column in columns)]
        checksum = 0
        for part in parts:
            checksum = zlib.crc32(part, checksum)
        return [_HEAD.pack(_MAGIC, hash_code, len(self.packs), len(self), checksum), *parts]


def _numbers_of(column: npt.NDArray[np.unsignedinteger]) -> memoryview:
    # Bytes that came from a network can begin at any address; memoryview reads aligned ones alone.
    return np.require(column, requirements="A").data


def run_from_file(data: memoryview, hash_code: int, where: str, *, check: bool) -> Run:
    """The run in an index file, without a copy.

    Args:
        data: the whole file.
        hash_code: the multihash code of the repository.
        where: the file's name, for errors.
        check: whether to read the whole file and verify its checksum.

    Raises:
        CorruptError: this is not such a file, or the checksum is wrong.
    """
    if len(data) >= _HEAD.size:
        magic, code, packs, entries, checksum = _HEAD.unpack_from(data)
        at = _HEAD.size + packs * NAME_SIZE
        whole = (magic, code) == (_MAGIC, hash_code) and len(data) == at + entries * _ENTRY_SIZE
        head = _HEAD.pack(magic, code, packs, entries, checksum)
        if whole and head == data[: _HEAD.size]:
            if check and zlib.crc32(data[_HEAD.size :]) != checksum:
                raise CorruptError(f"the checksum of {where} does not match", where=where)
            raw = bytes(data[_HEAD.size : at])
            names = [
                raw[i : i + NAME_SIZE].decode("latin-1") for i in range(0, len(raw), NAME_SIZE)
            ]
            columns = []
            for dtype in _COLUMNS:
                columns.append(np.frombuffer(data, dtype, entries, at))
                at += entries * dtype.itemsize
            numbers = columns[2]
            if not entries or not check or int(numbers.max()) < packs:
                return Run(names, columns)
    raise CorruptError(f"{where} is not an index", where=where)


def head_of(head: memoryview, hash_code: int, where: str) -> tuple[int, int]:
    """The number of packs and of entries of an index file, from its head.

    Args:
        head: the first `HEAD_SIZE` bytes of the file.
        hash_code: the multihash code of the repository.
        where: the file's name, for errors.

    Raises:
        CorruptError: this is not the head of such a file.
    """
    if len(head) >= HEAD_SIZE:
        magic, code, packs, entries, _ = _HEAD.unpack_from(head)
        if (magic, code) == (_MAGIC, hash_code):
            return packs, entries
    raise CorruptError(f"{where} is not an index", where=where)


def column_starts(names_end: int, entries: int) -> list[tuple[int, int]]:
    """Where each column of an index file begins, and the number of bytes per entry."""
    found = []
    for dtype in _COLUMNS:
        found.append((names_end, dtype.itemsize))
        names_end += entries * dtype.itemsize
    return found


def run_of_pack(pack: str, entries: Entries, data_end: int) -> Run:
    """The run of one pack, from the entries of its own index.

    Raises:
        CorruptError: they refer to bytes that do not exist.
    """
    starts, sizes = entries["offset"].astype("<u8"), entries["size"].astype("<u4")
    if len(starts) and int((starts + sizes).max()) > data_end:
        raise CorruptError(f"the index of pack {pack} is damaged", where=pack)
    numbers = np.zeros(len(entries), "<u4")
    checks = checks_of(starts, numbers, sizes)
    columns = (digest_prefixes(entries), starts, numbers, sizes, checks, _tails_of(entries))
    return _sorted_run([pack], *columns)


def run_of_packs(packs: Sequence[tuple[str, Entries]]) -> Run:
    """The run of several packs, from the entries of their own indexes."""
    entries = np.frombuffer(b"".join(each.tobytes() for _, each in packs), INDEX_ENTRY)
    starts, sizes = entries["offset"].astype("<u8"), entries["size"].astype("<u4")
    counts = [len(each) for _, each in packs]
    numbers = np.repeat(np.arange(len(packs), dtype="<u4"), counts)
    checks = checks_of(starts, numbers, sizes)
    columns = (digest_prefixes(entries), starts, numbers, sizes, checks, _tails_of(entries))
    return _sorted_run([pack for pack, _ in packs], *columns)


def _tails_of(entries: Entries) -> npt.NDArray[np.void]:
    raw = np.ascontiguousarray(entries).view("u1").reshape(len(entries), INDEX_ENTRY.itemsize)
    return np.ascontiguousarray(raw[:, 8:32]).view(_TAIL).ravel()


def _sorted_run(packs: Sequence[str], *columns: npt.NDArray[Any]) -> Run:
    order = np.argsort(columns[0], kind="stable")
    return Run(packs, [column[order] for column in columns])


def merge_runs(runs: Sequence[Run], alive: set[str]) -> Run:
    """One run of all blocks in packs that are `alive`; a block in two packs has two entries."""
    packs = sorted({pack for run in runs for pack in run.packs} & alive)
    number_of = {pack: number for number, pack in enumerate(packs)}
    columns: list[list[npt.NDArray[Any]]] = [[] for _ in _COLUMNS]
    seen: set[str] = set()
    for run in runs:
        gone = len(packs)
        mapping = np.array(
            [*(gone if pack in seen else number_of.get(pack, gone) for pack in run.packs), gone],
            "<u4",
        )
        seen.update(run.packs)
        numbers = mapping[np.minimum(run.numbers, len(run.packs))]
        kept = numbers < gone
        kept &= checks_of(run.starts, run.numbers, run.sizes) == run.checks
        checks = checks_of(run.starts, numbers, run.sizes)
        parts: tuple[npt.NDArray[Any], ...] = (
            run.prefixes,
            run.starts,
            numbers,
            run.sizes,
            checks,
            run.tails,
        )
        for column, part in zip(columns, parts, strict=True):
            column.append(part[kept])
    merged = [np.concatenate(column) for column in columns]
    return _sorted_run(packs, *merged)
