"""Single-flight: readers of the same block wait for one request.

Who fetches may be stopped at any point, by an interrupt above all. Whoever waits then finds the
flight over, or its pilot gone, and fetches by itself.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Final

from versioned_zarr.ipld.cid import Cid

_LOOK_S: Final = 0.2
"""So often who waits looks whether the one that fetches is still there."""


class FlightOwner:
    """Lives as long as the call that fetches; its local variable holds the only reference."""

    __slots__ = ("__weakref__",)


class Flight:
    """Something that is under way.

    Args:
        pilot: whose it is.

    Attributes:
        error: why it failed; None if it did not.
        is_left: whether nobody is at it any more.
    """

    def __init__(self, pilot: FlightOwner) -> None:
        self.error: BaseException | None = None
        self.is_left = False
        self._pilot = weakref.ref(pilot)
        self._landed = threading.Event()

    def land(self, error: BaseException | None = None) -> None:
        """Say that it has ended."""
        self.error = error
        self._landed.set()

    def wait(self) -> bool:
        """Wait for its end; false if it was left without one."""
        while not self._landed.wait(_LOOK_S):
            if self.is_left or self._pilot() is None:
                return self._landed.is_set()
        return True


class SingleFlight:
    """What is under way, by CID. Thread-safe, without a lock that an interrupt could leave held."""

    def __init__(self) -> None:
        self._under_way: dict[Cid, Flight] = {}

    def take(self, cid: Cid, fetch: Callable[[], object]) -> None:
        """Fetch, or wait for who does; raises what that raises, but not its interrupt."""
        while not self._took(cid, fetch):
            pass

    def _took(self, cid: Cid, fetch: Callable[[], object]) -> bool:
        pilot = FlightOwner()
        mine = Flight(pilot)
        try:
            theirs = self._under_way.setdefault(cid, mine)
            if theirs is mine:
                self._fly(fetch, mine)
                return True
        finally:
            mine.is_left = True
            self._end(cid, mine)
        has_landed = theirs.wait()
        self._end(cid, theirs)
        if not has_landed or not isinstance(theirs.error, Exception | None):
            return False
        if theirs.error is not None:
            raise theirs.error
        return True

    def _fly(self, fetch: Callable[[], object], flight: Flight) -> None:
        try:
            fetch()
        except BaseException as error:
            flight.land(error)
            raise
        flight.land()

    def _end(self, cid: Cid, flight: Flight) -> None:
        if self._under_way.get(cid) is flight:
            self._under_way.pop(cid, None)
