"""The blocks that came last, in memory."""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict

from versioned_zarr.ipld.cid import Cid

_ALL: weakref.WeakSet[Recent] = weakref.WeakSet()


def _free_after_fork() -> None:
    """A thread of the parent may have held a guard at the fork, and does not live on here."""
    for recent in list(_ALL):
        recent.clear()


os.register_at_fork(after_in_child=_free_after_fork)


class Recent:
    """Blocks in memory, the latest up to a number of bytes. Thread-safe."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.clear()
        _ALL.add(self)

    def clear(self) -> None:
        """Begin anew."""
        self._guard = threading.RLock()
        self._blocks: OrderedDict[Cid, memoryview] = OrderedDict()
        self._size_bytes = 0

    def get(self, cid: Cid) -> memoryview | None:
        """A block that is there still."""
        with self._guard:
            found = self._blocks.get(cid)
            if found is not None:
                self._blocks.move_to_end(cid)
            return found

    def add(self, cid: Cid, data: memoryview) -> None:
        """Keep a block, and let go of the oldest."""
        with self._guard:
            if cid in self._blocks:
                return
            self._blocks[cid] = data
            self._size_bytes += len(data)
            while self._blocks and self._size_bytes > self._limit_bytes:
                _, dropped = self._blocks.popitem(last=False)
                self._size_bytes -= len(dropped)
