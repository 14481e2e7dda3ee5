"""A live mapping: its entries are looked up at each access."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TypeVar

V = TypeVar("V")


class _Listed(Iterator[str]):
    """Iterates over names."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.left = names, len(names)

    def __next__(self) -> str:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.names[-1 - self.left]


class LiveMapping(Mapping[str, V]):
    """A read-only Mapping whose reads are live: changes by others are visible immediately."""

    def __init__(self) -> None:
        self._listed: weakref.ref[_Listed] | None = None

    @abstractmethod
    def _names(self) -> list[str]:
        """All current names, in order."""

    def __iter__(self) -> Iterator[str]:
        listed = _Listed(self._names())
        self._listed = weakref.ref(listed)
        return listed

    def __len__(self) -> int:
        # `list` asks for the length when it has the iterator, which then needs no second listing.
        listed = None if self._listed is None else self._listed()
        if listed is not None and listed.left == len(listed.names):
            return listed.left
        return len(self._names())
