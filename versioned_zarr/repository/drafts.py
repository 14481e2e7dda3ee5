"""The drafts of a session, where values lie until they are committed: this process's and others'.

A process writes into drafts of its own and reads those of all. Knows where values lie in them; what
the values are for is the journal's to say.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator

from versioned_zarr.blocks.pack import PackDraft
from versioned_zarr.blocks.store import Block, BlockStore
from versioned_zarr.blocks.values import read_value
from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.car import decode_varint, header_size
from versioned_zarr.ipld.cid import CID_SIZE, Cid
from versioned_zarr.repository.journal import IN_STORE, draft_path
from versioned_zarr.repository.overlay import Pending
from versioned_zarr.storage import Draft, Storage

DRAFT_LIMIT_BYTES = 1 << 30
_HEADER_LIMIT = CID_SIZE + 10


def new_number() -> int:
    """A number for a draft that no other of its session has."""
    return secrets.randbits(31)


class Drafts:
    """The drafts of one session, as one process sees them.

    Any thread may read. For the rest the working state that owns it holds its lock.

    Args:
        storage: where they lie.
        blocks: where they will be published.
        session: the id of the session.
    """

    def __init__(self, storage: Storage, blocks: BlockStore, session: str) -> None:
        self._storage, self._blocks, self._session = storage, blocks, session
        self._own: dict[int, PackDraft] = {}
        self._number = IN_STORE
        self._readers: dict[int, Draft] = {}
        self._lock = threading.Lock()

    # Reading

    def read(self, pending: Pending, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a pending value or a range of them, clamped as slices are.

        Raises:
            FileNotFoundError: its draft has become a pack since.
        """
        draft = self._reader(pending.draft)
        start, end, _ = slice(start, end).indices(pending.size)
        if pending.size == pending.tsize:
            first = pending.offset + header_size(pending.size)
            return draft.read(first + start, first + max(start, end))
        places = {
            cid: (low, high) for cid, low, high in places_in(draft, pending.offset, pending.tsize)
        }
        return read_value(lambda cid: draft.read(*places[cid]), pending.cid, start, end)

    def blocks_of(self, pending: Pending) -> Iterator[Block]:
        """The blocks of a pending value, the root first."""
        draft = self._reader(pending.draft)
        for cid, low, high in places_in(draft, pending.offset, pending.tsize):
            yield cid, draft.read(low, high)

    def _reader(self, number: int) -> Draft:
        own = self._own.get(number)
        if own is not None:
            return own.draft
        with self._lock:
            reader = self._readers.get(number)
            if reader is None:
                path = draft_path(self._session, number)
                reader = self._readers[number] = self._storage.read_draft(path)
            return reader

    # Writing

    def own(self) -> tuple[int, PackDraft]:
        """The draft that this process writes its next value to, and its number."""
        draft = self._own.get(self._number)
        if draft is None or draft.end > DRAFT_LIMIT_BYTES or not draft.is_sound:
            number = new_number()
            path = draft_path(self._session, number)
            draft = PackDraft(self._storage.open_draft(path), self._blocks.hash)
            self._blocks.follow(draft)
            self._own[number] = draft
            self._number = number
        return self._number, draft

    # Committing

    def take(self, wanted: set[int]) -> dict[int, PackDraft]:
        """The drafts that no living process writes, by number: this one's and, if wanted, others'.

        They are the caller's from now on; this process begins another one.
        """
        taken, self._own, self._number = self._own, {}, IN_STORE
        for number in wanted - {IN_STORE} - taken.keys():
            path = draft_path(self._session, number)
            try:
                adopted = self._storage.adopt_draft(path)
            except FileNotFoundError:
                continue
            if adopted is not None:
                taken[number] = PackDraft(adopted, self._blocks.hash)
                taken[number].recover()
        return taken

    def give_back(self, drafts: dict[int, PackDraft]) -> None:
        """Take back drafts that were not published; they are read until `drop`."""
        self._own.update(drafts)

    def drop(self) -> None:
        """Remove the drafts of this process, and those that it took."""
        for number, draft in self._own.items():
            draft.draft.close()
            self._storage.delete(draft_path(self._session, number))
        self._own.clear()

    # Ending

    def close(self) -> None:
        """Let go of all that is open; the drafts stay."""
        self._close_own()
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's drafts, which only the parent may write."""
        self._close_own()
        self._lock = threading.Lock()

    def _close_own(self) -> None:
        for draft in self._own.values():
            draft.draft.close()
        self._own.clear()


def places_in(draft: Draft, offset: int, tsize: int) -> Iterator[tuple[Cid, int, int]]:
    """The blocks of a value and where they lie in its draft, the root first.

    Args:
        draft: where it was written.
        offset: where its first section begins.
        tsize: the cumulative size of its blocks.

    Raises:
        CorruptError: no sections lie there.
    """
    left, at = tsize, offset
    while True:
        header = draft.read(at, at + _HEADER_LIMIT)
        length, start = decode_varint(header, 0, draft.path)
        low, high = at + start + CID_SIZE, at + start + length
        if high < low:
            raise CorruptError(f"no section at byte {at} of {draft.path}", where=draft.path)
        yield Cid(bytes(header[start : start + CID_SIZE])), low, high
        left, at = left - (high - low), high
        if left <= 0:
            return
