"""The pack upload: sends a full draft as a pack while the session continues to write.

The commit then only waits for the rest. A pack whose draft changed afterward, or is not used, is
left for garbage collection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from versioned_zarr.backends.objectstore.pack_catalogue import PackCatalogue
from versioned_zarr.blocks.protocol import Followable
from versioned_zarr.fork_local import ForkLocal, ForkSafeFuture, threads
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid

_DOCUMENT_BYTES: Final = 16 << 10
_DOCUMENTS_BYTES: Final = 128 << 10
PACK_BYTES: Final = 32 << 20
"""A session starts another draft above this size."""
AT_ONCE: Final = 4
"""The number of packs that are sent at a time; each is in memory meanwhile."""


class SentDocuments:
    """Small Zarr documents of packs that were sent; the next commit stores them once more.

    One request then reads them with the nodes of the tree. Thread-safe.
    """

    def __init__(self) -> None:
        self._found: dict[Cid, bytes] = {}

    def add_from(self, draft: Followable) -> None:
        """Add the documents in a draft, up to 128 KiB in all."""
        for cid, start, end in draft.finished():
            if cids.is_raw(cid) and end - start <= _DOCUMENT_BYTES:
                data = bytes(draft.read(start, end))
                if data[:1] == b"{" and sum(map(len, self._found.values())) < _DOCUMENTS_BYTES:
                    self._found[cid] = data

    def take(self) -> dict[Cid, bytes]:
        """The documents; there are none afterward."""
        found, self._found = self._found, {}
        return found


class PackUploads:
    """Sends packs in parallel. Thread-safe.

    Args:
        catalogue: stores the packs.
        condemned: returns the packs that a gc may be deleting, as far as this process knows.
        missing: returns those of some blocks that are in no known pack.
    """

    def __init__(
        self,
        catalogue: PackCatalogue,
        condemned: Callable[[], AbstractSet[str]],
        missing: Callable[[Sequence[Cid]], AbstractSet[Cid]],
    ) -> None:
        self._catalogue, self._condemned, self._missing = catalogue, condemned, missing
        self.documents = SentDocuments()
        self._workers: ForkLocal[ThreadPoolExecutor] = threads(AT_ONCE, "vz-packs")

    def check_process(self) -> None:
        """See `ConditionalStore.check_process`."""
        self._catalogue.check_process()

    def follow(self, draft: Followable) -> None:
        """Send a draft as soon as it is full."""
        draft.follower = PackUpload(self, draft)

    def _is_stored(self, blocks: Sequence[tuple[Cid, int, int]]) -> bool:
        """Whether packs that are known contain at least half of the bytes of a draft's blocks."""
        missing = self._missing([cid for cid, _, _ in blocks])
        lacking = sum(end - start for cid, start, end in blocks if cid in missing)
        return 2 * lacking <= sum(end - start for _, start, end in blocks)

    def is_there(self, pack: str) -> bool:
        """Whether a pack that was sent is there still, as far as this process knows."""
        return self._catalogue.is_there(pack) and pack not in self._condemned()

    def start(self, draft: Followable) -> Future[str | None]:
        """Send a draft in the background, unless the store has most of it.

        Returns:
            The name of the pack, if it is sent.
        """
        return self._workers().submit(self._sent_ahead, draft)

    def _sent_ahead(self, draft: Followable) -> str | None:
        blocks = list(draft.finished())
        if self._is_stored(blocks):
            return None
        pack = self.send(draft, blocks[0][0])
        self.documents.add_from(draft)
        return pack

    def send(self, draft: Followable, root: Cid) -> str:
        """Send a draft; returns the name of the pack.

        Raises:
            StorageError: the store failed.
        """
        return self._catalogue.put_draft(draft, root)


class PackUpload:
    """The upload of one draft; see `Follower`.

    Args:
        uploads: sends it.
        draft: the draft.
    """

    def __init__(self, uploads: PackUploads, draft: Followable) -> None:
        self._uploads, self._draft = uploads, draft
        self._sending: ForkSafeFuture[str | None] | None = None
        self._sent_end = 0

    def grown(self) -> None:
        """See `Follower.grown`: sends the draft if it is full and completely written.

        Not if the store has most of it: then the commit sends only the rest.
        """
        end = self._draft.end
        if self._sending is not None or end < PACK_BYTES or not self._draft.is_sound:
            return
        self._sent_end = end
        self._sending = ForkSafeFuture(self._uploads.start(self._draft))

    def finish(self, root: Cid) -> str:
        """The name of the pack of the whole draft, which is sent now if it was not before.

        Raises:
            StorageError: the store failed.
        """
        self._uploads.check_process()
        sending = None if self._sending is None else self._sending.here()
        if sending is not None and self._sent_end == self._draft.end:
            pack = None if sending.exception() else sending.result()
            if pack is not None and self._uploads.is_there(pack):
                return pack
            self._sending = None
        return self._uploads.send(self._draft, root)
