"""How large the batches of a stored session are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind
from versioned_zarr.engine.stored_sessions.batch_writer import BatchWriter, QueuedWrite
from versioned_zarr.engine.stored_sessions.session_log import BatchName


class SizesLog:
    """A session log that keeps the sizes of the documents."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def append(
        self, session: str, name: BatchName, document: bytes, blocks: Sequence[Block]
    ) -> None:
        del session, name, blocks
        self.sizes.append(len(document))


def test_a_document_of_many_writes_without_values_fits_in_a_block() -> None:
    log: Any = SizesLog()
    writer = BatchWriter(log, "s", threading.RLock(), lambda batch: None)
    seen: dict[int, int] = {}
    key = "a" * 200
    records = [JournalRecord(RecordKind.DELETE, f"{key}{number}", 1, 1) for number in range(30_000)]
    writer.write_all([QueuedWrite(record, (), seen) for record in records])
    assert max(log.sizes) < 2.1 * 2**20
    assert 3 <= len(log.sizes) <= 10
