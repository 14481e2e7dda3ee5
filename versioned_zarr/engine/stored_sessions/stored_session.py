"""A stored session: its writes are in the repository when they return, for all machines.

Every process that writes to it has a log of its own there, so no process waits for another. A
process reads the batches of the others when it reads a key, lists keys or commits.
docs/design/stored-sessions.md describes the protocol.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

from versioned_zarr.blocks.file_reader import read_value
from versioned_zarr.blocks.protocol import Block, BlockStore, WouldBlockError
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind, SessionHead
from versioned_zarr.engine.sessions.journal_view import REMOVED
from versioned_zarr.engine.sessions.protocol import Known, ended_error
from versioned_zarr.engine.sessions.session_reader import SessionReader
from versioned_zarr.engine.sessions.stable_copy import copy_of
from versioned_zarr.engine.stored_sessions.batch import Batch, SessionNote, covers
from versioned_zarr.engine.stored_sessions.batch_reader import BatchReader
from versioned_zarr.engine.stored_sessions.batch_view import BatchView
from versioned_zarr.engine.stored_sessions.batch_writer import BATCH_BYTES, BatchWriter, QueuedWrite
from versioned_zarr.engine.stored_sessions.session_log import SessionLog
from versioned_zarr.errors import BlockNotFoundError
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.keys import check_key
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder

_LOOKED_EVERY_S: Final = 1.0


class StoredSession(SessionReader):
    """A session as one process sees it; see `versioned_zarr.engine.sessions.protocol.SessionState`.

    Args:
        log: stores its writes.
        blocks: stores committed values.
        trees: reads trees.
        head: the session.
        root: the tree that the session is based on.
        tree_of: returns the tree of a commit.
        exists: whether its head is stored.
    """

    is_remote = True

    def __init__(
        self,
        log: SessionLog,
        blocks: BlockStore,
        trees: Trees,
        head: SessionHead,
        root: Cid,
        *,
        tree_of: Callable[[Cid], Cid],
        exists: bool,
    ) -> None:
        super().__init__(blocks, trees, head)
        self.log, self._exists = log, exists
        self._view = BatchView(trees, head.base, root, tree_of)
        self._ended: str | None = None
        self._start_again()

    def _start_again(self) -> None:
        """Initialize what belongs to this process: its locks, and its log."""
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._looking = threading.Lock()
        self._begun = self._finished = 0
        self._looked_s = time.monotonic()
        self._frozen_by: int | None = None
        self._writer = BatchWriter(self.log, self.head.id, self._lock, self._applied)
        self._reader = BatchReader(self.log, self.head.id, self._view, self._lock)

    def _applied(self, batch: Batch) -> None:
        self._view.apply(batch, is_own=True)

    def before_fork(self) -> None:
        """See `SessionState`."""

    def after_fork(self) -> None:
        """See `SessionState`: the child is another writer."""
        self._start_again()

    @property
    def state(self) -> ChangeSet:
        """See `SessionState`."""
        return self._view.state

    @property
    def consumed(self) -> int:
        """See `SessionState`: a mark of the view."""
        with self._lock:
            return self._view.mark

    @property
    def closed(self) -> str | None:
        """See `SessionState`."""
        return self._ended

    @property
    def exists(self) -> bool:
        """Whether its head is stored."""
        return self._exists

    @property
    def last_write_s(self) -> float:
        """When a batch was last stored, in seconds since 1970, as of the last look."""
        return self._reader.last_write_s

    def writer_name(self, writer: int) -> str:
        """See `SessionState`."""
        return self._view.writer_name(writer)

    # Reading

    def find(self, key: str) -> PendingWrite | Link | None:
        """See `SessionReader.find`; looks for batches of other processes.

        Raises:
            SessionClosedError: another process has ended the session: what it held may be gone, and
                zarr would read fill values.
        """
        self._look_for_reading()
        with self._lock:
            return self.state.find(key)

    def _look_for_reading(self) -> None:
        self.refresh()
        if self._ended == REMOVED:
            raise ended_error(self.head, REMOVED)

    @contextmanager
    def _fresh(self) -> Iterator[TreeBuilder[PendingWrite]]:
        self._look_for_reading()
        with self._lock:
            yield self.state.tree

    def _pending_bytes(self, found: PendingWrite, start: int, end: int | None) -> memoryview | None:
        if start < 0 or (end is not None and end < 0):
            start, end, _ = slice(start, end).indices(found.size)
        return read_value(self._block, found.cid, start, end)

    def _block(self, cid: Cid) -> memoryview:
        found = self.log.get(cid)
        return self.blocks.get(cid) if found is None else found

    # Writing

    def write(
        self, key: str, data: Bytes, known: Known | None = None, *, only_new: bool = False
    ) -> None:
        """See `LocalSession.write`: one request for all writes that wait at a time."""
        check_key(key)
        file = unixfs.build_file(copy_of(data), self.blocks.hash)
        self._begin_write(known)
        if only_new and self.find(key) is not None:
            return
        is_stored = self._is_stored(key, file.cid)
        with self._lock:
            self.state.check_place(key)
            record = self._record(RecordKind.SET, key, known)
            record = record._replace(size=file.size, tsize=file.tsize, cid=file.cid)
            write = QueuedWrite(record, () if is_stored else file.blocks, self._view.taken)
        self._store(write)

    def _store(self, write: QueuedWrite) -> None:
        """Store a write; asks once a second whether the session has ended."""
        self._writer.write(write)
        now_s = time.monotonic()
        if now_s - self._looked_s > _LOOKED_EVERY_S:
            self._looked_s = now_s
            if self.log.is_ended(self.head.id):
                self._ended = REMOVED
                raise ended_error(self.head, REMOVED)

    def _record(self, kind: RecordKind, key: str, known: Known | None) -> JournalRecord:
        entries = self.state.entries
        if kind is RecordKind.CLEAR:
            is_aware = all(_is_aware(entries[below], known) for below in self.state.below(key))
        else:
            is_aware = _is_aware(self.state.last_write(key), known)
        is_blind = self.state.is_blind(key)
        return JournalRecord(kind, key, self._writer.writer, int(is_aware), is_blind=is_blind)

    def _remove(self, kind: RecordKind, key: str, known: Known | None) -> None:
        with self._lock:
            write = QueuedWrite(self._record(kind, key, known), (), self._view.taken)
        self._store(write)

    def _begin_write(self, known: Known | None) -> None:
        self.check_open()
        self.materialise()
        # What the caller knows must be applied before its write.
        if isinstance(known, Mapping) and not covers(self._view.taken, known):
            self._look(known)
            self.check_open()

    def _is_stored(self, key: str, cid: Cid) -> bool:
        """Whether the base has the value under the same key.

        An equal value in another batch does not count: once a commit contains that batch and
        another value of the key, a gc deletes it.
        """
        if key in self.state.entries:
            return False
        try:
            with self.blocks.near():
                link = self.trees.find(self.state.root, key)
        except (WouldBlockError, BlockNotFoundError):
            return False
        return link is not None and link.cid == cid

    def delete(self, key: str, known: Known | None = None) -> bool:
        """See `LocalSession.delete`."""
        self._begin_write(known)
        with self._fresh() as tree:  # looking whether it is there is no reading of it
            if tree.get(key) is None:
                return False
        self._remove(RecordKind.DELETE, key, known)
        return True

    def clear(self, path: str, known: Known | None = None) -> None:
        """See `LocalSession.clear`."""
        self._begin_write(known)
        if not self.is_empty(path):
            self._remove(RecordKind.CLEAR, path, known)

    def link(self, path: str, found: Link, known: Known | None = None) -> None:
        """See `LocalSession.link`: a record for each key, because writers share no order."""
        self._begin_write(known)
        values = self.values_at(path, found)
        sizes = [self.trees.size(link) for _, link in values]
        with self._lock:
            taken, records = self._view.taken, []
            if self.trees.is_directory(found):
                self.state.check_folder(path)
                records.append(self._record(RecordKind.CLEAR, path, known))
            else:
                self.state.check_place(path)
            for (key, link), size in zip(values, sizes, strict=True):
                record = self._record(RecordKind.SET, key, known)
                records.append(record._replace(size=size, tsize=link.tsize, cid=link.cid))
        self._writer.write_all([QueuedWrite(record, (), taken) for record in records])

    def adopter(self, writer: int) -> BatchWriter:
        """The writer for what was written before the session was stored.

        What an earlier attempt left is dropped: the session on this machine may have changed since.

        Args:
            writer: its number; the same in all attempts.
        """
        is_new = self.log.begin(self.head.id, self.head.to_bytes())
        self._exists = True
        if not is_new:
            self.drop_adopted(writer, from_text(self.head.base))
            self.check_open()
        number = self._view.taken.get(writer, 0)
        return BatchWriter(self.log, self.head.id, self._lock, self._applied, writer, number)

    def drop_adopted(self, writer: int, base: Cid) -> None:
        """Drop what an attempt to store the session left.

        Args:
            writer: its writer.
            base: the commit on which the session is based now.
        """
        self.refresh()
        number = self._view.taken.get(writer, 0)
        if self._ended is None and number > self._view.committed.get(writer, 0):
            upto = self._view.add_upto({**self._view.committed, writer: number})
            self.note(RecordKind.COMMIT, base, upto)

    def adopt(
        self, records: Iterable[tuple[JournalRecord, Sequence[Block]]], adopter: BatchWriter
    ) -> None:
        """Write what a session wrote before it was stored."""
        writes: list[QueuedWrite] = []
        size_bytes = 0
        for record, blocks in records:
            record = record._replace(seen=1, writer=adopter.writer)
            writes.append(QueuedWrite(record, blocks, self._view.taken))
            size_bytes += writes[-1].weight_bytes
            if size_bytes >= BATCH_BYTES:
                adopter.write_all(writes)
                writes, size_bytes = [], 0
        adopter.write_all(writes)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """See `LocalSession.frozen`."""
        with self._lock:
            self.check_open()
            self._writer.settle()
            outer, self._frozen_by = self._frozen_by, threading.get_ident()
            try:
                yield
            finally:
                self._frozen_by = outer

    def check_open(self) -> None:
        """See `LocalSession.check_open`."""
        if self.closed is not None:
            raise ended_error(self.head, self.closed)
        if self._process != os.getpid():
            self.after_fork()

    def share(self) -> None:
        """See `LocalSession.share`."""
        self.materialise()

    def materialise(self) -> None:
        """Store the head of the session."""
        if not self._exists:
            with self._lock:
                self.log.begin(self.head.id, self.head.to_bytes())
                self._exists = True

    # Batches of other processes

    def position(self) -> Known:
        """See `LocalSession.position`."""
        self.refresh()
        return self.known()

    def known(self) -> Known:
        """See `LocalSession.known`."""
        with self._lock:
            return dict(self._view.taken)

    def look_again(self) -> None:
        """See `LocalSession.look_again`."""
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have stored since: one round trip, and one if there is more.

        Threads that wait for each other share a look that began after all of them asked.
        """
        if self._process != os.getpid():
            self.after_fork()
        if not self._exists or self._ended is not None:
            return
        if self._frozen_by == threading.get_ident():  # others may wait for the lock it holds
            self._look(None)
            return
        wanted = self._begun + 1
        with self._looking:
            if self._finished < wanted:
                self._begun += 1
                begun = self._begun
                self._look(None)
                self._finished = begun

    def _look(self, upto: Known | None) -> None:
        self._looked_s = time.monotonic()
        if self._reader.look(self._writer.writer, upto):
            self._ended = REMOVED

    # Committing

    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None:
        """See `LocalSession.note`: one request."""
        if not self._exists:
            return
        note = SessionNote(commit, self._view.upto(upto), kind is RecordKind.COMMIT)
        while True:
            number = self._view.notes + 1
            there = data = note.to_bytes()
            try:
                self.log.add_note(self.head.id, number, data)
            except FileExistsError:  # another process commits, too, or an answer was lost
                there = self.log.note(self.head.id, number)
            before = self._view.names
            self._reader.take_note(number, there)
            self.log.forget_batches(self.head.id, before - self._view.names)
            if there == data:
                return

    def publish(self) -> None:
        """Make the blocks of the session part of the repository; see `SessionLog.publish`."""
        with self._lock:
            names = sorted(self._view.names)
        if self._exists:
            self.log.publish(self.head.id, names)

    def release(self) -> None:
        """See `LocalSession.release`: this process holds nothing that others wait for."""

    def drop_damaged(self) -> list[str]:
        """See `LocalSession.drop_damaged`: what the store has acknowledged is there."""
        return []

    def drop_drafts(self) -> None:
        """See `LocalSession.drop_drafts`: there are none."""

    def end(self, how: str, *, keep_folder: bool) -> None:
        """See `LocalSession.end`."""
        with self._lock:
            if not keep_folder and self._exists and self._ended is None:
                self.log.end(self.head.id)
            self._ended = how
            self.log.forget(self.head.id)


def _is_aware(before: PendingWrite | None, known: Known | None) -> bool:
    """Whether the writer of a key knows what others wrote to it."""
    if before is None or not before.is_unseen or not isinstance(known, Mapping):
        return True
    return bool(before.position <= known.get(before.writer, 0))
