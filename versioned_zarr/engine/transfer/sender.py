"""The sender: stores verified blocks in batches, children before parents.

Independent of refs: stored blocks have no effect until a ref reaches them.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.engine.context import TRANSFER_LOCK, RepositoryContext
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.engine.transfer.missing_objects import Get, MissingBlock
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.protocol import Bytes

BATCH_BYTES = 32 << 20
"""The size of a batch, and so about the number of bytes in memory."""
ONE_PACK_BYTES = 256 << 10
"""Up to this size, values and the nodes above them are stored as one batch."""
_ASKED_BLOCKS = 1024
_HELD_BYTES = 8 << 20
_AT_ONCE = 16


@dataclass(frozen=True)
class Sent:
    """How much a sender stored.

    Attributes:
        blocks: the number of blocks stored on the other side.
        values: the number of values whose blocks are all there now.
        size_bytes: the total size of those blocks.
        seen_blocks: the number of blocks compared with those on the other side.
    """

    blocks: int = 0
    values: int = 0
    size_bytes: int = 0
    seen_blocks: int = 0


@contextmanager
def receiving(target: RepositoryContext) -> Iterator[None]:
    """A context in which nothing on the target is removed, including new blocks."""
    with target.storage.lock(TRANSFER_LOCK, shared=True), target.blocks.keep(()):
        yield


@contextmanager
def reader(*stores: BlockStore) -> Iterator[ThreadPoolExecutor | None]:
    """A thread pool for reading blocks, if one of the stores is remote."""
    if not any(store.is_remote for store in stores):
        yield None
        return
    with ThreadPoolExecutor(_AT_ONCE, "transfer") as pool:
        yield pool


class Sender:
    """Stores what a block store lacks. Not thread-safe.

    Args:
        target: the block store to copy to.
        get: returns and verifies leaves, which are read only if they are missing on the target.
        where: the source of the nodes, for errors; None if they are already verified.
        pool: reads leaves in parallel; None to read one at a time.
        tell: called after each stored batch.
    """

    def __init__(
        self,
        target: BlockStore,
        get: Get,
        where: str | None,
        pool: ThreadPoolExecutor | None = None,
        tell: OnProgress | None = None,
    ) -> None:
        self._target, self._get, self._where = target, get, where
        self._map = map if pool is None else pool.map
        self._tell = tell
        self._asked: list[MissingBlock] = []
        self._asked_bytes = 0
        self._leaves: dict[Cid, Bytes] = {}
        self._nodes: dict[Cid, Bytes] = {}
        self._waiting_bytes = 0
        self._values = 0
        self.sent = Sent()

    def add(self, found: MissingBlock) -> None:
        """Queue a block to be stored before all that are added later, unless it is there.

        Raises:
            CorruptBlockError: its bytes do not match its CID.
            InvalidInputError: its hash function is not that of the target.
        """
        self._asked.append(found)
        self._asked_bytes += len(found.data or b"")
        if len(self._asked) >= _ASKED_BLOCKS or self._asked_bytes >= _HELD_BYTES:
            self._ask()

    def finish(self) -> Sent:
        """Store the queued blocks; returns what was done since the beginning."""
        self._ask()
        self._put()
        return self.sent

    def _ask(self) -> None:
        asked, self._asked, self._asked_bytes = self._asked, [], 0
        wanted = {found.cid for found in asked} - self._leaves.keys() - self._nodes.keys()
        lacking = set(self._target.missing(list(wanted)))
        sent = self.sent
        self.sent = Sent(sent.blocks, sent.values, sent.size_bytes, sent.seen_blocks + len(asked))
        read = (found for found in asked if found.cid in lacking)
        while some := list(islice(read, _AT_ONCE)):
            leaves = [found.cid for found in some if found.data is None]
            data = dict(zip(leaves, self._map(self._get, leaves), strict=True))
            for found in some:
                self._take(found, data[found.cid] if found.data is None else found.data)
        self._values += sum(found.is_value for found in asked if found.cid in lacking)

    def _take(self, found: MissingBlock, data: Bytes) -> None:
        if found.cid[2] != self._target.hash.code:
            raise InvalidInputError(
                f"the CID {cids.to_text(found.cid)} does not use {self._target.hash.name}, "
                "as all blocks of this repository do"
            )
        if self._where is not None and found.data is not None:
            cids.check(found.cid, data, self._where)
        waiting = self._leaves if cids.is_raw(found.cid) else self._nodes
        if found.cid in waiting:
            return
        waiting[found.cid] = data
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= BATCH_BYTES:
            self._put()

    def _put(self) -> None:
        """Store the queued blocks: leaves first, then the nodes above them."""
        leaves, nodes = list(self._leaves.items()), list(self._nodes.items())
        batches = [leaves + nodes] if self._waiting_bytes <= ONE_PACK_BYTES else [leaves, nodes]
        for batch in filter(None, batches):
            self._target.put(batch, batch[-1][0])
        sent = self.sent
        self.sent = Sent(
            sent.blocks + len(leaves) + len(nodes),
            sent.values + self._values,
            sent.size_bytes + self._waiting_bytes,
            sent.seen_blocks,
        )
        self._leaves, self._nodes, self._waiting_bytes, self._values = {}, {}, 0, 0
        if self._tell is not None and (leaves or nodes):
            self._tell(Progress("blocks", self.sent.blocks, done_bytes=self.sent.size_bytes))
