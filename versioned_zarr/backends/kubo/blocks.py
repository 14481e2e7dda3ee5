"""Blocks in a node's blockstore, through a local cache: sent as CARs, compared when they come.

What is sent is not pinned, so a garbage collection of the node could take it before a ref names
it. `settle`, called once a ref does, finds out whether one ran and sends again what it took;
docs/design/kubo.md tells why that is enough.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from versioned_zarr.backends.kubo.client import KuboClient, Upload
from versioned_zarr.backends.kubo.fetching import Fetcher
from versioned_zarr.blocks.ahead import Ahead
from versioned_zarr.blocks.cache import BlockCache
from versioned_zarr.blocks.nearness import Nearness
from versioned_zarr.blocks.recent import Recent
from versioned_zarr.blocks.store import Block, Followable
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError, StorageError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.car import FIRST_SECTION
from versioned_zarr.ipld.car_v1 import header, section_head
from versioned_zarr.ipld.cid import Cid, HashFunction, from_text, to_text
from versioned_zarr.storage import Bytes, FilePart

ASK_BYTES = 64 << 10
"""From this length on it is cheaper to ask whether the node has a block than to send it."""
BATCH_BYTES = 16 << 20
LANES = 3
MEMORY_BYTES = 64 << 20
_CANARY_BYTES = 32

_Place = tuple[Cid, int, int]


class KuboBlocks:
    """A `BlockStore` on one node. Thread-safe; many processes and machines may share the node.

    Args:
        client: the node.
        cache: what is near; holds what was written here and what was read lately.
    """

    is_remote = True

    def __init__(self, client: KuboClient, cache: BlockCache) -> None:
        self.client, self.cache = client, cache
        self.hash: HashFunction = cache.hash
        self._fetcher = Fetcher(client, self._keep, cache.__contains__)
        self._recent = Recent(MEMORY_BYTES)
        self._nearness = Nearness()
        self._ahead = Ahead(
            find=self._find,
            fetch=self._fetch,
            fetch_all=self._fetch_all,
            can_fetch_all=lambda: True,
            sizes_below=self._sizes_below,
            nearness=self._nearness,
        )
        self._guard = threading.Lock()
        self._counted_on: set[Cid] = set()
        self._canary: str | None = None
        self._expected: dict[Cid, tuple[int, Future[None]]] = {}

    # Reading

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`."""
        return self._nearness.asked()

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`: from the cache, or with one request."""
        return self._ahead.get(cid)

    def _find(self, cid: Cid) -> memoryview | None:
        found = self.cache.get(cid)
        if found is None and not self.cache.limit_bytes:
            found = self._recent.get(cid)
        return found

    def _fetch(self, cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview]) -> None:
        """Ask for one block; see `ahead.Fetch`."""
        del size_bytes
        came[cid] = self._fetcher.fetch(cid)

    def _fetch_all(self, cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview]) -> None:
        """Ask for a node and its leaves; see `ahead.Fetch`. Nodes below it come in their turn.

        Costs two requests, and the node half of what a CAR would.
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
        with contextlib.suppress(CorruptBlockError):  # said when it is read
            links = sorted(dag_pb.decode(node)[0], key=lambda link: (len(link.name), link.name))
            self._fetcher.saw(cid, links)
            return [(link.cid, link.tsize) for link in links]
        return []

    def get_joined(self, cids_: Sequence[Cid], size_bytes: int) -> memoryview:
        """See `BlockStore.get_joined`; what is not in the cache is fetched in parallel."""
        joined = self.cache.get_joined(cids_, size_bytes)
        if joined is None:
            joined = memoryview(b"".join(self.get_many(cids_)))
        return joined

    def get_many(self, wanted: Sequence[Cid]) -> list[memoryview]:
        """Several blocks, fetched in parallel where they are not in the cache."""
        found = {cid: self._find(cid) for cid in wanted}
        absent = [cid for cid, data in found.items() if data is None]
        if absent:
            self._nearness.check()
        found.update(zip(absent, self.client.in_parallel(self.get, absent), strict=True))
        return [data for cid in wanted if (data := found[cid]) is not None]

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`: in the cache, and so on the node when it came there."""
        return cid in self.cache

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """Those of the blocks that the node does not have; asked for in parallel."""
        return self.client.missing(wanted)

    def problems(
        self, wanted: Sequence[Cid], *, read_all: bool
    ) -> dict[Cid, BlockNotFoundError | CorruptBlockError]:
        """See `ServedBlocks.problems`."""
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
        """See `BlockStore.expect`: sends them beside what else is being sent."""
        if blocks:
            sending = self.client.in_background(lambda: self._send(blocks, blocks[0][0]))
            process = os.getpid()
            with self._guard:
                # What did not come after all is forgotten.
                under_way = {cid: it for cid, it in self._expected.items() if not it[1].done()}
                self._expected = under_way | {cid: (process, sending) for cid, _ in blocks}

    def put(self, blocks: Sequence[Block], root: Cid) -> None:
        """See `BlockStore.put`: one request, for what was not sent when it was expected."""
        rest = [(cid, data) for cid, data in blocks if not self._was_sent(cid)]
        if rest:
            self._send(rest, root)
        self.cache.put(blocks, root)

    def _was_sent(self, cid: Cid) -> bool:
        """Whether a block is on the node because it was expected; waits while it is sent."""
        with self._guard:
            process, sending = self._expected.pop(cid, (0, None))
        # A thread of the parent does not live on in a forked child.
        return sending is not None and process == os.getpid() and sending.exception() is None

    def _send(self, blocks: Sequence[Block], root: Cid) -> None:
        self._count_on(cid for cid, _ in blocks)

        parts: list[Bytes] = [header([root])]
        for cid, data in blocks:
            parts += (section_head(cid, len(data)), data)
        self.client.import_car(Upload(sum(map(len, parts)), lambda: parts), len(blocks))

    def follow(self, draft: Followable) -> None:
        """See `BlockStore.follow`: sends what is written while the writer goes on."""
        draft.follower = _Sender(self, draft)

    def publish(self, draft: Followable, root: Cid) -> None:
        """See `BlockStore.publish`: sends what the writer was ahead of, then fills the cache."""
        follower = draft.follower
        sender = follower if isinstance(follower, _Sender) else _Sender(self, draft)
        sender.finish()
        self.cache.publish(draft, root, sender.sent)

    @contextlib.contextmanager
    def keep(self, cids_: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: asks the node, and `settle` looks again."""
        wanted = list(cids_)
        if wanted:
            self._nearness.check()
            self._count_on(wanted)
        yield not self.client.missing(wanted)

    def refresh(self) -> bool:
        """See `BlockStore.refresh`: what the node has can always have grown."""
        return True

    # Garbage collections of the node

    def _count_on(self, wanted: Iterable[Cid]) -> None:
        """Remember blocks that a ref will reach, and from when on they must not be taken.

        A block that nothing refers to, the canary, is put on the node before them: while it is
        there, no collection has begun since.
        """
        with self._guard:
            if self._canary is None:
                self.client.wait_for_gc()
                self._canary = self.client.put_block(secrets.token_bytes(_CANARY_BYTES))
            self._counted_on.update(wanted)

    def settle(self) -> None:
        """Make sure that the node has what was sent, now that a ref reaches it.

        Raises:
            StorageError: a collection took blocks, and they could not be sent again.
        """
        with self._guard:
            canary, counted_on = self._canary, self._counted_on
            self._canary, self._counted_on = None, set()
        if canary is None:
            return
        self.client.wait_for_gc()
        if self.client.has_block(from_text(canary)):
            return
        absent = self.client.missing(list(counted_on))
        for start in range(0, len(absent), 256):
            batch = [(cid, self._at_hand(cid)) for cid in absent[start : start + 256]]
            self._send(batch, batch[0][0])

    def _at_hand(self, cid: Cid) -> memoryview:
        found = self.cache.get(cid)
        if found is None:
            raise StorageError(
                f"a garbage collection of the IPFS node at {self.client.base_url} took block "
                f"{to_text(cid)} while it was being committed, and the cache does not hold it; "
                "'vz fsck' says what it touches: write those keys again",
                where=self.client.base_url,
            )
        return found


class _Sender:
    """Sends a draft in batches, from a thread of its own while it grows, then to its end.

    Attributes:
        draft: what is sent.
        sent: up to where it is on the node.
    """

    def __init__(self, blocks: KuboBlocks, draft: Followable) -> None:
        self.draft, self.sent = draft, FIRST_SECTION
        self._begun = FIRST_SECTION
        self._blocks = blocks
        self._sent_unasked: set[Cid] = set()
        self._has_failed = False
        self._thread: threading.Thread | None = None

    def grown(self) -> None:
        """Called by the writer: begin to send, unless that is under way or did not work."""
        if not self._has_failed and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._send_ahead, daemon=True)
            self._thread.start()

    def _send_ahead(self) -> None:
        try:
            self._send()
        except Exception:  # noqa: BLE001 - `finish` sends the rest again, and says what fails
            self._has_failed = True

    def finish(self) -> None:
        """Send the rest; whatever fails now is raised."""
        self.draft.follower = None
        if self._thread is not None:
            self._thread.join()
        self._send()

    def _send(self) -> None:
        """Send what there is; while the node stores a batch, the next one is under way."""
        self._begun = self.sent
        under_way: deque[tuple[Future[None], int]] = deque()
        with ThreadPoolExecutor(LANES, "kubo-send") as lanes:
            while (batch := self._next_batch()) or under_way:
                if batch:
                    sending = lanes.submit(self._send_batch, self._wanted(batch))
                    self._begun = batch[-1][2]
                    under_way.append((sending, self._begun))
                if not batch or len(under_way) == LANES:
                    sending, end = under_way.popleft()
                    sending.result()
                    self.sent = end

    def _next_batch(self) -> list[_Place]:
        batch: list[_Place] = []
        for cid, start, end in self.draft.finished(self._begun):
            batch.append((cid, start, end))
            if end - self._begun >= BATCH_BYTES:
                break
        return batch

    def _wanted(self, batch: list[_Place]) -> list[_Place]:
        """The blocks that the node may lack.

        Of a value of many leaves only the root is asked for, and the leaves if that is there: to
        ask costs a fifth of what sending a leaf does.
        """
        self._blocks._count_on(cid for cid, _, _ in batch)
        if self.draft.is_recovered or self._has_failed:
            return self._without(batch, [cid for cid, _, _ in batch])
        asked: list[Cid] = []
        leaves_of: dict[Cid, list[Cid]] = {}
        for cid, start, end in batch:
            if not cids.is_raw(cid):
                leaves_of[cid] = [
                    link.cid for link in dag_pb.decode(self.draft.read(start, end))[0]
                ]
                self._sent_unasked.update(leaves_of[cid])
                asked.append(cid)
            elif cid in self._sent_unasked:
                self._sent_unasked.discard(cid)
            elif end - start >= ASK_BYTES:
                asked.append(cid)
        there = set(asked) - set(self._blocks.client.missing(asked))
        asked += [leaf for root in there for leaf in leaves_of.get(root, ())]
        return self._without(batch, asked) if there else batch

    def _without(self, batch: list[_Place], asked: list[Cid]) -> list[_Place]:
        there = set(asked) - set(self._blocks.client.missing(asked))
        return [place for place in batch if place[0] not in there]

    def _send_batch(self, batch: list[_Place]) -> None:
        """Send blocks as they lie in the draft, sections and all, where they lie side by side."""
        if not batch:
            return
        runs: list[list[int]] = []
        for cid, start, end in batch:
            first = start - len(section_head(cid, end - start))
            if runs and runs[-1][1] == first:
                runs[-1][1] = end
            else:
                runs.append([first, end])

        head = header([batch[0][0]])

        def parts() -> Iterator[Bytes | FilePart]:
            yield head
            for first, end in runs:
                yield self.draft.part(first, end)

        size_bytes = len(head) + sum(end - first for first, end in runs)
        self._blocks.client.import_car(Upload(size_bytes, parts), len(batch))
