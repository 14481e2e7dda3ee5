"""The lazy store of a partial clone: blocks in packs, and the rest from its lazy origin."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.protocol import Block, Publishable
from versioned_zarr.blocks.remote.lazy_origin import BlockOrigin, LazyOrigin
from versioned_zarr.blocks.remote.nonblocking import NonBlocking
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Storage


class LazyStore(PackStore):
    """A `BlockStore` of packs that fetches missing blocks when they are read. Thread-safe.

    Args:
        storage: stores the packs.
        hash_function: the hash function of the CIDs.
        verify: whether blocks are verified on every read; fetched blocks always are.
        origin: the origin; opened when it is first needed.
    """

    is_remote = True

    def __init__(
        self,
        storage: Storage,
        hash_function: HashFunction,
        *,
        verify: bool,
        origin: BlockOrigin,
    ) -> None:
        super().__init__(storage, hash_function, verify=verify)
        self._origin = origin
        self._completion = LazyOrigin(lambda: origin, partial(_store, storage, hash_function))
        self._nearness = NonBlocking()

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`."""
        found = self._completion.get(cid)
        if found is not None:
            return found
        if cid in self or (self.refresh() and cid in self):
            return super().get(cid)
        self._nearness.check()
        found = self._completion.fetch(cid, self._origin)
        self.refresh()  # it may have been stored with others
        return found

    def is_partial(self) -> bool:
        """See `PartialBlocks.is_partial`."""
        return True

    def get_here(self, cid: Cid) -> memoryview:
        """Like `get`, but returns an empty directory in place of an absent block."""
        found = self._completion.get(cid)
        if found is None:
            found = self.find(cid)
        return memoryview(unixfs.EMPTY_DIRECTORY) if found is None else found

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`."""
        return cid in self._completion or super().__contains__(cid)

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`."""
        return self._nearness.asked()

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`; stores the fetched blocks first."""
        self.flush()
        return super().missing(wanted)

    def put(self, blocks: Sequence[Block], root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.put`; also stores fetched blocks, because the new ones may need them."""
        self.flush()
        super().put(blocks, root, durable=durable)

    def publish(self, draft: Publishable, root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.publish`; also stores fetched blocks, like `put`."""
        self.flush()
        super().publish(draft, root, durable=durable)

    def flush(self) -> None:
        """Write the fetched blocks as a pack."""
        if self._completion.flush():
            self.refresh()


def _store(storage: Storage, hash_function: HashFunction, blocks: list[Block]) -> None:
    PackStore(storage, hash_function, verify=False).put(blocks, blocks[-1][0])
