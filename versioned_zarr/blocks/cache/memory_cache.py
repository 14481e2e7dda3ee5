"""A memory cache of the blocks that were read last."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Final

from versioned_zarr.fork_local import renewed_after_fork
from versioned_zarr.ipld.cid import Cid

_SHRUNK_TO: Final = 0.9


class MemoryCache:
    """Blocks in memory, the latest up to a number of bytes. Thread-safe, without a lock."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.clear()
        _ALL.add(self)

    def clear(self) -> None:
        """Begin anew."""
        self._blocks: OrderedDict[Cid, memoryview] = OrderedDict()
        self._size_bytes = 0

    def get(self, cid: Cid) -> memoryview | None:
        """A block that is there still."""
        found = self._blocks.get(cid)
        if found is not None:
            with suppress(KeyError):  # it has just been let go of
                self._blocks.move_to_end(cid)
        return found

    def add(self, cid: Cid, data: memoryview) -> None:
        """Keep a block, and let go of the oldest."""
        if self._blocks.setdefault(cid, data) is not data:
            return
        self._size_bytes += len(data)
        if self._size_bytes <= self._limit_bytes:
            return
        # Counted anew, since threads that add at once, or an interrupt, may have miscounted.
        size_bytes = sum(map(len, list(self._blocks.values())))
        with suppress(KeyError):
            while size_bytes > self._limit_bytes * _SHRUNK_TO:
                size_bytes -= len(self._blocks.popitem(last=False)[1])
        self._size_bytes = size_bytes


# What the parent holds is not held twice.
_ALL = renewed_after_fork(MemoryCache.clear)
