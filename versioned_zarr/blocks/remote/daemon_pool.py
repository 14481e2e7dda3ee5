"""A pool of daemon threads for work whose completion nobody waits for.

Starting a thread waits until it runs, which takes long if other threads keep the interpreter busy.
Unlike threads of `concurrent.futures`, these never delay the end of the process.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeAlias

_Work: TypeAlias = Callable[[], object]


class DaemonPool:
    """Runs functions in a limited number of threads; a function must report its own errors.

    Args:
        threads: the maximum number.
    """

    def __init__(self, threads: int) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._limit = threads
        self._guard = threading.RLock()
        self._threads: list[threading.Thread] = []
        for _ in range(threads):
            weakref.finalize(self, self._queue.put, None).atexit = False

    def do(self, work: _Work) -> None:
        """Run a function in the pool, without waiting for it."""
        self._queue.put(work)
        if self._idle.acquire(blocking=False):
            return
        with self._guard:
            # Counts live threads, so that none is lost if this is interrupted.
            self._threads = [each for each in self._threads if each.is_alive()]
            if len(self._threads) < self._limit:
                arguments = (self._queue, self._idle)
                thread = threading.Thread(target=_work, args=arguments, daemon=True)
                thread.start()
                self._threads.append(thread)


def _work(queue: SimpleQueue[_Work | None], idle: threading.Semaphore) -> None:
    while (work := queue.get()) is not None:
        work()
        del work  # do not keep its references alive while idle
        idle.release()
