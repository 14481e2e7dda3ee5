"""Locks: exclusive or shared, among all processes that use a storage."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Locks(Protocol):
    """A storage with locks, or one that has none."""

    def lock(
        self, name: str, *, shared: bool = False, wait: bool = True
    ) -> AbstractContextManager[bool]:
        """Hold a lock against all other processes and threads.

        Args:
            name: the name of the lock.
            shared: whether others may hold it at the same time, if they share it, too.
            wait: wait until it is free; otherwise the context yields False if it is taken.

        If a storage has no locks, this does nothing: the engine does not rely on locks, except that
        `gc` and `repack` must not run concurrently with writers on such a storage.
        """
        ...
