"""The write gate of a session: which threads of a process write, and who waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STRIPES = 1024


class WriteGate:
    """Different keys are written at once, one key by one thread. A forked child renews it.

    Attributes:
        lock: the lock of the session. Held for moments, and through a commit.
    """

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """In a forked child: none of the parent's threads writes here."""
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._under_way = 0
        self._stripes = [threading.RLock() for _ in range(_STRIPES)]

    def enter(self) -> None:
        """Told of a write that begins; with `lock` held."""
        self._under_way += 1

    @contextmanager
    def at(self, key: str) -> Iterator[None]:
        """While a key is written, after `enter`."""
        try:
            with self._stripes[hash(key) % _STRIPES]:
                yield
        finally:
            with self.lock:
                self._under_way -= 1
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until no write is under way; with `lock` held, so that none begins."""
        self._changed.wait_for(lambda: not self._under_way)
