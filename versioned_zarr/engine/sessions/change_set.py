"""The change set of a session: its uncommitted writes relative to its base tree.

Pure state, without files. Every process that applies the same records in the same order has the
same change set, and so finds the same keys that processes wrote independently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from versioned_zarr.engine.sessions.journal import NO_CID, JournalRecord, RecordKind
from versioned_zarr.errors import InvalidKeyError
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder

IsKnown = Callable[["PendingWrite"], bool]
"""Whether the writer of a value knew an earlier write to its key."""

_READ_LIMIT = 1 << 18
"""The maximum number of recorded reads; above it, every key counts as read."""


class PendingWrite:
    """The last record of one key in the journal: an uncommitted value, or a deletion.

    Attributes:
        cid: the value; zeros for a deletion.
        is_gone: whether it is a deletion.
        draft: the number of the draft that holds the value, or IN_STORE.
        offset: the offset of its first block in the draft.
        size: the value's length in bytes.
        tsize: the cumulative size of its blocks.
        reused: its leaves that the draft lacks, because the repository has them.
        writer: the number of the process that wrote it.
        position: the position of its record in the journal, or in the log of its writer.
        is_unseen: whether another process wrote it and this one has not read it since.
        is_blind: whether its writer had not read the key since the commit it is based on.
        is_checked: whether a value from another process was verified.
        rivals: values that others wrote to the key independently. Equal ones are no conflict, but
            a later write that did not know them may differ.
    """

    __slots__ = (
        "cid",
        "draft",
        "is_blind",
        "is_checked",
        "is_gone",
        "is_unseen",
        "offset",
        "position",
        "reused",
        "rivals",
        "size",
        "tsize",
        "writer",
    )

    def __init__(self, record: JournalRecord, *, is_unseen: bool) -> None:
        self.cid = record.cid
        self.is_gone = record.kind in (RecordKind.DELETE, RecordKind.CLEAR)
        self.draft = record.draft
        self.offset = record.offset
        self.size = record.size
        self.tsize = record.tsize
        self.reused = record.reused
        self.writer = record.writer
        self.position = record.position
        self.is_unseen = is_unseen
        self.is_blind = record.is_blind
        self.is_checked = False
        self.rivals: tuple[PendingWrite, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """The number of bytes in the draft: nodes and leaves."""
        return self.tsize - self.reused.size_bytes(self.size)


class ChangeSet:
    """The uncommitted state of a session. Not thread-safe: the session holds a lock.

    Args:
        trees: reads trees.
        commit: the CID of the commit that the session is based on, as text.
        root: the tree of that commit.

    Attributes:
        base: the commit, as text; updated by each commit of the session.
        root: its tree.
        entries: the last write of each key that was written.
        committed: the last write of each key that a commit of the session contains. Its value is in
            the base, but a writer may not know it yet.
        keeps_committed: whether to remember those, because there are copies of the session that may
            not know them.
        collisions: values above or below another process's value, and folders that two processes
            linked or cleared independently.
        intents: the records of commits that were about to be made since the last one, in order;
            at most one was made.
        tree: the contents of the session as one tree.
    """

    def __init__(self, trees: Trees, commit: str, root: Cid) -> None:
        self._trees = trees
        self.base, self.root = commit, root
        self.entries: dict[str, PendingWrite] = {}
        self.committed: dict[str, PendingWrite] = {}
        self.keeps_committed = False
        self.collisions: dict[str, PendingWrite] = {}
        self.intents: list[JournalRecord] = []
        self.tree: TreeBuilder[PendingWrite] = TreeBuilder(trees, root)
        self._cleared: list[JournalRecord] = []
        self._read: set[str] = set()

    @property
    def cleared(self) -> Sequence[JournalRecord]:
        """The folders that were deleted or linked since the last commit, in order."""
        return self._cleared

    @property
    def has_changes(self) -> bool:
        """Whether anything was written since the last commit."""
        return bool(self.entries or self._cleared)

    def find(self, key: str) -> PendingWrite | Link | None:
        """The contents of a key, which are then marked as read."""
        found = self.tree.get(key)
        if isinstance(found, PendingWrite):
            found.is_unseen = False
        elif key in self.entries:
            self.entries[key].is_unseen = False
        else:
            if key in self.committed:
                self.committed[key].is_unseen = False
            if len(self._read) < _READ_LIMIT:
                self._read.add(key)
        return found

    def last_write(self, key: str) -> PendingWrite | None:
        """The last write of a key in this session, which a commit may contain."""
        return self.entries.get(key) or self.committed.get(key)

    def is_blind(self, key: str) -> bool:
        """Whether a write to a key cannot depend on the value in the base."""
        before = self.entries.get(key)
        is_known = len(self._read) < _READ_LIMIT
        return is_known and key not in self._read and (before is None or before.is_blind)

    def was_read(self, key: str) -> bool:
        """Whether a process read a key of the base before the session wrote it."""
        entry = self.entries.get(key)
        return entry is None or not entry.is_blind

    def has_seen(self, key: str, value: Cid) -> bool:
        """Whether a value is the current value of a key, as far as this process knows."""
        entry = self.entries.get(key)
        if entry is not None and not entry.is_unseen:
            return entry.cid == value
        base = self._trees.find(self.root, key)
        return base is not None and base.cid == value

    def check_place(self, key: str) -> None:
        """Make sure that a key can hold a value.

        Raises:
            InvalidKeyError: the key is above or below another key's value.
        """
        parts = key.split("/")
        above = ("/".join(parts[:number]) for number in range(1, len(parts)))
        clash = next((path for path in above if self.tree.get(path) is not None), None)
        if clash is None and not self.tree.is_empty(key):
            clash = f"{key}/{self.tree.list_dir(key)[0]}"
        if clash is not None:
            raise _cannot_both(key, clash)

    def check_folder(self, path: str) -> None:
        """Make sure that a folder can be at a path.

        Raises:
            InvalidKeyError: a value is there, or above.
        """
        parts = path.split("/")
        above = ("/".join(parts[: number + 1]) for number in range(len(parts)))
        clash = next((each for each in above if each and self.tree.get(each) is not None), None)
        if clash is not None:
            raise _cannot_both(path, clash)

    def seen(self, key: str, known: int | None, now: int) -> int:
        """The position up to which a writer knows the writes of others to a key.

        Args:
            key: the key to be written.
            known: the position up to which it knew all writes when it began; None if it knows what
                this process has read.
            now: the position up to which this process has read.
        """
        before = self.last_write(key)
        if known is None or before is None or not before.is_unseen or before.position < known:
            return now
        return before.position

    def lay(self, record: JournalRecord, is_known: IsKnown, *, is_own: bool) -> PendingWrite:
        """Apply a write or a deletion.

        Another process may have written above or below the key without knowing of this write; then
        the value is recorded as a collision.

        Args:
            record: the write.
            is_known: whether its writer knew an earlier write to the key.
            is_own: whether this process wrote it.
        """
        pending = PendingWrite(record, is_unseen=not is_own)
        self.enter(record.key, pending, is_known)
        if pending.is_gone:
            self.collisions.pop(record.key, None)
        self._place(record.key, pending)
        return pending

    def enter(self, key: str, pending: PendingWrite, is_known: IsKnown) -> None:
        """Record a write to a key, with the writes that its writer did not know of."""
        before, committed = self.entries.get(key), self.committed.get(key)
        earlier = () if before is None else (*before.rivals, before)
        if committed is not None and committed not in earlier:
            earlier = (committed, *earlier)
        if earlier:
            pending.rivals = _rivals(earlier, pending, is_known)
        self.entries[key] = pending

    def _place(self, key: str, pending: PendingWrite) -> None:
        if pending.is_gone:
            self.tree.delete(key)
            return
        try:
            self.tree.set(key, pending)
        except InvalidKeyError:
            self.collisions[key] = pending

    def clear(self, record: JournalRecord, is_known: IsKnown, *, is_own: bool) -> None:
        """Apply the deletion of a folder; the arguments are those of `lay`."""
        for key in self.below(record.key):
            self.enter(key, PendingWrite(record, is_unseen=not is_own), is_known)
            self.collisions.pop(key, None)
        self._enter_folder(record, is_known, is_own=is_own)
        self.tree.delete_prefix(record.key)

    def link(self, record: JournalRecord, is_known: IsKnown, *, is_own: bool) -> None:
        """Let a stored directory replace a folder; the arguments are those of `lay`.

        O(depth), and a lookup for each earlier write below the folder.
        """
        self._enter_folder(record, is_known, is_own=is_own)
        try:
            self.tree.link(record.key, record.cid)
        except InvalidKeyError:
            self.collisions[record.key] = PendingWrite(record, is_unseen=not is_own)
            return
        start = len(record.key) + 1 if record.key else 0
        for key in self.below(record.key):
            found = self._trees.find(record.cid, key[start:])
            size = 0 if found is None else self._trees.size(found)
            same = record._replace(key=key, kind=RecordKind.DELETE, cid=NO_CID, tsize=0)
            if found is not None:
                same = record._replace(
                    key=key, kind=RecordKind.SET, cid=found.cid, size=size, tsize=found.tsize
                )
            self.enter(key, PendingWrite(same, is_unseen=not is_own), is_known)
            self.collisions.pop(key, None)

    def _enter_folder(self, record: JournalRecord, is_known: IsKnown, *, is_own: bool) -> None:
        """Record a deleted or linked folder, and links of others that its writer did not know."""
        links = (
            PendingWrite(each, is_unseen=False)
            for each in self._cleared
            if each.kind is RecordKind.LINK and _overlap(each.key, record.key)
        )
        pending = PendingWrite(record, is_unseen=not is_own)
        pending.rivals = _rivals(tuple(links), pending, is_known)
        if pending.rivals:
            self.collisions[record.key] = pending
        self._cleared.append(record)

    def below(self, path: str) -> list[str]:
        """The keys in a folder and below it that were written."""
        start = f"{path}/" if path else ""
        return [key for key in self.entries if key.startswith(start)]

    def forget(self, key: str) -> None:
        """Drop the writes to a key, which has the value of the base again. O(writes)."""
        self.entries.pop(key, None)
        self.collisions.pop(key, None)
        self._lay_again()

    def rebase(self, commit: Cid, root: Cid, contains: Callable[[int, int], bool]) -> None:
        """Continue from a commit.

        Args:
            commit: the commit.
            root: its tree.
            contains: whether it contains the write of a writer at a position.
        """
        self.base, self.root = to_text(commit), root
        for key, entry in self.entries.items() if self.keeps_committed else ():
            if contains(entry.writer, entry.position):
                entry.rivals = ()
                self.committed[key] = entry
        self.entries = {
            key: entry
            for key, entry in self.entries.items()
            if not contains(entry.writer, entry.position)
        }
        self._cleared = [
            record for record in self._cleared if not contains(record.writer, record.position)
        ]
        self.collisions, self.intents = {}, []
        self._read.clear()
        self._lay_again()

    def _lay_again(self) -> None:
        self.tree = TreeBuilder(self._trees, self.root)
        for record in self._cleared:
            if record.kind is RecordKind.LINK:
                self._link_again(record)
            else:
                self.tree.delete_prefix(record.key)
        for key, pending in self.entries.items():
            self._place(key, pending)

    def _link_again(self, record: JournalRecord) -> None:
        """Link a folder where, when it was linked, the values of the base had been deleted."""
        parts = record.key.split("/")
        for number in range(len(parts) if record.key else 0):
            self.tree.delete("/".join(parts[: number + 1]))
        self.tree.link(record.key, record.cid)

    def rivals(self) -> Iterator[tuple[str, tuple[PendingWrite, ...]]]:
        """The keys that processes wrote independently, and their values."""
        for key, pending in self.entries.items():
            differing = tuple(rival for rival in pending.rivals if rival.cid != pending.cid)
            if differing:
                yield key, (*differing, pending)
        for key, pending in self.collisions.items():
            yield key, (*pending.rivals, pending)

    def flush(self, put: Callable[[Cid, Bytes], None]) -> Link:
        """The root of the current tree, and the nodes that it needs; see `TreeBuilder.flush`."""
        return self.tree.flush(put)


def _overlap(path: str, other: str) -> bool:
    """Whether one of two folders is in the other, or is the other."""
    return f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/")


def _cannot_both(key: str, clash: str) -> InvalidKeyError:
    return InvalidKeyError(
        f"{key!r} and {clash!r} cannot both hold values: one would be both a value and a folder",
        key=key,
    )


def known_before(position: int) -> IsKnown:
    """A writer knows all writes before a position in the journal."""
    return lambda old: old.position < position


def _rivals(
    earlier: Sequence[PendingWrite], pending: PendingWrite, is_known: IsKnown
) -> tuple[PendingWrite, ...]:
    """The earlier values of a key from others that its writer did not know of."""
    return tuple(old for old in earlier if old.writer != pending.writer and not is_known(old))
