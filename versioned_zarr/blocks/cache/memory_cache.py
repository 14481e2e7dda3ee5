"""A memory cache of the most recently read blocks."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Final

from versioned_zarr.fork_local import renewed_after_fork
from versioned_zarr.ipld.cid import Cid

_SHRUNK_TO: Final = 0.9


class MemoryCache:
    """The most recent blocks, up to a number of bytes. Thread-safe, without a lock."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.clear()
        _ALL.add(self)

    def clear(self) -> None:
        """Remove all blocks."""
        self._blocks: OrderedDict[Cid, memoryview] = OrderedDict()
        self._size_bytes = 0

    def get(self, cid: Cid) -> memoryview | None:
        """A cached block, or None."""
        found = self._blocks.get(cid)
        if found is not None:
            with suppress(KeyError):  # it has just been evicted
                self._blocks.move_to_end(cid)
        return found

    def add(self, cid: Cid, data: memoryview) -> None:
        """Add a block, and evict the oldest."""
        if self._blocks.setdefault(cid, data) is not data:
            return
        self._size_bytes += len(data)
        if self._size_bytes <= self._limit_bytes:
            return
        # Recounted, because concurrent threads or an interrupt may have made the count wrong.
        size_bytes = sum(map(len, list(self._blocks.values())))
        with suppress(KeyError):
            while size_bytes > self._limit_bytes * _SHRUNK_TO:
                size_bytes -= len(self._blocks.popitem(last=False)[1])
        self._size_bytes = size_bytes


# Do not keep a second copy of the parent's blocks.
_ALL = renewed_after_fork(MemoryCache.clear)
