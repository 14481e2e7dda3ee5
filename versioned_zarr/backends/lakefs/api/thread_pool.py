"""A thread pool that keeps many requests to lakeFS in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from versioned_zarr.fork_local import threads

_T = TypeVar("_T")
_R = TypeVar("_R")

AT_ONCE = 16
_AHEAD = 4 * AT_ONCE


class ThreadPool:
    """A thread pool, created on first use and again in a forked child.

    Args:
        at_once: the number of threads.
    """

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self._threads = threads(at_once, "lakefs")

    def start(self, call: Callable[..., object], *arguments: object) -> None:
        """Let a thread call a function that handles its own errors."""
        self._threads().submit(call, *arguments)

    def map(self, call: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """The results of a function for each item; raises the first error after all have ended."""
        if len(items) < 2:
            return [*map(call, items)]
        futures = [self._threads().submit(call, item) for item in items]
        errors = [error for future in futures if (error := future.exception()) is not None]
        if errors:
            raise errors[0]
        return [future.result() for future in futures]

    def stream(self, call: Callable[[_T], _R], items: Iterable[_T]) -> Iterator[_R]:
        """Like `map`, but lazy: a limited number of items is processed at a time."""
        left = iter(items)
        while batch := list(islice(left, _AHEAD)):
            yield from self.map(call, batch)
