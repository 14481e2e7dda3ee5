"""A write of a stored session is interrupted while it waits for that of another thread."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind
from versioned_zarr.engine.stored_sessions.batch_writer import BatchWriter, QueuedWrite
from versioned_zarr.engine.stored_sessions.session_log import BatchName
from versioned_zarr.errors import StorageError


class SlowLog:
    """A session log whose requests end when they are told to."""

    def __init__(self) -> None:
        self.has_begun, self.may_end = threading.Event(), threading.Event()
        self.error: Exception | None = None

    def append(
        self, session: str, name: BatchName, document: bytes, blocks: Sequence[Block]
    ) -> None:
        del session, name, document, blocks
        self.has_begun.set()
        assert self.may_end.wait(60)
        if self.error is not None:
            raise self.error

    def read(self, session: str, name: BatchName) -> bytes:
        raise FileNotFoundError(session, name)


def a_write(seen: dict[int, int]) -> QueuedWrite:
    return QueuedWrite(JournalRecord(RecordKind.DELETE, "a", 1, 1), (), seen)


def settles(writer: BatchWriter, lock: threading.RLock) -> bool:
    def settle() -> None:
        with lock:
            writer.settle()

    thread = threading.Thread(target=settle, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


def new_writer(log: Any) -> tuple[BatchWriter, threading.RLock]:
    lock = threading.RLock()
    return BatchWriter(log, "s", lock, lambda batch: None), lock


def interrupt_once_queued(writer: BatchWriter) -> None:
    while not writer._queue:
        time.sleep(0.001)
    # To the process, the system may deliver it to this thread, and the other would sleep on.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """The signal interrupts, also in a process that was started to ignore it, as by nohup."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(sys.platform == "win32", reason="the signal of Windows ends the process")
@pytest.mark.usefixtures("interruptible")
def test_a_session_settles_after_a_waiting_write_was_interrupted() -> None:
    log = SlowLog()
    writer, lock = new_writer(log)
    first = threading.Thread(target=writer.write, args=(a_write({}),))
    first.start()
    assert log.has_begun.wait(60)
    threading.Thread(target=interrupt_once_queued, args=(writer,)).start()
    with pytest.raises(KeyboardInterrupt):
        writer.write(a_write({}))
    log.may_end.set()
    first.join(60)
    assert settles(writer, lock)


def test_a_session_settles_after_the_first_of_several_batches_failed() -> None:
    log = SlowLog()
    log.error = StorageError("no space", where="here")
    log.may_end.set()
    writer, lock = new_writer(log)
    with pytest.raises(StorageError, match="no space"):
        writer.write_all([a_write({}), a_write({})])
    assert settles(writer, lock)
