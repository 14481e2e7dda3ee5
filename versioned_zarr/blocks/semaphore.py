"""A semaphore that loses no permit to an interrupt.

An ordinary semaphore counts, and an exception between the count and its reversal leaks a permit
forever. Here a turn is an object: it ends when its owner ends it or is garbage-collected. No lock
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

_LOOK_S: Final = 0.1
"""So often who waits looks whether a turn has gone without a word."""
_COLLECT_AFTER_S: Final = 1.0
"""After so long it also lets go of what only a cycle of references keeps alive."""


class Permit:
    """A turn that was taken. Who takes it holds it as long as it lasts.

    Attributes:
        is_over: whether it has ended.
    """

    __slots__ = ("__weakref__", "_freed", "is_over")

    def __init__(self, freed: SimpleQueue[None]) -> None:
        self.is_over = False
        self._freed = freed

    def end(self) -> None:
        """Let another have a turn; to say so twice does no harm."""
        self.is_over = True
        self._freed.put(None)

    def __enter__(self) -> None:
        """Hold it for the length of a block."""

    def __exit__(self, *_: object) -> None:
        self.end()


class Semaphore:
    """See the module. Thread-safe.

    Args:
        limit: how many there are at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()
        _ALL.add(self)

    def clear(self) -> None:
        """Begin anew, with nobody's turn."""
        self._numbers = itertools.count()
        self._taken: dict[int, weakref.ref[Permit]] = {}
        # Wakes who waits, and is no more than that: what counts are the turns themselves.
        self._freed: SimpleQueue[None] = SimpleQueue()

    def take(self) -> Permit:
        """Take a turn; waits until there is one."""
        began_s = time.monotonic()
        while (turn := self.take_at_once()) is None:
            if time.monotonic() - began_s > _COLLECT_AFTER_S:
                gc.collect()
                began_s = time.monotonic()
            try:
                self._freed.get(timeout=_LOOK_S)
            except Empty:
                continue
        return turn

    def take_at_once(self) -> Permit | None:
        """Take a turn, unless all are taken; where many ask at once, perhaps not the last one."""
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
        """The numbers of the turns that are not over."""
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
        """How many can be taken now."""
        return self._limit - len(self._on())


# A thread of the parent may have had a turn at the fork.
_ALL = renewed_after_fork(Semaphore.clear)
