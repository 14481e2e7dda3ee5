"""Pack staging: the packs that hold a session's values until the commit.

A process writes into drafts of its own and reads those of all. Knows where values lie in them; what
the values are for is the journal's to say.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from versioned_zarr.blocks.file_reader import leaves_of, read_value
from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.protocol import Block, BlockStore, ServedBlocks
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.journal import IN_STORE, draft_path
from versioned_zarr.errors import CorruptBlockError, CorruptError
from versioned_zarr.ipld.car import decode_varint, header_size
from versioned_zarr.ipld.cid import CID_SIZE, Cid, HashFunction, to_text
from versioned_zarr.storage.protocol import StagedPack, Storage

DRAFT_LIMIT_BYTES = 1 << 30
_HEADER_LIMIT = CID_SIZE + 10


def new_number() -> int:
    """A number for a draft that no other of its session has."""
    return secrets.randbits(31)


class PackStaging:
    """The drafts of one session, as one process sees them.

    Any thread may read. For the rest the working state that owns it holds its lock.

    Args:
        storage: where they lie.
        blocks: where they will be published.
        session: the id of the session.
    """

    def __init__(self, storage: Storage, blocks: BlockStore, session: str) -> None:
        self._storage, self._blocks, self._session = storage, blocks, session
        self._own: dict[int, PackWriter] = {}
        self._number = IN_STORE
        self._readers: dict[int, StagedPack] = {}
        self._sent: dict[int, Cid] = {}
        self._lock = threading.RLock()

    # Reading

    def read(self, pending: PendingWrite, start: int = 0, end: int | None = None) -> memoryview:
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

    def blocks_of(self, pending: PendingWrite) -> list[Block]:
        """The blocks of a pending value, the root first; hashed unless this process wrote them.

        Raises:
            CorruptBlockError: what lies there is not what the journal says.
            FileNotFoundError: its draft has become a pack since, or is gone.
        """
        own = self._own.get(pending.draft)
        draft = self._reader(pending.draft)
        try:
            found: list[Block] = [
                (cid, draft.read(low, high))
                for cid, low, high in places_in(draft, pending.offset, pending.tsize)
            ]
            if own is None or own.is_recovered:
                is_hashed = own is not None and own.is_sound  # when it was taken over
                check_value(pending.cid, found, None if is_hashed else self._blocks.hash)
        except CorruptBlockError:
            raise
        except (CorruptError, ValueError) as error:
            raise CorruptBlockError(
                f"no value {to_text(pending.cid)} at byte {pending.offset} of {draft.path}",
                cid=to_text(pending.cid),
                where=draft.path,
            ) from error
        return found

    def is_sound(self, pending: PendingWrite) -> bool:
        """Whether a pending value that another process wrote is what the journal says of it."""
        own = self._own.get(pending.draft)
        if pending.is_checked or (own is not None and not own.is_recovered):
            return True
        try:
            self.blocks_of(pending)
        except CorruptBlockError:
            return False
        pending.is_checked = True
        return True

    def _reader(self, number: int) -> StagedPack:
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

    def own(self) -> tuple[int, PackWriter]:
        """The draft that this process writes its next value to, and its number."""
        draft = self._own.get(self._number)
        if draft is None or draft.end > DRAFT_LIMIT_BYTES or draft.has_failed:
            number = new_number()
            path = draft_path(self._session, number)
            draft = PackWriter(self._storage.open_draft(path), self._blocks.hash)
            self._blocks.follow(draft)
            self._own[number] = draft
            self._number = number
        return self._number, draft

    # Committing

    def close_current(self) -> None:
        """Let equal values and new ones go to another draft from now on."""
        self._number = IN_STORE

    def adopt(self, wanted: Iterable[int]) -> None:
        """Take over the drafts of these numbers whose writers are gone; reads and hashes them."""
        for number in wanted:
            if number == IN_STORE or number in self._own:
                continue
            try:
                adopted = self._storage.adopt_draft(draft_path(self._session, number))
            except FileNotFoundError:
                continue
            if adopted is not None:
                draft = PackWriter(adopted, self._blocks.hash)
                draft.recover()
                self._own[number] = draft

    def taken(self, number: int) -> PackWriter | None:
        """The draft of this number, if it is this process's or was taken over."""
        return self._own.get(number)

    def publish(self, number: int, root: Cid) -> None:
        """Store what lies in a draft of this process, which becomes a pack as a rule.

        Where a server keeps the blocks, it stays until `drop`: nothing names yet what was sent.
        """
        self._blocks.publish(self._own[number], root)
        if isinstance(self._blocks, ServedBlocks):
            self._sent[number] = root
        else:
            self.published(number)

    def add(self, number: int, draft: PackWriter) -> None:
        """Take in a draft of this process that others do not know, to be published."""
        self._own[number] = draft

    def published(self, number: int) -> None:
        """Let go of a draft that has become a pack."""
        self._sent.pop(number, None)
        draft = self._own.pop(number, None)
        if draft is not None:
            draft.draft.close()

    def drop(self) -> None:
        """Remove the drafts of this process, and those that it took over."""
        self._number = IN_STORE
        for number in list(self._own):
            # Once: a draft whose move into the cache was interrupted may lie there already.
            root = self._sent.pop(number, None)
            if root is not None and isinstance(self._blocks, ServedBlocks):
                with suppress(OSError):  # whatever the storage says: it can be fetched again
                    self._blocks.let_go(self._own[number], root)
            self._storage.delete(draft_path(self._session, number))
            self.published(number)

    # Ending

    def close(self) -> None:
        """Let go of all that is open; the drafts stay."""
        self._close_own()
        for number in list(self._readers):
            self._readers.pop(number).close()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's drafts, which only the parent may write."""
        self._close_own()
        self._lock = threading.RLock()

    def _close_own(self) -> None:
        self._number = IN_STORE
        for number in list(self._own):
            self.published(number)


def check_value(
    value: Cid, blocks: Sequence[Block], hash_function: HashFunction | None = None
) -> None:
    """Make sure that blocks are those of a value, the root first, and hash to their names.

    Args:
        value: the value.
        blocks: its blocks.
        hash_function: hashes them; None if they were hashed before.

    Raises:
        CorruptBlockError: they are not.
    """
    known = dict(blocks)
    digest = None if hash_function is None else hash_function.digest
    try:
        is_whole = (
            bool(blocks)
            and blocks[0][0] == value
            and (digest is None or all(digest(data) == cid[-32:] for cid, data in blocks))
            and {value, *leaves_of(lambda cid: memoryview(known[cid]), value)} <= {*known}
        )
    except (KeyError, CorruptError):
        is_whole = False
    if not is_whole:
        text = to_text(value)
        raise CorruptBlockError(
            f"the stored bytes of value {text} do not match its CID", cid=text, where=text
        )


def places_in(draft: StagedPack, offset: int, tsize: int) -> Iterator[tuple[Cid, int, int]]:
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
        if not 0 <= high - low <= left:
            raise CorruptError(f"no section at byte {at} of {draft.path}", where=draft.path)
        yield Cid(bytes(header[start : start + CID_SIZE])), low, high
        left, at = left - (high - low), high
        if left <= 0:
            return
