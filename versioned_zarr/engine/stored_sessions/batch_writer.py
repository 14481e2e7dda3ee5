"""The batch writer: stores all writes that are waiting with one request at a time (group commit).

Each writer numbers its batches, and creates each name only if it does not exist. So after an
unknown outcome, the next batch finds out whether the one before it was stored.
"""

from __future__ import annotations

import copy
import os
import platform
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.sessions.journal import JournalRecord, encode_record
from versioned_zarr.engine.stored_sessions.batch import Batch, decode_batch, encode_batch
from versioned_zarr.engine.stored_sessions.session_log import BatchName, SessionLog

BATCH_BYTES: Final = 32 << 20
"""A batch takes no more writes above this size."""
_RECORD_WEIGHT: Final = 16
"""How often the size of a record counts, so that a document is at most a block of 2 MiB."""


def new_writer() -> int:
    """The number of a new writer."""
    return secrets.randbits(32)


class QueuedWrite:
    """A write that is to be stored.

    Args:
        record: its record.
        blocks: the blocks that are not stored yet.
        seen: what its writer had read; the same object for all writes of one batch.
    """

    def __init__(
        self, record: JournalRecord, blocks: Sequence[Block], seen: Mapping[int, int]
    ) -> None:
        self.record, self.blocks, self.seen = record, blocks, seen
        self.weight_bytes = sum(len(data) for _, data in blocks)
        self.weight_bytes += _RECORD_WEIGHT * len(encode_record(record))
        self.is_stored = False
        self.error: Exception | None = None

    @property
    def is_finished(self) -> bool:
        """Whether it was stored, or could not be stored."""
        return self.is_stored or self.error is not None


class BatchWriter:
    """A writer of a session. Thread-safe.

    Args:
        log: stores the batches.
        session: the id of the session.
        lock: the lock of the session, held while `applied` is called.
        applied: is called with each batch that was stored.
        writer: the number of the writer; by default, a new one.
        number: the number of its last batch.
    """

    def __init__(
        self,
        log: SessionLog,
        session: str,
        lock: threading.RLock,
        applied: Callable[[Batch], None],
        writer: int | None = None,
        number: int = 0,
    ) -> None:
        self._log, self._session, self._applied = log, session, applied
        self._changed = threading.Condition(lock)
        self._may_be_taken = writer is None
        self.writer = new_writer() if writer is None else writer
        self._number = number
        self._queue: list[QueuedWrite] = []
        self._is_sending = self._is_in_doubt = False
        self._host, self._process = platform.node(), os.getpid()

    def write(self, write: QueuedWrite) -> None:
        """Store a write; returns once it is durable.

        Raises:
            StorageError: it was not stored, or this is not known.
        """
        self.write_all([write])

    def write_all(self, writes: Sequence[QueuedWrite]) -> None:
        """Store writes in their order; returns once all are durable.

        Raises:
            StorageError: some were not stored, or this is not known.
        """
        with self._changed:
            self._queue += writes
        try:
            for write in writes:
                self._await(write)
        except BaseException:  # nobody waits for the rest, so nobody would send it
            own = set(writes)
            with self._changed:
                self._queue = [each for each in self._queue if each not in own]
                self._changed.notify_all()
            raise

    def _await(self, write: QueuedWrite) -> None:
        while not self._is_done(write):
            batch: list[QueuedWrite] | None = None
            try:
                with self._changed:
                    if write.is_finished or self._is_sending:
                        continue
                    batch = self._next_batch()
                    self._is_sending = True
                self._send(batch)
            except Exception as error:
                for each in batch or ():
                    each.error = error
                if write.error is not error:  # it is that of others, who are told
                    continue
                raise
            finally:
                if batch is not None:
                    self._end_sending(batch, write)

    def _is_done(self, write: QueuedWrite) -> bool:
        """Wait until a write is stored, or nothing is being stored; returns whether it is.

        Raises:
            StorageError: it was not stored.
        """
        with self._changed:
            self._changed.wait_for(lambda: write.is_finished or not self._is_sending)
            if write.error is not None:
                raise copy.copy(write.error)
            return write.is_stored

    def _end_sending(self, batch: Sequence[QueuedWrite], own: QueuedWrite) -> None:
        """Let others send; if this thread is interrupted, they store their writes themselves."""
        with self._changed:
            self._is_sending = False
            self._queue[:0] = [each for each in batch if not each.is_finished and each is not own]
            self._changed.notify_all()

    def _next_batch(self) -> list[QueuedWrite]:
        """The writes to be stored next, which all had read the same batches."""
        batch: list[QueuedWrite] = []
        size_bytes = 0
        for write in self._queue:
            if batch and (write.seen is not batch[0].seen or size_bytes >= BATCH_BYTES):
                break
            batch.append(write)
            size_bytes += write.weight_bytes
        del self._queue[: len(batch)]
        return batch

    def _send(self, writes: Sequence[QueuedWrite]) -> None:
        if not writes:
            return
        blocks = list({cid: data for write in writes for cid, data in write.blocks}.items())
        while True:
            name = BatchName(self.writer, self._number + 1)
            records = tuple(write.record._replace(writer=name.writer) for write in writes)
            seen = writes[0].seen
            batch = Batch(self._session, name, seen, self._host, self._process, records)
            document = encode_batch(batch)
            there = document
            self._is_in_doubt = True
            try:
                self._log.append(self._session, name, document, blocks)
            except FileExistsError:
                there = self._log.read(self._session, name)
                if there != document and self._is_taken(there, name):
                    self.writer = new_writer()
                    continue
            with self._changed:
                is_this = there == document
                self._take(name, batch if is_this else self._decoded(there, name))
                if is_this:
                    for write in writes:
                        write.is_stored = True
                    return

    def _is_taken(self, document: bytes, name: BatchName) -> bool:
        """Whether the first batch is that of another process, which drew the same number."""
        found = self._decoded(document, name)
        is_other = (found.host, found.process) != (self._host, self._process)
        return self._may_be_taken and name.number == 1 and is_other

    def _take(self, name: BatchName, batch: Batch) -> None:
        self._applied(batch)
        self._number, self._is_in_doubt = name.number, False

    def _decoded(self, document: bytes, name: BatchName) -> Batch:
        return decode_batch(document, f"batch {name.number} of session {self._session}")

    def settle(self) -> None:
        """Wait until nothing is being stored, and find out what was; call with the lock held."""
        self._changed.wait_for(lambda: not (self._is_sending or self._queue))
        if self._is_in_doubt:
            name = BatchName(self.writer, self._number + 1)
            with suppress(FileNotFoundError):
                self._take(name, self._decoded(self._log.read(self._session, name), name))
