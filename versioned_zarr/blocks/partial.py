"""The blocks of a partial copy: packs here, and what they lack fetched from elsewhere, and kept.

What was not fetched yet is absent, which is no damage: the other place has it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from versioned_zarr.blocks.gathering import Gathering
from versioned_zarr.blocks.nearness import Nearness
from versioned_zarr.blocks.packed import PackedStore
from versioned_zarr.blocks.store import Block, BlockStore, Publishable
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage import Storage


class PartialStore(PackedStore):
    """A `BlockStore` of packs, completed from another one as it is read. Thread-safe.

    Blocks that were fetched are gathered in memory, and become a pack when there are enough of
    them, or when the process ends; what is lost before is fetched again.

    Args:
        storage: where the packs lie.
        hash_function: names the blocks.
        verify: whether blocks are compared with their CIDs on every read; those that are fetched
            always are.
        origin: opens the other store, which is done when it is first needed.
        where: what the other store is called, for errors.
    """

    is_remote = True

    def __init__(
        self,
        storage: Storage,
        hash_function: HashFunction,
        *,
        verify: bool,
        origin: Callable[[], BlockStore],
        where: str,
    ) -> None:
        super().__init__(storage, hash_function, verify=verify)
        self._open, self._where = origin, where
        self._origin: BlockStore | None = None
        self._gathering = Gathering(partial(_store, storage, hash_function))
        self._nearness = Nearness()

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`."""
        found = self._gathering.get(cid)
        if found is not None:
            return found
        if cid in self or (self.refresh() and cid in self):
            return super().get(cid)
        return self._fetch(cid)

    def get_here(self, cid: Cid) -> memoryview:
        """As `get`, with an empty directory, below which nothing is, for a block that is absent."""
        found = self._gathering.get(cid)
        if found is None:
            found = self.find(cid)
        return memoryview(unixfs.EMPTY_DIRECTORY) if found is None else found

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`."""
        return cid in self._gathering or super().__contains__(cid)

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`."""
        return self._nearness.asked()

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`; what is only in memory is."""
        self.flush()
        return super().missing(wanted)

    def put(self, blocks: Sequence[Block], root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.put`; what was fetched is stored as well, as it may be counted on."""
        self.flush()
        super().put(blocks, root, durable=durable)

    def publish(self, draft: Publishable, root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.publish`; as for `put`."""
        self.flush()
        super().publish(draft, root, durable=durable)

    def flush(self) -> None:
        """Make a pack of the blocks that were fetched."""
        if self._gathering.flush():
            self.refresh()

    def _fetch(self, cid: Cid) -> memoryview:
        self._nearness.check()
        if self._origin is None:
            self._origin = self._open()
        data = self._origin.get(cid)
        cids.check(cid, data, self._where)
        block = memoryview(bytes(data))
        if self._gathering.add(cid, block):
            self.refresh()
        return block


def _store(storage: Storage, hash_function: HashFunction, blocks: list[Block]) -> None:
    PackedStore(storage, hash_function, verify=False).put(blocks, blocks[-1][0])
