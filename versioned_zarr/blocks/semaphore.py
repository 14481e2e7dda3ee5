"""A semaphore that loses no permit to an interrupt.

An ordinary semaphore counts, and an exception between the count and its reversal leaks a permit
forever. Here a permit is an object: it ends when its owner ends it or is garbage-collected. No lock
is held; each step is atomic in the interpreter.
"""

from __future__ import annotations

import gc
import itertools
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

from versioned_zarr.fork_local import renewed_after_fork

_POLL_S: Final = 0.1
"""How often a waiting thread checks whether a permit has disappeared."""
_COLLECT_AFTER_S: Final = 1.0
"""After this time, it also runs the garbage collector, for permits in reference cycles."""


class Permit:
    """A permit that was acquired. It is valid as long as its owner keeps a reference.

    Attributes:
        is_over: whether it has ended.
    """

    __slots__ = ("__weakref__", "_freed", "is_over")

    def __init__(self, freed: SimpleQueue[None]) -> None:
        self.is_over = False
        self._freed = freed

    def end(self) -> None:
        """Release the permit; further calls have no effect."""
        self.is_over = True
        self._freed.put(None)

    def __enter__(self) -> None:
        """Keep it until the end of a `with` block."""

    def __exit__(self, *_: object) -> None:
        self.end()


class Semaphore:
    """See the module. Thread-safe.

    Args:
        limit: the maximum number of permits.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()
        _ALL.add(self)

    def clear(self) -> None:
        """Start again, without any permits in use."""
        self._numbers = itertools.count()
        self._taken: dict[int, weakref.ref[Permit]] = {}
        # Only wakes waiting threads; the permits themselves are what counts.
        self._freed: SimpleQueue[None] = SimpleQueue()

    def take(self) -> Permit:
        """Acquire a permit; waits until one is free."""
        began_s = time.monotonic()
        while (turn := self.take_at_once()) is None:
            if time.monotonic() - began_s > _COLLECT_AFTER_S:
                gc.collect()
                began_s = time.monotonic()
            try:
                self._freed.get(timeout=_POLL_S)
            except Empty:
                continue
        return turn

    def take_at_once(self) -> Permit | None:
        """Acquire a permit if one is free; with many concurrent calls, perhaps not the last one."""
        turn = Permit(self._freed)
        number = next(self._numbers)
        self._taken[number] = weakref.ref(turn)
        if sum(each < number for each in self._on()) >= self._limit:
            turn.is_over = True
            self._taken.pop(number, None)
            return None
        while self._freed.qsize() > self._limit:  # nobody waited for these
            with suppress(Empty):
                self._freed.get_nowait()
        return turn

    def _on(self) -> list[int]:
        """The numbers of the permits in use."""
        found = []
        for number, reference in list(self._taken.items()):
            turn = reference()
            if turn is None or turn.is_over:
                self._taken.pop(number, None)
            else:
                found.append(number)
        return found

    @property
    def free(self) -> int:
        """The number of free permits."""
        return self._limit - len(self._on())


# A thread of the parent may have held a permit at the fork.
_ALL = renewed_after_fork(Semaphore.clear)
