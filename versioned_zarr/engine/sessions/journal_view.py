"""The journal view: the state of a session, as far as this process has read its journal.

The journal is authoritative. So an exception at any point, such as an interrupt, can only leave the
view inconsistent with the journal. The view is then rebuilt from the journal before its next use.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite, known_before
from versioned_zarr.engine.sessions.journal import (
    JournalRecord,
    RecordKind,
    SessionHead,
    add_writer,
    decode_records,
    encode_record,
    folder_of,
    open_journal,
    read_writers,
    remove_session,
)
from versioned_zarr.engine.sessions.protocol import ended_error, unnamed
from versioned_zarr.errors import InvalidKeyError, VersionedZarrError
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.storage.protocol import AppendLog, Storage
from versioned_zarr.tree.lookup import Trees

REMOVED: Final = "was discarded by another process"
"""The reason for the end of a session whose journal another process removed."""


class JournalView:
    """See the module. Not thread-safe: the session holds a lock.

    Args:
        storage: stores the journal.
        trees: reads trees.
        head: the session.
        root: the tree that the session is based on.
        tree_of: returns the tree of a commit, for commits that other processes make.

    Attributes:
        state: the writes of the session, over its base.
        position: the position in the journal up to which this process has read.
        written: the values that this process wrote since the last commit, by CID.
        writer: the number of this process.
        is_removed: whether another process removed the journal.
        is_shared: whether there are copies of the session in other processes.
    """

    def __init__(
        self,
        storage: Storage,
        trees: Trees,
        head: SessionHead,
        root: Cid,
        tree_of: Callable[[Cid], Cid],
    ) -> None:
        self._storage, self._trees, self._head, self._tree_of = storage, trees, head, tree_of
        self.is_shared = False
        self.state = ChangeSet(trees, head.base, root)
        self.position = 0
        self.written: dict[Cid, PendingWrite] = {}
        self.writer = secrets.randbits(32)
        self.is_removed = False
        self._log: AppendLog | None = None
        self._is_in_doubt = False
        self._is_named = False

    @property
    def is_open(self) -> bool:
        """Whether this process has the journal open."""
        return self._log is not None

    def open(self, *, create: bool = False) -> None:
        """Open the journal.

        Raises:
            FileNotFoundError: there is no journal, and `create` is false.
        """
        self._log = open_journal(self._storage, self._head.id, create=create)

    def close(self) -> None:
        """Close the journal."""
        if self._log is not None:
            log, self._log = self._log, None
            log.close()

    def after_fork(self) -> None:
        """In a forked child: become another writer, and close the log of the parent."""
        self.written.clear()
        self.writer = secrets.randbits(32)
        self._is_named = False
        self.close()

    def name_writer(self) -> None:
        """Record, once, which process this writer is; only errors need to know it."""
        if not self._is_named:
            self._is_named = True
            with suppress(VersionedZarrError, OSError):
                add_writer(self._storage, self._head.id, self.writer)

    def writer_name(self, writer: int) -> str:
        """The process that writes under a number, as errors name it."""
        names: dict[int, str] = {}
        with suppress(VersionedZarrError, OSError):
            names = read_writers(self._storage, self._head.id)
        return names.get(writer) or unnamed(writer)

    def check_removed(self) -> None:
        """Record whether another process removed the journal; one system call."""
        if self._log is not None and not self.is_removed:
            self.is_removed = self._log.is_removed()

    def remove(self, head: SessionHead) -> None:
        """Remove the session's folder, and continue without one.

        Args:
            head: the session, based on a commit that contains all its writes.
        """
        self._head = head
        self._is_in_doubt = True
        self.close()
        self.position = 0
        self._is_named = False
        remove_session(self._storage, head.id)
        self._is_in_doubt = False

    # Reading the journal

    def refresh(self) -> None:
        """Read what other processes have written since; one system call if they have not."""
        self.settle()
        if self._log is None:
            return
        end = self._log.end()
        if end != self.position:
            self._is_in_doubt = True
            self._take_in(end)
            self._is_in_doubt = False

    def settle(self) -> None:
        """Read the whole journal again if an exception interrupted a write of this process."""
        if self._is_in_doubt:
            base = self._head.base
            self.state = ChangeSet(self._trees, base, self._tree_of(from_text(base)))
            self.written = {}
            self.position = 0
            if self._log is not None:
                self._take_in(self._log.end())
            self._is_in_doubt = False

    def _take_in(self, end: int) -> None:
        assert self._log is not None
        where = f"{folder_of(self._head.id)}/journal"
        data = self._log.read(self.position, end)
        records, position = decode_records(data, self.position, where)
        for record in records:
            self._apply(record)
        self.position = position

    def _apply(self, record: JournalRecord) -> None:
        is_own = record.writer == self.writer
        if record.kind is RecordKind.SET or record.kind is RecordKind.DELETE:
            pending = self.state.lay(record, known_before(record.seen), is_own=is_own)
            if is_own and not pending.is_gone:
                self.written.setdefault(pending.cid, pending)
        elif record.kind is RecordKind.CLEAR:
            self.state.clear(record, known_before(record.seen), is_own=is_own)
        elif record.kind is RecordKind.LINK:
            self.state.link(record, known_before(record.seen), is_own=is_own)
        elif record.kind is RecordKind.INTENT:
            self.state.intents.append(record)
        elif record.kind is RecordKind.FORGET:
            self.state.forget(record.key)
            self.written = {}
        else:
            self.rebase(record.cid, record.seen)

    def rebase(self, commit: Cid, upto: int) -> None:
        """Continue from a commit that contains all writes before the position `upto`."""
        self.written = {}
        self.state.keeps_committed = self.is_shared
        self.state.rebase(commit, self._tree_of(commit), lambda _, position: position < upto)

    # Writing

    def append(self, record: JournalRecord) -> None:
        """Append a record to the journal and apply it. It is effective once it is in the journal.

        Raises:
            SessionClosedError: another process removed the journal.
        """
        self._is_in_doubt = True
        start, end = self._put(record)
        if start != self.position:
            self._take_in(start)
        self._apply(record._replace(position=start))
        self.position = end
        self._is_in_doubt = False

    def set(self, record: JournalRecord) -> None:
        """Like `append`, for a value that this process writes.

        Raises:
            InvalidKeyError: the key is above or below another key's value; nothing is recorded.
            SessionClosedError: another process removed the journal.
        """
        pending = PendingWrite(record, is_unseen=False)
        self._is_in_doubt = True
        try:
            # Refuses an impossible key before anything is recorded.
            self.state.tree.put(record.key, pending)
        except InvalidKeyError:
            self._is_in_doubt = False
            raise
        start, end = self._put(record)
        if start != self.position:
            self._take_in(start)
            self.state.tree.put(record.key, pending)
        pending.position = start
        self.state.enter(record.key, pending, known_before(record.seen))
        self.written.setdefault(record.cid, pending)
        self.position = end
        self._is_in_doubt = False

    def _put(self, record: JournalRecord) -> tuple[int, int]:
        """Append a record to the journal; returns where it begins and ends."""
        assert self._log is not None
        encoded = encode_record(record)
        end = self._log.append(encoded)
        if self._log.is_removed():
            self.is_removed = True
            raise ended_error(self._head, REMOVED)
        return end - len(encoded), end
