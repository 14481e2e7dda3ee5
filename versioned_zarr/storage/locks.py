"""Locks: one holder, or several that share, among all processes that use a place."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Locks(Protocol):
    """A place that has locks, or says that it has none."""

    def lock(
        self, name: str, *, shared: bool = False, wait: bool = True
    ) -> AbstractContextManager[bool]:
        """Hold a lock of this name against all other processes and threads.

        Args:
            name: which lock.
            shared: hold it together with others who share it.
            wait: wait until it is free; otherwise the context gives False where it is taken.

        Where a place has no locks this does nothing: no promise of the engine rests on a lock
        alone, except that `gc` and `repack` must not run there beside writers.
        """
        ...
