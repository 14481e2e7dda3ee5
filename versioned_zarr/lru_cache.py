"""An LRU cache: the most recently used entries, up to a maximum number."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """Entries by key. Thread-safe, without a lock that a fork could copy while it is held.

    Args:
        limit: how many entries it keeps, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: K) -> bool:
        """Whether the entry exists; does not count as a use."""
        return key in self._entries

    def get(self, key: K) -> V | None:
        """The entry, which counts as a use; None if there is none."""
        found = self._entries.get(key)
        if found is not None:
            with suppress(KeyError):  # another thread has just evicted it
                self._entries.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Add or replace an entry, and evict the least recently used one."""
        entries = self._entries
        entries[key] = value
        with suppress(KeyError):
            entries.move_to_end(key)
            while len(entries) > self._limit:
                entries.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Remove an entry; returns it, or None if there was none."""
        return self._entries.pop(key, None)
