"""CAR upload: sends blocks to a node, also from a pack that is still being written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from versioned_zarr.backends.kubo.client import KuboClient, MultipartUpload
from versioned_zarr.backends.kubo.gc_guard import GcGuard
from versioned_zarr.blocks.protocol import Block, Followable
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import dag_pb
from versioned_zarr.ipld.car_v1 import header, section_head
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.protocol import Bytes, FilePart

ASK_BYTES = 64 << 10
"""From this size on, checking whether the node has a block costs less than sending it."""
BATCH_BYTES = 16 << 20
LANES = 3
_UNCOPIED_BYTES = 256 << 10
_PIECE_BYTES = 1 << 20

_Location = tuple[Cid, int, int]


def send(client: KuboClient, blocks: Sequence[Block], root: Cid) -> None:
    """Store blocks on a node, unpinned; one request."""
    parts: list[Bytes] = [header([root])]
    for cid, data in blocks:
        parts += (section_head(cid, len(data)), data)
    client.import_car(MultipartUpload(sum(map(len, parts)), lambda: parts), len(blocks))


class CarUpload:
    """Uploads a draft in batches, from its own thread while it grows, then to its end.

    Args:
        client: the node.
        draft: the draft.

    Attributes:
        draft: the draft.
        sent: the number of its bytes that are on the node.
        gc_guard: the GC guard of everything that was sent or found there.
    """

    def __init__(self, client: KuboClient, draft: Followable) -> None:
        self.draft, self.sent = draft, 0
        self.gc_guard = GcGuard(client)
        self._begun = self._sent_blocks = 0
        self._client = client
        self._sent_unasked: set[Cid] = set()
        self._has_failed = self._is_finished = False
        self.gc_guard.hold_draft(draft)
        self._thread: threading.Thread | None = None

    def grown(self) -> None:
        """Called by the writer: starts the upload, unless it is running or has failed."""
        if self._is_finished or self._has_failed:
            return
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._send_ahead, daemon=True)
            self._thread.start()

    def _send_ahead(self) -> None:
        try:
            self._send()
        except Exception:  # noqa: BLE001 - `finish` sends it again, and raises errors
            self._has_failed = True

    def finish(self) -> None:
        """Send the rest; errors are raised from here on."""
        self._is_finished = True
        if self._thread is not None:
            self._thread.join()
        self._send()

    def _send(self) -> None:
        """Send the available blocks; when the node has stored a batch, the next one follows."""
        self._begun = self._sent_blocks
        under_way: deque[tuple[Future[None], int, int]] = deque()
        with ThreadPoolExecutor(LANES, "kubo-send") as lanes:
            while (batch := self._next_batch()) or under_way:
                if batch:
                    sending = lanes.submit(self._send_batch, self._wanted(batch))
                    self._begun += len(batch)
                    under_way.append((sending, self._begun, batch[-1][2]))
                left = [each for each, *_ in under_way if not each.done()]
                if left and (not batch or len(left) == LANES):
                    wait(left, return_when=FIRST_COMPLETED)
                while under_way and under_way[0][0].done():
                    sending, blocks, end = under_way.popleft()
                    sending.result()
                    self._sent_blocks, self.sent = blocks, end

    def _next_batch(self) -> list[_Location]:
        batch: list[_Location] = []
        for cid, start, end in self.draft.finished(self._begun):
            batch.append((cid, start, end))
            if end - batch[0][1] >= BATCH_BYTES:
                break
        return batch

    def _wanted(self, batch: list[_Location]) -> list[_Location]:
        """The blocks that the node may lack.

        For a value of many leaves, only the root is checked, and the leaves if the root is there: a
        check costs a fifth of sending a leaf.
        """
        self.gc_guard.count_on(cid for cid, _, _ in batch)
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
        there = set(asked) - set(self._client.missing(asked))
        asked += [leaf for root in there for leaf in leaves_of.get(root, ())]
        return self._without(batch, asked) if there else batch

    def _without(self, batch: list[_Location], asked: list[Cid]) -> list[_Location]:
        there = set(asked) - set(self._client.missing(asked))
        return [location for location in batch if location[0] not in there]

    def _send_batch(self, batch: list[_Location]) -> None:
        """Send blocks as a CAR, encoded on the fly; long ones directly from the draft."""
        if not batch:
            return
        head = header([batch[0][0]])
        size_bytes = len(head) + sum(
            len(section_head(cid, end - start)) + end - start for cid, start, end in batch
        )
        upload = MultipartUpload(size_bytes, lambda: self._framed(head, batch))
        self._client.import_car(upload, len(batch))

    def _framed(self, head: bytes, batch: list[_Location]) -> Iterator[Bytes | FilePart]:
        """The parts of a CAR; small ones are joined, because each part costs a system call."""
        held: list[Bytes] = [head]
        held_bytes = 0
        for cid, start, end in batch:
            held.append(section_head(cid, end - start))
            if end - start >= _UNCOPIED_BYTES:
                yield b"".join(held)
                yield self.draft.part(start, end)
                held, held_bytes = [], 0
                continue
            held.append(self.draft.read(start, end))
            held_bytes += end - start
            if held_bytes >= _PIECE_BYTES:
                yield b"".join(held)
                held, held_bytes = [], 0
        if held:
            yield b"".join(held)
