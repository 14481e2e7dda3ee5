"""Read-ahead of remote blocks: fetches each block once, and small neighbors in advance.

Decides when to fetch more than requested; the backend decides how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol

from versioned_zarr.blocks.remote.daemon_pool import DaemonPool
from versioned_zarr.blocks.remote.nonblocking import NonBlocking
from versioned_zarr.blocks.remote.readahead_policy import ReadAheadPolicy
from versioned_zarr.blocks.remote.singleflight import SingleFlight
from versioned_zarr.errors import BlockNotFoundError, CorruptError, StorageError
from versioned_zarr.fork_local import renewed_after_fork
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid

WHOLE_BYTES: Final = 1 << 20
"""A node of at most this total size is fetched with everything below it."""
_AT_ONCE: Final = 4


class FetchBlocks(Protocol):
    """Fetches blocks."""

    def __call__(self, cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview], /) -> None:
        """Fetch a block, or a node with everything below it, and make all received blocks local.

        Args:
            cid: the block or node.
            size_bytes: its size including everything below it, if known.
            came: receives all blocks, even if the request then fails.
        """
        ...


class ReadAhead:
    """Reads blocks, and fetches those that are not local. Thread-safe.

    Args:
        find: returns a block if it is local, or None.
        fetch: fetches a block.
        fetch_all: fetches a node and everything below it.
        can_fetch_all: whether that is useful.
        sizes_below: the links of a node, in the usual order of reading, with their sizes including
            everything below them.
        nearness: whether the reader may wait.
    """

    def __init__(
        self,
        *,
        find: Callable[[Cid], memoryview | None],
        fetch: FetchBlocks,
        fetch_all: FetchBlocks,
        can_fetch_all: Callable[[], bool],
        sizes_below: Callable[[Cid, memoryview], Iterable[tuple[Cid, int]]],
        nearness: NonBlocking,
    ) -> None:
        self._find, self._fetch_one, self._fetch_all = find, fetch, fetch_all
        self._can_fetch_all = can_fetch_all
        self._sizes_below, self._nearness = sizes_below, nearness
        self.forget()
        _ALL.add(self)

    def forget(self) -> None:
        """Forget all reads, and all requests in flight."""
        self._flights = SingleFlight[None]()
        self._policy = ReadAheadPolicy()
        self._background = DaemonPool(_AT_ONCE)

    def get(self, cid: Cid) -> memoryview:
        """The bytes of a block.

        Raises:
            WouldBlockError: it would have to be fetched, and the reader must not wait.
        """
        near = self._find(cid)
        if near is None:
            self._nearness.check()
        if cids.is_raw(cid):
            self._policy.asked(cid, was_near=near is not None)
        found = self._bring(cid) if near is None else near
        if not cids.is_raw(cid):
            self._policy.saw(cid, lambda: self._sizes_below(cid, found))
            for following in self._policy.after(cid):
                self._background.do(partial(self._bring_whole, following, following))
        return found

    def _bring(self, cid: Cid) -> memoryview:
        """Fetch a block that is not local, alone or with its neighbors."""
        whole = self._policy.around(cid) if self._can_fetch_all() else None
        if whole is not None:
            self._bring_whole(whole, cid)
        came: dict[Cid, memoryview] = {}

        def fetch() -> None:
            if self._find(cid) is None:
                self._fetch(cid, came)

        self._flights.take(cid, fetch)
        found = came.get(cid)
        if found is None:
            found = self._find(cid)
        if found is None:  # the fetching thread has already dropped it
            self._fetch(cid, came)
            found = came[cid]
        return found

    def _fetch(self, cid: Cid, came: dict[Cid, memoryview]) -> None:
        size_bytes = self._policy.size_bytes(cid)
        if size_bytes and size_bytes <= WHOLE_BYTES and not cids.is_raw(cid):
            try:
                self._fetch_all(cid, size_bytes, came)
            except (StorageError, BlockNotFoundError, CorruptError):
                if cid not in came:
                    raise
                self._policy.fetch_failed()
            self._policy.came(cid, came)
        else:
            self._fetch_one(cid, size_bytes, came)

    def _bring_whole(self, whole: Cid, wanted: Cid) -> None:
        """Request a node and everything below it, because one of these blocks is needed."""
        came: dict[Cid, memoryview] = {}

        def fetch() -> None:
            if self._find(wanted) is None:
                self._fetch_all(whole, self._policy.size_bytes(whole), came)

        try:
            self._flights.take(whole, fetch)
        except (StorageError, BlockNotFoundError, CorruptError):
            # The required block will be requested separately.
            self._policy.fetch_failed()
        finally:
            self._policy.came(whole, came)


# Requests in flight in the parent never complete here.
_ALL = renewed_after_fork(ReadAhead.forget)
