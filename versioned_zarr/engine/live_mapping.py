"""A live mapping: its entries are looked up at each access."""

from __future__ import annotations

import weakref
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TypeVar

V = TypeVar("V")


class _Listed(Iterator[str]):
    """Names, one after the other."""

    def __init__(self, names: list[str]) -> None:
        self.names, self.left = names, len(names)

    def __next__(self) -> str:
        if not self.left:
            raise StopIteration
        self.left -= 1
        return self.names[-1 - self.left]


class LiveMapping(Mapping[str, V]):
    """A read-only Mapping whose reads are live: what others do is seen at once."""

    def __init__(self) -> None:
        self._listed: weakref.ref[_Listed] | None = None

    @abstractmethod
    def _names(self) -> list[str]:
        """All names that there are now, in order."""

    def __iter__(self) -> Iterator[str]:
        listed = _Listed(self._names())
        self._listed = weakref.ref(listed)
        return listed

    def __len__(self) -> int:
        # `list` asks how many there are once it has what will tell them: no second look for that.
        listed = None if self._listed is None else self._listed()
        if listed is not None and listed.left == len(listed.names):
            return listed.left
        return len(self._names())
