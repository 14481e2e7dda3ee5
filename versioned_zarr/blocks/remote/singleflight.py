"""Single-flight: readers of the same block wait for one request.

The fetching thread can be stopped at any point, for example by an interrupt. A waiting thread then
finds the flight finished or abandoned, and fetches by itself.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from versioned_zarr.ipld.cid import Cid

_T = TypeVar("_T")
_POLL_S: Final = 0.2
"""How often a waiting thread checks whether the fetching one is still there."""


class FlightOwner:
    """Exists as long as the call that fetches; its local variable holds the only reference."""

    __slots__ = ("__weakref__",)


class Flight:
    """A request in flight.

    Args:
        pilot: its owner.

    Attributes:
        error: why it failed; None if it did not.
        is_left: whether its owner is gone.
    """

    def __init__(self, pilot: FlightOwner) -> None:
        self.error: BaseException | None = None
        self.is_left = False
        self._pilot = weakref.ref(pilot)
        self._landed = threading.Event()

    def land(self, error: BaseException | None = None) -> None:
        """Mark it as finished."""
        self.error = error
        self._landed.set()

    def wait(self) -> bool:
        """Wait until it is finished; false if it was abandoned."""
        while not self._landed.wait(_POLL_S):
            if self.is_left or self._pilot() is None:
                return self._landed.is_set()
        return True


class _Fetching(Flight, Generic[_T]):
    """A flight with a result."""

    brought: tuple[_T] | None = None

    def fly(self, fetch: Callable[[], _T]) -> None:
        try:
            self.brought = (fetch(),)
        except BaseException as error:
            self.land(error)
            raise
        self.land()


class SingleFlight(Generic[_T]):
    """The flights by CID. Thread-safe, without a lock that an interrupt could leave held."""

    def __init__(self) -> None:
        self._under_way: dict[Cid, _Fetching[_T]] = {}

    def __contains__(self, cid: object) -> bool:
        """Whether a block is being fetched now."""
        return cid in self._under_way

    def __len__(self) -> int:
        """The number of blocks that are being fetched."""
        return len(self._under_way)

    def take(self, cid: Cid, fetch: Callable[[], _T]) -> _T:
        """Fetch, or wait for another thread's fetch of the same block.

        Returns:
            The result of the fetch, of this thread or of another.

        Raises:
            Exception: the error of the fetch in either thread, except another thread's interrupt.
        """
        while (taken := self._took(cid, fetch)) is None:
            pass
        return taken[0]

    def _took(self, cid: Cid, fetch: Callable[[], _T]) -> tuple[_T] | None:
        pilot = FlightOwner()
        mine = _Fetching[_T](pilot)
        try:
            theirs = self._under_way.setdefault(cid, mine)
            if theirs is mine:
                mine.fly(fetch)
                return mine.brought
        finally:
            mine.is_left = True
            self._end(cid, mine)
        has_landed = theirs.wait()
        self._end(cid, theirs)
        if has_landed and isinstance(theirs.error, Exception):
            raise theirs.error
        return theirs.brought if has_landed else None

    def _end(self, cid: Cid, flight: Flight) -> None:
        if self._under_way.get(cid) is flight:
            self._under_way.pop(cid, None)
