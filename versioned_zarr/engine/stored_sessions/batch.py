"""The batch format: what one writer of a stored session wrote with one request.

A batch is a checked line of JSON, its head, and records as in a journal. Their blocks are stored
beside it. The `seen` of a record is 1 if its writer knew the value of the key that `seen` in the
head covers, otherwise 0; drafts, offsets and positions are not used.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from versioned_zarr.engine.sessions.journal import JournalRecord, decode_records, encode_record
from versioned_zarr.engine.stored_sessions.session_log import BatchName
from versioned_zarr.errors import CorruptError, CorruptJournalError
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.storage.checked_line import checked_line, text_in


@dataclass(frozen=True)
class Batch:
    """What one writer wrote with one request.

    Attributes:
        session: the id of the session.
        name: the batch.
        seen: the number of the last batch of each writer that this writer had read.
        host: the machine of the writer.
        process: its process ID there.
        records: the writes, in order.
    """

    session: str
    name: BatchName
    seen: Mapping[int, int]
    host: str
    process: int
    records: tuple[JournalRecord, ...]


def encode_batch(batch: Batch) -> bytes:
    """Encode a batch."""
    head = {
        "session": batch.session,
        "writer": batch.name.writer,
        "number": batch.name.number,
        "seen": _vector_text(batch.seen),
        "host": batch.host,
        "process": batch.process,
    }
    return _line_of(head) + b"".join(map(encode_record, batch.records))


def decode_batch(data: bytes, where: str) -> Batch:
    """Decode a batch.

    Raises:
        CorruptError: it is damaged.
    """
    line, end, rest = data.partition(b"\n")
    with _reading(where):
        head = _document_in(line + end)
        records, size = decode_records(rest, 0, where)
        if size != len(rest):
            raise ValueError("it is cut off")
        name = BatchName(int(head["writer"]), int(head["number"]))
        return Batch(
            str(head["session"]),
            name,
            _vector_in(head["seen"]),
            str(head["host"]),
            int(head["process"]),
            tuple(records),
        )


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Report whatever is wrong with a document as damage of the session."""
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError, CorruptJournalError) as error:
        raise CorruptError(
            f"{where} is damaged: {error}; repo.sessions.delete(id) deletes the session",
            where=where,
        ) from error


def _line_of(document: Mapping[str, Any]) -> bytes:
    return checked_line(json.dumps(document, separators=(",", ":")).encode("ascii"))


def _document_in(line: bytes) -> dict[str, Any]:
    text = text_in(line)
    if text is None:
        raise ValueError("its checksum does not match")
    found: dict[str, Any] = json.loads(text)
    return found


def _vector_text(vector: Mapping[int, int]) -> dict[str, int]:
    return {f"{writer:08x}": number for writer, number in sorted(vector.items())}


def _vector_in(found: Mapping[str, Any]) -> dict[int, int]:
    return {int(writer, 16): int(number) for writer, number in found.items()}


def covers(vector: Mapping[int, int], other: Mapping[int, int]) -> bool:
    """Whether one vector contains all batches of another."""
    return all(number <= vector.get(writer, 0) for writer, number in other.items())


@dataclass(frozen=True)
class SessionNote:
    """A note about a commit of a session.

    Attributes:
        commit: the commit.
        upto: the number of the last batch of each writer that it contains.
        is_made: whether the commit was made; otherwise it was about to be made.
    """

    commit: Cid
    upto: Mapping[int, int]
    is_made: bool

    def to_bytes(self) -> bytes:
        """The note as a checked line of JSON."""
        document = {
            "commit": to_text(self.commit),
            "upto": _vector_text(self.upto),
            "made": self.is_made,
        }
        return _line_of(document)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> SessionNote:
        """The note in a checked line.

        Raises:
            CorruptError: it is damaged.
        """
        with _reading(where):
            found = _document_in(data)
            return cls(from_text(found["commit"]), _vector_in(found["upto"]), bool(found["made"]))
