"""Pack staging: the packs that hold a session's values until the commit.

A process writes to its own drafts and reads those of all processes. Knows where the values are; the
journal knows their keys.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext, suppress

from versioned_zarr.blocks.file_reader import get_verified
from versioned_zarr.blocks.packs.pack import PackWriter
from versioned_zarr.blocks.protocol import Block, BlockStore, LocatedBlocks, ServedBlocks
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.journal import IN_STORE, JournalRecord, draft_path
from versioned_zarr.engine.sessions.reused_leaves import (
    NO_LEAVES,
    ReusedLeaves,
    reusable_leaves,
)
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction, is_raw, to_text
from versioned_zarr.ipld.unixfs import LEAF_SIZE, File, Leaf
from versioned_zarr.storage.protocol import StagedPack, Storage

DRAFT_LIMIT_BYTES = 1 << 30


def new_number() -> int:
    """A number for a draft that is unique in its session."""
    return secrets.randbits(31)


class PackStaging:
    """The drafts of one session, as one process sees them.

    Reading is thread-safe. For all else, the owning session holds its lock.

    Args:
        storage: stores the drafts.
        blocks: the store to which they are published.
        session: the id of the session.
    """

    def __init__(self, storage: Storage, blocks: BlockStore, session: str) -> None:
        self._storage, self._blocks, self._session = storage, blocks, session
        self._own: dict[int, PackWriter] = {}
        self._number = IN_STORE
        self._readers: dict[int, StagedPack] = {}
        self._sent: dict[int, Cid] = {}
        self._limit_bytes = DRAFT_LIMIT_BYTES
        if isinstance(blocks, ServedBlocks):
            self._limit_bytes = blocks.pack_bytes
        self._has_index = isinstance(blocks, LocatedBlocks)
        self._lock = ForkSafeLock()

    # Reading

    def read(self, pending: PendingWrite, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a pending value or of a range of it, clamped as slices are.

        Raises:
            FileNotFoundError: its draft has become a pack.
            BlockNotFoundError: a leaf that it reuses is gone.
        """
        start, end, _ = slice(start, end).indices(pending.size)
        end = max(start, end)
        first = pending.offset + pending.tsize - pending.size  # after the nodes
        draft = self._reader(pending.draft)
        if not pending.reused:
            return draft.read(first + start, first + end)
        parts = []
        for piece in pending.reused.pieces(pending.size, start, end):
            if piece.cids:
                leaves = self._blocks.get_joined(piece.cids, piece.sizes)
                parts.append(leaves[piece.start : piece.start + piece.size])
            else:
                at = first + piece.start
                parts.append(draft.read(at, at + piece.size))
        return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))

    def blocks_of(self, pending: PendingWrite) -> list[Block]:
        """The blocks of a pending value, root first; verified unless this process wrote them.

        Leaves that it reuses are not among them.

        Raises:
            CorruptBlockError: the stored bytes do not match the journal.
            FileNotFoundError: its draft has become a pack, or is lost.
        """
        own = self._own.get(pending.draft)
        if own is not None and not own.is_recovered:
            end = pending.offset + pending.stored_bytes
            locations = own.blocks_at(pending.offset, end)
            found: list[Block] = [(cid, own.read(low, high)) for cid, low, high in locations]
            return found or [(pending.cid, b"")]
        return value_in(self._reader(pending.draft), pending, self._blocks.hash)

    def is_sound(self, pending: PendingWrite) -> bool:
        """Whether a pending value is intact; reads it if another process wrote it."""
        if not self.has_leaves(pending):
            return False
        own = self._own.get(pending.draft)
        if pending.is_checked or (own is not None and not own.is_recovered):
            return True
        try:
            self.blocks_of(pending)
        except CorruptBlockError:
            return False
        except FileNotFoundError:  # its draft has become a pack, unless it is lost
            return pending.cid in self._blocks or not self._blocks.missing([pending.cid])
        pending.is_checked = True
        return True

    def has_leaves(self, pending: PendingWrite) -> bool:
        """Whether the leaves that a pending value reuses are stored, or can still be read here."""
        lost = self._blocks.missing(pending.reused.cids()) if pending.reused else []
        try:
            return all(get_verified(self._blocks, cid, self._storage.url) for cid in lost)
        except (BlockNotFoundError, CorruptBlockError):
            return False

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

    def reusable(self, file: File, among: AbstractSet[Cid] | None = None) -> ReusedLeaves:
        """The leaves of a value that need not be stored again; only those `among`, if given."""
        return reusable_leaves(file, self._blocks, among) if self._has_index else NO_LEAVES

    def keeping(self, reused: ReusedLeaves) -> AbstractContextManager[bool]:
        """A context in which `gc` keeps these leaves; afterwards, the journal protects them.

        Yields False if one of them is gone. A server is asked for them at the commit instead.
        """
        if not reused or isinstance(self._blocks, ServedBlocks):
            return nullcontext(enter_result=True)
        return self._blocks.keep(reused.cids())

    def own(self) -> tuple[int, PackWriter]:
        """The draft for the next value of this process, and its number."""
        draft = self._own.get(self._number)
        if draft is None or draft.end >= self._limit_bytes or draft.has_failed:
            if draft is not None and draft.follower is not None:
                draft.follower.grown()
            number = new_number()
            path = draft_path(self._session, number)
            draft = PackWriter(self._storage.open_draft(path), self._blocks.hash)
            self._blocks.follow(draft)
            self._own[number] = draft
            self._number = number
        return self._number, draft

    # Committing

    def close_current(self) -> None:
        """Use another draft for all later values, including equal ones."""
        self._number = IN_STORE

    def adopt(self, wanted: Iterable[PendingWrite]) -> None:
        """Take over the drafts of these values whose writers are dead; reads and hashes them."""
        by_draft: dict[int, dict[int, PendingWrite]] = {}
        for pending in wanted:
            if not pending.is_gone and pending.draft != IN_STORE:
                by_draft.setdefault(pending.draft, {})[pending.offset] = pending
        for number, values in by_draft.items():
            if number in self._own:
                continue
            try:
                adopted = self._storage.adopt_draft(draft_path(self._session, number))
            except FileNotFoundError:
                continue
            if adopted is not None:
                draft = PackWriter(adopted, self._blocks.hash)
                draft.recover(self._sound(adopted, values))
                self._own[number] = draft

    def _sound(
        self, draft: StagedPack, values: Mapping[int, PendingWrite]
    ) -> Iterator[tuple[int, list[Block]]]:
        """The values that match the journal, with their blocks, in their order."""
        for offset in sorted(values):
            with suppress(CorruptBlockError):
                yield offset, value_in(draft, values[offset], self._blocks.hash)
                values[offset].is_checked = True

    def taken(self, number: int) -> PackWriter | None:
        """The draft with this number, if this process wrote it or took it over."""
        return self._own.get(number)

    def publish(self, number: int, root: Cid) -> None:
        """Store the contents of a draft of this process, usually by making it a pack.

        If a server stores the blocks, the draft is kept until `drop`: nothing references them yet.
        """
        self._blocks.publish(self._own[number], root)
        if isinstance(self._blocks, ServedBlocks):
            self._sent[number] = root
        else:
            self.published(number)

    def add(self, number: int, draft: PackWriter) -> None:
        """Add a draft of this process that others do not know, to be published."""
        self._own[number] = draft

    def published(self, number: int) -> None:
        """Forget a draft that has become a pack."""
        self._sent.pop(number, None)
        draft = self._own.pop(number, None)
        if draft is not None:
            draft.draft.close()

    def drop(self) -> None:
        """Remove the drafts of this process, including those that it took over."""
        self._number = IN_STORE
        for number in list(self._own):
            # Only once: a draft whose move into the cache was interrupted may already be there.
            root = self._sent.pop(number, None)
            if root is not None and isinstance(self._blocks, ServedBlocks):
                with suppress(OSError):  # ignore storage errors: the blocks can be fetched again
                    self._blocks.let_go(self._own[number], root)
            self._storage.delete(draft_path(self._session, number))
            self.published(number)

    # Ending

    def close(self) -> None:
        """Close all files; the drafts are kept."""
        self._close_own()
        for number in list(self._readers):
            self._readers.pop(number).close()

    def after_fork(self) -> None:
        """In a forked child: forget the parent's drafts, which only the parent may write."""
        self._close_own()

    def _close_own(self) -> None:
        self._number = IN_STORE
        for number in list(self._own):
            self.published(number)


def value_in(
    draft: StagedPack, staged: PendingWrite | JournalRecord, hash_function: HashFunction
) -> list[Block]:
    """The blocks of a value in a draft, root first; rebuilt from its bytes.

    Leaves that it reuses are not among them, and only their CIDs are verified.

    Raises:
        CorruptBlockError: the stored bytes do not match the journal.
    """
    start = staged.offset
    data = draft.read(start, start + staged.stored_bytes)
    nodes_size = staged.tsize - staged.size
    if staged.reused:
        file = unixfs.build_nodes(
            _leaves_in(data[nodes_size:], staged, hash_function), hash_function
        )
    else:
        file = unixfs.build_file(data[nodes_size:], hash_function)
    nodes = b"".join(block for cid, block in file.blocks if not is_raw(cid))
    if file.cid != staged.cid or nodes != data[:nodes_size] or len(data) != staged.stored_bytes:
        text = to_text(staged.cid)
        raise CorruptBlockError(
            f"no value {text} at byte {start} of {draft.path}", cid=text, where=draft.path
        )
    return list(file.blocks)


def _leaves_in(
    data: memoryview, staged: PendingWrite | JournalRecord, hash_function: HashFunction
) -> Iterator[Leaf]:
    """The leaves of a value that reuses some; `data` is the bytes of the others."""
    for piece in staged.reused.pieces(staged.size, 0, staged.size):
        for cid, size in zip(piece.cids, piece.sizes, strict=True):
            yield Leaf(cid, size, None)
        end = 0 if piece.cids else piece.start + piece.size
        for at in range(piece.start, end, LEAF_SIZE):
            leaf = data[at : min(end, at + LEAF_SIZE)]
            yield Leaf(hash_function.raw(leaf), len(leaf), leaf)
