"""A buffer pool: memory that is reused to assemble or copy values.

Allocating memory costs more than copying into it: the system provides it page by page and zeroes
each page. A buffer returns to the pool once nobody holds a view of it.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Final

import numpy as np

_STEP: Final = 1 << 20
_KEPT: Final = 4


class BufferPool:
    """Provides buffers, and keeps up to four released ones. Thread-safe.

    Args:
        largest_bytes: larger buffers are not kept.
    """

    def __init__(self, largest_bytes: int = 8 << 20) -> None:
        self._largest_bytes = largest_bytes
        # Not a lock: a buffer may be released while this thread takes another.
        self._kept: deque[memoryview] = deque(maxlen=_KEPT)

    def take(self, size_bytes: int) -> memoryview:
        """A buffer of this size with arbitrary content, for as long as a view of it exists."""
        try:
            memory = self._kept.pop()
        except IndexError:
            memory = memoryview(b"")
        if len(memory) < size_bytes:
            memory = np.empty(-(-size_bytes // _STEP) * _STEP, "u1").data
        lease = np.frombuffer(memory, "u1", size_bytes)
        if len(memory) <= self._largest_bytes:
            weakref.finalize(lease, self._kept.append, memory).atexit = False
        return lease.data
