"""A write buffer: collects single blocks in memory until they are worth a pack.

Adding a block does not wait while earlier blocks are being stored, unless too many have
accumulated.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Final

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.blocks.semaphore import Permit, Semaphore
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.protocol import Bytes

BATCH_BYTES: Final = 8 << 20
BATCH_BLOCKS: Final = 1024
_MOST_BYTES: Final = 4 * BATCH_BYTES


class WriteBuffer:
    """See the module. Thread-safe.

    Blocks that are still in memory when this object is garbage-collected, or when the process ends,
    are stored then. A crash loses them, which must be acceptable.

    Args:
        keep: stores blocks; must not reference this object or its owner.
    """

    def __init__(self, keep: Callable[[list[Block]], None]) -> None:
        self._keep = keep
        self._blocks: dict[Cid, Bytes] = {}
        self._size_bytes = 0
        self._keeping = Semaphore(1)
        weakref.finalize(self, _keep_rest, self._blocks, keep)

    def get(self, cid: Cid) -> memoryview | None:
        """The bytes of a block, read-only, or None if it is not in memory."""
        found = self._blocks.get(cid)
        return None if found is None else memoryview(found).toreadonly()

    def __contains__(self, cid: Cid) -> bool:
        return cid in self._blocks

    def add(self, cid: Cid, data: Bytes) -> int:
        """Add a block; returns how many bytes were stored as a result, usually none."""
        if self._blocks.setdefault(cid, data) is not data:
            return 0
        self._size_bytes += len(data)
        is_full = self._size_bytes >= BATCH_BYTES or len(self._blocks) >= BATCH_BLOCKS
        is_too_full = self._size_bytes >= _MOST_BYTES
        if not is_full:
            return 0
        turn = self._keeping.take() if is_too_full else self._keeping.take_at_once()
        return 0 if turn is None else self._keep_all(turn)

    def flush(self) -> int:
        """Store all blocks, which are found here until then; returns how many bytes."""
        return self._keep_all(self._keeping.take())

    def _keep_all(self, turn: Permit) -> int:
        try:
            blocks = list(self._blocks.items())
            if blocks:
                self._keep(blocks)
            return self._drop(blocks)
        finally:
            turn.end()

    def clear(self) -> None:
        """Remove all blocks."""
        self._blocks.clear()
        self._size_bytes = 0

    def _drop(self, blocks: Iterable[Block]) -> int:
        dropped_bytes = 0
        for cid, data in blocks:
            if self._blocks.pop(cid, None) is not None:
                dropped_bytes += len(data)
        # Recounted, because concurrent threads or an interrupt may have made the count wrong.
        self._size_bytes = sum(map(len, list(self._blocks.values())))
        return dropped_bytes


def _keep_rest(blocks: dict[Cid, Bytes], keep: Callable[[list[Block]], None]) -> None:
    if blocks:
        keep(list(blocks.items()))
