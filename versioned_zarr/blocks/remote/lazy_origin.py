"""The lazy origin of a partial clone: fetches missing blocks, verifies and stores them.

Blocks that were not fetched yet are absent, not damaged: the origin has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from versioned_zarr.blocks.cache.write_buffer import WriteBuffer
from versioned_zarr.blocks.protocol import Block, BlockStore
from versioned_zarr.errors import RepositoryNotFoundError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid


class BlockOrigin(NamedTuple):
    """The origin of a partial clone.

    Attributes:
        url: its URL, for errors.
        open: opens its block store.
    """

    url: str
    open: Callable[[], BlockStore]


class LazyOrigin:
    """See the module. Thread-safe.

    Fetched blocks are collected in memory, and stored when there are enough of them, or when the
    process ends; any that are lost before that are fetched again.

    Args:
        find_origin: returns the origin, or None for a complete repository; called when a block
            is missing, until there is an origin.
        keep: stores blocks; see `WriteBuffer`.
    """

    def __init__(
        self, find_origin: Callable[[], BlockOrigin | None], keep: Callable[[list[Block]], None]
    ) -> None:
        self._find_origin = find_origin
        self._origin: BlockOrigin | None = None
        self._blocks: BlockStore | None = None
        self._gathering = WriteBuffer(keep)

    def get(self, cid: Cid) -> memoryview | None:
        """A block that was fetched and is not stored yet; None for others."""
        return self._gathering.get(cid)

    def __contains__(self, cid: Cid) -> bool:
        return cid in self._gathering

    def origin(self) -> BlockOrigin | None:
        """The origin; None if the repository is complete, so that absent blocks are missing."""
        if self._origin is None:
            self._origin = self._find_origin()
        return self._origin

    def fetch(self, cid: Cid, origin: BlockOrigin) -> memoryview:
        """A block from the origin.

        Raises:
            BlockNotFoundError: the origin does not have it.
            CorruptBlockError: the origin returned other bytes.
            RepositoryNotFoundError: the origin does not exist any more.
        """
        if self._blocks is None:
            try:
                self._blocks = origin.open()
            except RepositoryNotFoundError as error:
                raise RepositoryNotFoundError(
                    f"block {cids.to_text(cid)} is not in this copy, which is partial, and "
                    f"its origin {origin.url!r} no longer exists; restore the origin, or read only "
                    "what the copy holds",
                    url=origin.url,
                ) from error
        data = self._blocks.get(cid)
        cids.check(cid, data, origin.url)
        block = memoryview(bytes(data))
        self._gathering.add(cid, block)
        return block

    def flush(self) -> int:
        """Store the fetched blocks; returns how many bytes."""
        return self._gathering.flush()
