"""Read-ahead of values: fetches the values that follow the last one read in a tree.

zarr requests a few chunks at a time, ten by default, and waits for them; a server some milliseconds
away could answer more. The bytes that were read ahead but not yet used, including those in flight,
never exceed the bytes requested so far.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Final

from versioned_zarr.backends.lakefs.api.thread_pool import AT_ONCE, ThreadPool
from versioned_zarr.blocks.remote.singleflight import SingleFlight
from versioned_zarr.fork_local import renewed_after_fork
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link

SMALL_BYTES: Final = 256 << 10
"""Larger values are not prefetched."""
LIMIT_BYTES: Final = 4 << 20
"""The maximum number of unread bytes, whatever was requested before."""
_WINDOW: Final = 2 * AT_ONCE
"""The maximum number of requests in flight, including prefetches."""
_REMEMBERED: Final = 1 << 16

Fetch = Callable[[Cid], memoryview]


class ValueReadAhead:
    """See the module; concurrent readers of a value share one request. Thread-safe; forks.

    Args:
        fetch: fetches the block of a value, and caches it.
        is_near: whether it is cached.
        links: the links of a directory or a shard; empty if unknown.
    """

    def __init__(
        self,
        fetch: Fetch,
        is_near: Callable[[Cid], bool],
        links: Callable[[Cid], Sequence[Link]],
    ) -> None:
        self._fetch, self._is_near, self._links = fetch, is_near, links
        self._workers = ThreadPool(_WINDOW)
        self._start()
        _ALL.add(self)

    def _start(self) -> None:
        self._guard = threading.Lock()
        self._flights = SingleFlight[memoryview]()
        self._wanted: set[Cid] = set()
        self._coming: dict[Cid, int] = {}
        self._unread: dict[Cid, int] = {}
        self._unread_bytes = self._asked_bytes = 0
        self._forget()

    def _forget(self) -> None:
        self._rows: dict[Cid | None, list[Link]] = {}
        self._locations: dict[Cid, tuple[Cid, int]] = {}
        self._following: dict[Cid, Cid] = {}
        self._given: dict[Cid | None, int] = {}

    def saw(self, cid: Cid, links: Sequence[Link]) -> None:
        """Record the links of a directory or a shard."""
        with self._guard:
            self._note(cid, links)

    def _note(self, cid: Cid, links: Sequence[Link]) -> None:
        if cid in self._rows:
            return
        if len(self._locations) + len(self._following) > _REMEMBERED:
            self._forget()
        # So that numeric names, like those of chunks, are in numeric order.
        links = sorted(links, key=lambda link: (len(link.name), link.name))
        folders = [link.cid for link in links if not cids.is_raw(link.cid)]
        self._following.update(pairwise(folders))
        self._rows[cid] = [link for link in links if cids.is_raw(link.cid)]
        for number, link in enumerate(self._rows[cid], 1):
            self._locations[link.cid] = (cid, number)

    def want(self, cid: Cid) -> None:
        """Record that another thread is about to request a value."""
        with self._guard:
            if len(self._wanted) < _REMEMBERED:
                self._wanted.add(cid)

    def get(self, cid: Cid) -> memoryview:
        """The block of a value: fetched, or from the request in flight."""
        with self._guard:
            self._wanted.discard(cid)
            if cid not in self._flights:
                self._coming.pop(cid, None)  # it is still queued, and this thread is first
        return self._flights.take(cid, partial(self._fetch, cid))

    def _fetch_ahead(self, cid: Cid) -> None:
        """Prefetch a value, unless it was requested meanwhile."""
        if cid in self._coming:
            with suppress(Exception):  # the thread that requests it gets the error
                self._flights.take(cid, partial(self._fetch_unasked, cid))

    def _fetch_unasked(self, cid: Cid) -> memoryview:
        """Prefetch a value, and record it before any waiting thread can read it."""
        try:
            block = self._fetch(cid)
        except BaseException:
            with self._guard:
                self._coming.pop(cid, None)
                self._asked_bytes = 0  # start again with a small budget
            raise
        with self._guard:
            size_bytes = self._coming.get(cid)
            if size_bytes is not None:  # else it was requested just before
                self._unread[cid] = size_bytes
                self._unread_bytes += size_bytes
                del self._coming[cid]  # last: see `asked`
        return block

    def asked(self, cid: Cid, size_bytes: int, *, was_near: bool) -> None:
        """Record a requested value, and prefetch those that may come next."""
        # It moves from one collection to the other in this order, so that it is always in one of
        # them.
        if was_near and cid not in self._coming and cid not in self._unread:
            return
        started: list[Cid] = []
        with self._guard:
            self._coming.pop(cid, None)
            self._unread_bytes -= self._unread.pop(cid, 0)
            self._asked_bytes += size_bytes
            requests = len(self._flights) + sum(each not in self._flights for each in self._coming)
            for link in self._next(cid) if requests <= AT_ONCE else ():
                if requests + len(started) >= _WINDOW or not self._fits(link.tsize):
                    break
                if self._is_new(link.cid):
                    self._coming[link.cid] = link.tsize
                    started.append(link.cid)
        for each in started:
            self._workers.start(self._fetch_ahead, each)

    def _next(self, cid: Cid) -> Iterator[Link]:
        """The next values, in its directory and the following one, not returned before."""
        at = self._locations.get(cid)
        if at is None:
            return
        following = self._following.get(at[0])
        if following is not None and following not in self._rows:
            self._note(following, self._links(following))
        for directory, number in (at, (following, 0)):
            row = self._rows.get(directory, ())
            number = max(number, self._given.get(directory, 0))
            while number < len(row):
                yield row[number]
                number += 1
                self._given[directory] = number

    def _fits(self, size_bytes: int) -> bool:
        room = min(LIMIT_BYTES, self._asked_bytes) - self._unread_bytes - sum(self._coming.values())
        return size_bytes <= min(room, SMALL_BYTES)

    def _is_new(self, cid: Cid) -> bool:
        known = (self._flights, self._coming, self._unread, self._wanted)
        return not any(cid in each for each in known) and not self._is_near(cid)


# Requests in flight in the parent never complete here.
_ALL = renewed_after_fork(ValueReadAhead._start)
