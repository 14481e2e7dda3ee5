"""The block store on Kubo: sends CARs, verifies what it reads, and caches it locally.

Data that is sent is not pinned, so a garbage collection of the node could remove it before a ref
names it. `secure`, called before the ref moves, and `settle`, called after, detect a collection and
send the removed blocks again. docs/design/kubo.md explains why this is sufficient.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future

from versioned_zarr.backends.kubo.block_fetcher import BlockFetcher
from versioned_zarr.backends.kubo.car_upload import CarUpload, send
from versioned_zarr.backends.kubo.client import KuboClient
from versioned_zarr.backends.kubo.gc_guard import GcGuard
from versioned_zarr.blocks.cache.block_cache import BlockCache
from versioned_zarr.blocks.cache.memory_cache import MemoryCache
from versioned_zarr.blocks.file_reader import join
from versioned_zarr.blocks.protocol import Block, Followable
from versioned_zarr.blocks.remote.lazy_origin import LazyOrigin
from versioned_zarr.blocks.remote.nonblocking import NonBlocking
from versioned_zarr.blocks.remote.readahead import ReadAhead
from versioned_zarr.errors import BlockNotFoundError, CollectedError, CorruptBlockError
from versioned_zarr.fork_local import ForkLocal
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.cid import Cid, HashFunction, to_text
from versioned_zarr.storage.protocol import Bytes

MEMORY_BYTES = 64 << 20
_ATTEMPTS = 5
_SENT_AT_ONCE = 64
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.6
_IN_VAIN_FOR_S = 60.0


class KuboBlocks:
    """A `BlockStore` on one node. Thread-safe; many processes and machines may share the node.

    Args:
        client: the node.
        cache: the local cache of blocks that were written here or read recently.
        completion: fetches blocks that a partial clone lacks; None if it is never partial.
    """

    is_remote = True
    pack_bytes = 1 << 30

    def __init__(
        self, client: KuboClient, cache: BlockCache, completion: LazyOrigin | None = None
    ) -> None:
        self.client, self.cache, self._completion = client, cache, completion
        self.hash: HashFunction = cache.hash
        self._fetcher = BlockFetcher(client, self._keep, cache.__contains__)
        self._recent = MemoryCache(MEMORY_BYTES)
        self._nearness = NonBlocking()
        self._ahead = ReadAhead(
            find=self._find,
            fetch=self._fetch,
            fetch_all=self._fetch_all,
            can_fetch_all=lambda: True,
            sizes_below=self._sizes_below,
            nearness=self._nearness,
        )
        self._at_work = threading.local()
        self._expected: ForkLocal[dict[Cid, Future[None]]] = ForkLocal(dict)
        self._in_vain_until_s = 0.0

    # Reading

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`."""
        return self._nearness.asked()

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`: from the cache, or with one request."""
        return self._ahead.get(cid)

    def get_verified(self, cid: Cid) -> memoryview:
        """See `HasCache.get_verified`."""
        found = self.get(cid)
        if not cids.matches(cid, found):
            found = memoryview(self.client.get_block(cid))
            cids.check(cid, found, self.client.base_url)
        return found

    def _find(self, cid: Cid) -> memoryview | None:
        found = self.cache.get(cid)
        if found is None and not self.cache.limit_bytes:
            found = self._recent.get(cid)
        return found

    def _fetch(self, cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview]) -> None:
        """Fetch one block; see `readahead.FetchBlocks`."""
        del size_bytes
        try:
            came[cid] = self._fetcher.fetch(cid)
        except BlockNotFoundError as error:
            found = self._complete(cid)
            came[cid] = self._fetch_later(cid, error) if found is None else found

    def _fetch_later(self, cid: Cid, error: BlockNotFoundError) -> memoryview:
        """A block that the node lacks now.

        A collection may have removed it after a writer moved a ref to it; the writer then sends it
        again.

        Raises:
            BlockNotFoundError: it is still missing.
        """
        pause_s = _FIRST_PAUSE_S
        while time.monotonic() >= self._in_vain_until_s:
            self.client.wait_for_gc()
            time.sleep(pause_s)
            with contextlib.suppress(BlockNotFoundError):
                return self._fetcher.fetch(cid)
            pause_s *= 2
            if pause_s > _LONGEST_PAUSE_S:  # it is lost, and usually others with it
                self._in_vain_until_s = time.monotonic() + _IN_VAIN_FOR_S
        raise error

    def _complete(self, cid: Cid) -> memoryview | None:
        """A block that a partial clone lacks, from its origin; None for any other."""
        origin = None if self._completion is None else self._completion.origin()
        if self._completion is None or origin is None:
            return None
        found = self._completion.fetch(cid, origin)
        self._keep(cid, found)
        return found

    def _send_fetched(self) -> None:
        """Send blocks fetched from an origin, because new blocks may need them."""
        if self._completion is not None:
            self._completion.flush()

    def _fetch_all(self, cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview]) -> None:
        """Fetch a node and its leaves; see `readahead.FetchBlocks`. Nodes below are fetched later.

        Costs two requests, and half of the node's work for a CAR.
        """
        del size_bytes
        node = self._find(cid)
        if node is None:
            self._fetch(cid, None, came)
        else:
            came[cid] = node
        leaves = [link for link in dag_pb.decode(came[cid])[0] if cids.is_raw(link.cid)]
        came.update(self._fetcher.fetch_leaves(leaves))

    def _keep(self, cid: Cid, data: memoryview) -> None:
        self.cache.add(cid, data)
        if not self.cache.limit_bytes:
            self._recent.add(cid, data)

    def _sizes_below(self, cid: Cid, node: memoryview) -> list[tuple[Cid, int]]:
        with contextlib.suppress(CorruptBlockError):  # reported when it is read
            links = sorted(dag_pb.decode(node)[0], key=lambda link: (len(link.name), link.name))
            self._fetcher.saw(cid, links)
            return [(link.cid, link.tsize) for link in links]
        return []

    def get_joined(self, cids_: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview:
        """See `BlockStore.get_joined`; blocks that are not cached are fetched in parallel."""
        joined = self.cache.get_joined(cids_, sizes_bytes)
        if joined is None:
            joined = join(cids_, sizes_bytes, self.get_many(cids_))
        return joined

    def get_many(self, wanted: Sequence[Cid]) -> list[memoryview]:
        """Several blocks; those that are not cached are fetched in parallel."""
        found = {cid: self._find(cid) for cid in wanted}
        absent = [cid for cid, data in found.items() if data is None]
        if absent:
            self._nearness.check()
        found.update(zip(absent, self.client.in_parallel(self.get, absent), strict=True))
        return [data for cid in wanted if (data := found[cid]) is not None]

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`: whether it is cached, so that the node had it once."""
        return cid in self.cache

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """The blocks that the node does not have; checked in parallel."""
        self._send_fetched()
        gc_guard = self._gc_guard
        if gc_guard is None:
            return self.client.missing(wanted)
        gc_guard.begin()
        absent = self.client.missing(wanted)
        gc_guard.count_on(set(wanted).difference(absent))
        return absent

    def problems(
        self, wanted: Sequence[Cid], *, read_all: bool
    ) -> dict[Cid, BlockNotFoundError | CorruptBlockError]:
        """See `ServedBlocks.problems`."""
        self._send_fetched()
        look = self._problem_read if read_all else self._problem_asked
        found = self.client.in_parallel(look, wanted)
        return {cid: it for cid, it in zip(wanted, found, strict=True) if it is not None}

    def _problem_read(self, cid: Cid) -> BlockNotFoundError | CorruptBlockError | None:
        try:
            cids.check(cid, self.client.get_block(cid), self.client.base_url)
        except (BlockNotFoundError, CorruptBlockError) as error:
            return error
        return None

    def _problem_asked(self, cid: Cid) -> BlockNotFoundError | None:
        if self.client.has_block(cid):
            return None
        text = to_text(cid)
        return BlockNotFoundError(f"block {text} is not on {self.client.base_url}", cid=text)

    # Writing

    def expect(self, blocks: Sequence[Block]) -> None:
        """See `BlockStore.expect`: sends them in the background."""
        if blocks:
            gc_guard = self._gc_guard or GcGuard(self.client)
            sending = self.client.in_background(lambda: self._send(blocks, blocks[0][0], gc_guard))
            expected = self._expected()
            for cid, it in list(expected.items()):
                if it.done():  # it was not put, and is forgotten
                    expected.pop(cid, None)
            expected.update((cid, sending) for cid, _ in blocks)

    def put(self, blocks: Sequence[Block], root: Cid) -> None:
        """See `BlockStore.put`: one request, for blocks that were not sent after `expect`."""
        rest = [(cid, data) for cid, data in blocks if not self._was_sent(cid)]
        if rest:
            with self.guarding() as gc_guard:
                self._send(rest, root, gc_guard)
        self.cache.put(blocks, root)

    def _was_sent(self, cid: Cid) -> bool:
        """Whether a block was sent after `expect`; waits while it is being sent."""
        sending = self._expected().pop(cid, None)
        return sending is not None and sending.exception() is None

    def _send(self, blocks: Sequence[Block], root: Cid, gc_guard: GcGuard) -> None:
        gc_guard.hold(blocks)
        gc_guard.count_on(cid for cid, _ in blocks)
        send(self.client, blocks, root)

    def follow(self, draft: Followable) -> None:
        """See `BlockStore.follow`: sends data while the writer continues to write."""
        draft.follower = CarUpload(self.client, draft)

    def publish(self, draft: Followable, root: Cid) -> None:
        """See `BlockStore.publish`: sends the rest of the draft.

        The draft belongs to its session, which alone can remove it; see `let_go`.
        """
        del root
        follower = draft.follower
        sender = follower if isinstance(follower, CarUpload) else CarUpload(self.client, draft)
        draft.follower = sender
        sender.finish()
        with self.guarding() as gc_guard:
            gc_guard.join(sender.gc_guard)
            gc_guard.enter_context(self.cache.holding())

    def let_go(self, draft: Followable, root: Cid) -> None:
        """See `ServedBlocks.let_go`: the draft becomes part of the cache."""
        follower = draft.follower
        self.cache.publish(draft, root, follower.sent if isinstance(follower, CarUpload) else 0)

    @contextlib.contextmanager
    def keep(self, cids_: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: checks the node; `secure` and `settle` ensure it."""
        wanted = list(cids_)
        if wanted:
            self._nearness.check()
        if self._gc_guard is not None:
            yield all(self._find(cid) is not None for cid in self.missing(wanted))
            return
        absent = self.missing(wanted) if wanted else []
        with self.guarding() as gc_guard:
            gc_guard.remember(set(wanted).difference(absent))
            # Blocks on this machine are sent before a ref reaches them.
            yield all(self._find(cid) is not None for cid in absent)

    def refresh(self) -> bool:
        """See `BlockStore.refresh`: the node may always have new blocks."""
        return True

    # Garbage collections of the node

    @contextlib.contextmanager
    def guarding(self) -> Iterator[GcGuard]:
        """The GC guard of the current operation of this thread; a new one if it begins."""
        gc_guard = self._gc_guard
        if gc_guard is not None:
            yield gc_guard
            return
        with GcGuard(self.client) as gc_guard:
            # A guard that an interrupt leaves behind ends with its operation.
            self._at_work.gc_guard = weakref.ref(gc_guard)
            try:
                yield gc_guard
            finally:
                self._at_work.gc_guard = None

    @property
    def _gc_guard(self) -> GcGuard | None:
        gc_guard: weakref.ref[GcGuard] | None = getattr(self._at_work, "gc_guard", None)
        return None if gc_guard is None else gc_guard()

    @property
    def is_partial(self) -> bool:
        """Whether missing blocks are at an origin."""
        return self._completion is not None and self._completion.origin() is not None

    def secure(self) -> None:
        """Make sure that the node has the blocks that this operation relies on; call within `keep`.

        Raises:
            CollectedError: a collection took blocks, and they could not be sent again.
        """
        with self.guarding() as gc_guard:
            for _ in range(_ATTEMPTS):  # if it collects all the time, `settle` decides
                if gc_guard.is_undisturbed():
                    return
                self._send_again(gc_guard)

    def settle(self) -> None:
        """Like `secure`, once MFS reaches all of it; waits for a running collection.

        Raises:
            CollectedError: a collection took blocks, and they could not be sent again.
        """
        with self.guarding() as gc_guard:
            while True:
                self.client.wait_for_gc()
                # Blocks that are reached only through a removed block are removed by the next
                # collection, if that begins before the block is back.
                if gc_guard.is_undisturbed() or not self._send_again(gc_guard):
                    return

    def send_missing(self, wanted: Sequence[Cid], gc_guard: GcGuard) -> None:
        """Make sure that the node has blocks, and rely on them.

        Raises:
            CollectedError: a block is neither there nor here.
        """
        gc_guard.begin()
        absent = self.client.missing(wanted)
        gc_guard.count_on(wanted)
        self._send_from_here(absent, gc_guard)

    def _send_again(self, gc_guard: GcGuard) -> bool:
        """Send removed blocks again; returns whether there were any."""
        absent = gc_guard.taken()
        self._send_from_here(absent, gc_guard)
        return bool(absent)

    def _send_from_here(self, absent: Sequence[Cid], gc_guard: GcGuard) -> None:
        for start in range(0, len(absent), _SENT_AT_ONCE):
            batch = [
                (cid, self._at_hand(cid, gc_guard)) for cid in absent[start : start + _SENT_AT_ONCE]
            ]
            send(self.client, batch, batch[0][0])

    def _at_hand(self, cid: Cid, gc_guard: GcGuard) -> Bytes:
        found = gc_guard.held(cid)
        if found is None:
            found = self._find(cid)
        if found is not None and not cids.matches(cid, found):
            found = None  # a damaged cache counts as empty
        if found is None:
            with contextlib.suppress(BlockNotFoundError):
                found = self._complete(cid)
        if found is None:
            raise CollectedError(
                f"a garbage collection of the IPFS node at {self.client.base_url} removed block "
                f"{to_text(cid)} while it was being committed, and this machine no longer has it; "
                "nothing was committed: write or send those keys again",
                where=self.client.base_url,
            )
        return found
