"""The write gate of a session: coordinates the threads of a process that write."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STRIPES = 1024


class WriteGate:
    """Allows concurrent writes of different keys, and one write per key. A forked child renews it.

    Attributes:
        lock: the lock of the session, held briefly, and throughout a commit.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Reset the gate, as in a forked child, where no thread of the parent writes."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._under_way = 0
        self._stripes = [threading.RLock() for _ in range(_STRIPES)]

    def enter(self) -> None:
        """Register a write that begins; the caller holds `lock`."""
        self._under_way += 1

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """The context of the write of a key, after `enter`."""
        try:
            with self._stripes[hash(key) % _STRIPES]:
                yield
        finally:
            with self.lock:
                self._under_way -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until no write is in progress; the caller holds `lock`, so that none begins."""
        self._changed.wait_for(lambda: not self._under_way)
