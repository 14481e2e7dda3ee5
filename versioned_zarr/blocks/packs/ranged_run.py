"""A ranged run: an index file that is not loaded but read by ranges.

For storage without views. Digests are evenly distributed, so the position of one is estimated from
its first eight bytes, and the column of prefixes is read around it: interpolation search.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import numpy.typing as npt

from versioned_zarr.blocks.packs.index import (
    HEAD_SIZE,
    NAME_SIZE,
    BlockLocation,
    Run,
    column_starts,
    head_of,
    is_sound,
    run_from_file,
)
from versioned_zarr.storage.object_store import ObjectStore

_PREFIXES = 1 << 64
_LEAST_WINDOW = 128
_SPREAD = 4
"""A window of this many standard deviations on either side contains nearly every digest."""


class RangedRun(Run):
    """The run of an index file; a lookup reads a few kilobytes of it.

    An operation on whole columns, such as merging, reads the file once and keeps it.

    Args:
        storage: stores the file.
        path: the path of the file.
        hash_code: the multihash code of the repository.

    Raises:
        FileNotFoundError: the file does not exist.
        CorruptError: the head is not that of an index file.
    """

    def __init__(self, storage: ObjectStore, path: str, hash_code: int) -> None:
        self._storage, self._path, self._hash_code = storage, path, hash_code
        packs, self._count = head_of(storage.read(path, 0, HEAD_SIZE), hash_code, path)
        names_end = HEAD_SIZE + packs * NAME_SIZE
        names = bytes(storage.read(path, HEAD_SIZE, names_end)).decode("latin-1")
        self.packs = tuple(
            names[at : at + NAME_SIZE] for at in range(0, packs * NAME_SIZE, NAME_SIZE)
        )
        self._columns_at = column_starts(names_end, self._count)

    def __len__(self) -> int:
        return self._count

    @cached_property
    def _whole(self) -> Run:
        data = self._storage.read(self._path)
        return run_from_file(data, self._hash_code, self._path, check=False)

    prefixes = property(lambda self: self._whole.prefixes)
    starts = property(lambda self: self._whole.starts)
    numbers = property(lambda self: self._whole.numbers)
    sizes = property(lambda self: self._whole.sizes)
    checks = property(lambda self: self._whole.checks)
    tails = property(lambda self: self._whole.tails)

    def first(self, digest: bytes) -> BlockLocation | None:
        """See `Run.first`."""
        return next(self.find(digest), None)

    def find(self, digest: bytes) -> Iterator[BlockLocation]:
        """See `Run.find`: reads some kilobytes for the position, then five times a few bytes.

        Raises:
            FileNotFoundError: the file was replaced.
        """
        prefix, tail = int.from_bytes(digest[:8], "big"), digest[8:]
        start, window = self._around(prefix)
        at = bisect_left(window, prefix)
        while at < len(window) and int(window[at]) == prefix:
            row = start + at
            if bytes(self._cell(5, row)) == tail:
                start_of, number, size, check = (
                    int.from_bytes(self._cell(column, row), "little") for column in (1, 2, 3, 4)
                )
                if is_sound(start_of, number, size, check):
                    yield BlockLocation(self.packs[number], start_of, size)
            at += 1

    def _around(self, prefix: int) -> tuple[int, npt.NDArray[np.uint64]]:
        """The prefixes around a given prefix, and the row of the first of them."""
        half = max(_LEAST_WINDOW, math.ceil(_SPREAD * math.sqrt(self._count) / 2))
        guess = prefix * self._count // _PREFIXES
        low, high = max(0, guess - half), min(self._count, guess + half)
        while True:
            window = self._prefixes_of(low, high)
            # Equal prefixes may be on both sides of a boundary.
            is_low = low > 0 and (not len(window) or prefix <= int(window[0]))
            is_high = high < self._count and (not len(window) or prefix >= int(window[-1]))
            if not is_low and not is_high:
                return low, window
            half *= 2
            low = max(0, low - half) if is_low else low
            high = min(self._count, high + half) if is_high else high

    def _prefixes_of(self, low: int, high: int) -> npt.NDArray[np.uint64]:
        start, width = self._columns_at[0]
        data = self._storage.read(self._path, start + low * width, start + high * width)
        return np.frombuffer(data, "<u8", len(data) // width)  # a damaged file may be truncated

    def _cell(self, column: int, row: int) -> memoryview:
        start, width = self._columns_at[column]
        return self._storage.read(self._path, start + row * width, start + (row + 1) * width)


def run_at(storage: ObjectStore, path: str, hash_code: int) -> Run:
    """The run in an index file, mapped or read by ranges; its checksum is not verified.

    Raises:
        FileNotFoundError: the file does not exist.
        CorruptError: this is not an index file.
    """
    view = storage.view(path)
    if view is None:
        return RangedRun(storage, path, hash_code)
    return run_from_file(view, hash_code, path, check=False)
