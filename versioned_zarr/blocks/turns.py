"""A number of turns that may be taken at once, of which no interrupt can lose one.

A semaphore counts, and an exception between the count and the code that would undo it leaks one
for ever. Here a turn is an object: it is over when its taker says so, or is gone. Nothing is
counted that does not live.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from queue import Empty, SimpleQueue
from typing import Final

_LOOK_S: Final = 0.1
"""So often who waits looks whether a turn has gone without a word."""
_COLLECT_AFTER_S: Final = 1.0
"""After so long it also lets go of what only a cycle of references keeps alive."""

_ALL: weakref.WeakSet[Turns] = weakref.WeakSet()


def _free_after_fork() -> None:
    """A thread of the parent may have had a turn at the fork, and does not live on here."""
    for turns in list(_ALL):
        turns.clear()


os.register_at_fork(after_in_child=_free_after_fork)


class Turn:
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


class Turns:
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
        self._guard = threading.RLock()
        self._taken: list[weakref.ref[Turn]] = []
        # Wakes who waits, and is no more than that: what counts are the turns themselves.
        self._freed: SimpleQueue[None] = SimpleQueue()

    def take(self) -> Turn:
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

    def take_at_once(self) -> Turn | None:
        """Take a turn, unless all are taken."""
        turn = Turn(self._freed)
        with self._guard:
            self._taken = [each for each in self._taken if _is_on(each)]
            if len(self._taken) >= self._limit:
                return None
            self._taken.append(weakref.ref(turn))
        while self._freed.qsize() > self._limit:  # nobody waited for these
            self._freed.get_nowait()
        return turn

    @property
    def free(self) -> int:
        """How many can be taken now."""
        with self._guard:
            return self._limit - sum(map(_is_on, self._taken))


def _is_on(reference: weakref.ref[Turn]) -> bool:
    turn = reference()
    return turn is not None and not turn.is_over
