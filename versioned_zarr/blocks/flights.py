"""What is being fetched: those who want the same wait for one request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future

from versioned_zarr.ipld.cid import Cid


class Flights:
    """What is under way, by CID. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._under_way: dict[Cid, Future[object]] = {}

    def take(self, cid: Cid, fetch: Callable[[], object]) -> None:
        """Fetch, or wait for who does; raises what that raises."""
        with self._guard:
            flight = self._under_way.get(cid)
            is_mine = flight is None
            if flight is None:
                flight = self._under_way[cid] = Future()
        if not is_mine:
            flight.result()
            return
        try:
            fetch()
        except BaseException as error:
            flight.set_exception(error)
            raise
        else:
            flight.set_result(None)
        finally:
            with self._guard:
                del self._under_way[cid]
