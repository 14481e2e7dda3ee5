"""The journal of a session: its writes, in one order for all writers.

A session is a folder `sessions/ID` with `session.json` (its base), `journal` (one record per write,
appended by every process that writes to the session) and one draft pack per process.
docs/design/sessions.md shows the bytes.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import struct
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NamedTuple

from versioned_zarr import process_identity
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.engine.sessions.reused_leaves import NO_LEAVES, ReusedLeaves
from versioned_zarr.errors import CorruptJournalError, SessionClosedError, SessionNotFoundError
from versioned_zarr.history.commit_object import format_time, parse_time
from versioned_zarr.ipld.cid import CID_SIZE, Cid, from_text
from versioned_zarr.storage.checked_line import checked_line, text_in
from versioned_zarr.storage.protocol import AppendLog, Storage

SESSIONS = "sessions"
_FILES = ("session.json", "journal")
_WRITERS = "writers"
IN_STORE = 0xFFFFFFFF
"""In place of a draft's number: the value was already in the block store."""

_MAGIC = b"\xa7J"
# magic, kind, flags, key size, writer, draft, seen, offset, size, cumulative size, CID; key; crc32
_HEAD = struct.Struct(f"<2sBBIIIQQQQ{CID_SIZE}s")
_KEY_SIZE_AT = 4
_CRC = struct.Struct("<I")
NO_CID = Cid(bytes(CID_SIZE))
_BLIND = 1
_REUSES = 2  # after the key, a zero byte and the leaves that the value reuses


class RecordKind(IntEnum):
    """The kind of a record."""

    SET = 1
    DELETE = 2
    CLEAR = 3  # the key is a folder; everything below it was deleted
    COMMIT = 4  # all records before `seen` are in the commit `cid`
    INTENT = 5  # the commit `cid` of all records before `seen` is about to be made
    FORGET = 6  # the writes to the key are damaged and are ignored
    LINK = 7  # the key is a folder; the directory `cid`, which is stored, replaces it


class JournalRecord(NamedTuple):
    """One record of a journal.

    Attributes:
        kind: what it says.
        key: the key or folder.
        writer: the number of the process that wrote it.
        seen: the position up to which that process knew the writes of others to the key.
        draft: the number of the draft that holds the value, or IN_STORE.
        offset: the offset of the value's first block in that draft.
        size: the value's length in bytes.
        tsize: the cumulative size of its blocks, as in links.
        cid: the value, the directory, or the commit.
        is_blind: whether the writer had not read the key since the commit it is based on.
        position: the position of the record in the journal; not part of its bytes.
        reused: the leaves of the value that the draft lacks, because the repository has them.
    """

    kind: RecordKind
    key: str
    writer: int
    seen: int
    draft: int = IN_STORE
    offset: int = 0
    size: int = 0
    tsize: int = 0
    cid: Cid = NO_CID
    is_blind: bool = False
    position: int = 0
    reused: ReusedLeaves = NO_LEAVES

    @property
    def stored_bytes(self) -> int:
        """The number of bytes in the draft: nodes and leaves."""
        return self.tsize - self.reused.size_bytes(self.size)


def encode_record(record: JournalRecord) -> bytes:
    """Encode a record; its position is not included."""
    key, flags = record.key.encode("utf-8"), _BLIND if record.is_blind else 0
    if record.reused:
        key, flags = b"%b\0%b" % (key, record.reused.encoded), flags | _REUSES
    body = (
        _HEAD.pack(
            _MAGIC,
            record.kind,
            flags,
            len(key),
            record.writer,
            record.draft,
            record.seen,
            record.offset,
            record.size,
            record.tsize,
            record.cid,
        )
        + key
    )
    return body + _CRC.pack(zlib.crc32(body))


def decode_records(data: bytes, position: int, where: str) -> tuple[list[JournalRecord], int]:
    """Decode the complete records in a piece of a journal; also returns where the last one ends.

    The piece may end inside a record that is being appended. If a writer was stopped inside a
    record and others appended after it, the incomplete record was never acknowledged and is
    skipped.

    Args:
        data: the piece.
        position: the position of the piece in the journal.
        where: the journal's name, for errors.

    Raises:
        CorruptJournalError: a record is invalid; the error has the valid records before it.
    """
    records: list[JournalRecord] = []
    at = 0
    while at < len(data):
        found = _record_at(data, at, position)
        if found is None:
            behind = _behind_torn(data, at)
            if behind is None:
                raise CorruptJournalError(
                    f"the record at byte {position + at} of {where} is damaged; repo.resume(id) "
                    "recovers what was written before it, and repo.sessions.delete(id) deletes "
                    "everything",
                    where=where,
                    sound=position + at,
                )
            if behind == len(data):
                break
            at = behind
            continue
        record, at = found
        records.append(record)
    return records, position + at


def _record_at(data: bytes, at: int, position: int) -> tuple[JournalRecord, int] | None:
    """The record at an offset of a piece, and where it ends; None if it is incomplete."""
    if len(data) - at < _HEAD.size:
        return None
    magic, kind, flags, key_size, writer, draft, seen, offset, size, tsize, cid = _HEAD.unpack_from(
        data, at
    )
    end = at + _HEAD.size + key_size
    if magic != _MAGIC or end + _CRC.size > len(data):
        return None
    if _CRC.unpack_from(data, end)[0] != zlib.crc32(data[at:end]):
        return None
    try:
        name, reused = data[at + _HEAD.size : end], NO_LEAVES
        if flags & _REUSES:
            name, _, rows = name.partition(b"\0")
            reused = ReusedLeaves(rows)
        key, what = name.decode("utf-8"), RecordKind(kind)
    except ValueError:
        return None
    if not reused.is_valid_for(size):
        return None
    is_blind = bool(flags & _BLIND)
    fields = (draft, offset, size, tsize, Cid(cid), is_blind, position + at, reused)
    return JournalRecord(what, key, writer, seen, *fields), end + _CRC.size


def _behind_torn(data: bytes, at: int) -> int | None:
    """Where an incomplete record ends; None if this is not one.

    It ends at the end of the piece, or where a complete record begins.
    """
    rest = len(data) - at
    if data[at : at + len(_MAGIC)] != _MAGIC[:rest]:
        is_one_byte = data[at : at + 1] == _MAGIC[:1] and _record_at(data, at + 1, 0) is not None
        return at + 1 if is_one_byte else None
    wanted = _HEAD.size + _CRC.size
    if rest >= _HEAD.size:
        wanted += _HEAD.unpack_from(data, at)[3]
    last = at + wanted - 1 + len(_MAGIC)
    behind = data.find(_MAGIC, at + 1, last)
    while behind >= 0:
        if _record_at(data, behind, 0) is not None:
            return None if _has_other_length(data[at:behind]) else behind
        behind = data.find(_MAGIC, behind + 1, last)
    return len(data) if rest < wanted and not _has_other_length(data[at:]) else None


def _has_other_length(piece: bytes) -> bool:
    """Whether a piece is a complete record except for a damaged key length."""
    key_size = len(piece) - _HEAD.size - _CRC.size
    if key_size < 0:
        return False
    body = bytearray(piece[: -_CRC.size])
    struct.pack_into("<I", body, _KEY_SIZE_AT, key_size)
    return bool(_CRC.unpack_from(piece, len(body))[0] == zlib.crc32(body))


@dataclass(frozen=True)
class SessionHead:
    """The description of a session: written once, before its first value.

    Attributes:
        id: the id of the session.
        branch: the branch to which it commits.
        base: the CID of the commit it was opened on, as text.
        started: when it was opened, UTC.
        host: the machine that opened it.
        process: the process ID on that machine.
        author: who opened it.
        purpose: a note by which a program can find it; usually empty.
        incarnation: identifies that process uniquely; see `process_identity`.
    """

    id: str
    branch: str
    base: str
    started: datetime
    host: str
    process: int
    author: str
    purpose: str = ""
    incarnation: str = ""

    @classmethod
    def new(cls, branch: str, base: str, author: str, purpose: str = "") -> SessionHead:
        """The head of a session that this process opens now."""
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        here = process_identity.current()
        host = platform.node()
        return cls(name, branch, base, now, host, os.getpid(), author, purpose, here)

    def to_bytes(self) -> bytes:
        """The head as a file: a line of JSON and its checksum."""
        document = {**self.__dict__, "started": format_time(self.started)}
        text = json.dumps(document, sort_keys=True).encode("ascii")
        return checked_line(text)


def folder_of(session: str) -> str:
    """The path of the session with this id."""
    return f"{SESSIONS}/{session}"


def draft_path(session: str, number: int) -> str:
    """The path of a draft of a session."""
    return f"{folder_of(session)}/{number}.draft"


def make_session(storage: Storage, blocks: BlockStore, head: SessionHead) -> None:
    """Create the folder of a session, which also protects its base commit from collection.

    Raises:
        SessionClosedError: that commit was already collected.
    """
    if blocks.is_remote:  # protected by the log of a ref, for at least a day
        write_head(storage, head)
        return
    with blocks.keep([from_text(head.base)]) as is_kept:
        if not is_kept:
            raise SessionClosedError(
                f"session {head.id} cannot begin: its base commit {head.base} was "
                "garbage-collected "
                "because no branch reached it; open a new session with repo.session()",
                session=head.id,
            )
        write_head(storage, head)


def write_head(storage: Storage, head: SessionHead) -> None:
    """Create the folder of a session, durably, so that later acknowledged writes can be found."""
    storage.put(f"{folder_of(head.id)}/session.json", [head.to_bytes()])


def read_head(storage: Storage, session: str) -> SessionHead:
    """Read the head of a session.

    Raises:
        SessionNotFoundError: there is no session with this id.
        CorruptJournalError: it is damaged.
    """
    path = f"{folder_of(session)}/session.json"
    try:
        data = bytes(storage.read(path)) if session and "/" not in session else None
    except FileNotFoundError:
        data = None
    if data is None and session in session_ids(storage):
        raise CorruptJournalError(
            f"{path} of {storage.url} is missing, so the base of the session is unknown; "
            f"delete the session with repo.sessions.delete({session!r})",
            session=session,
            where=path,
        )
    if data is None:
        raise SessionNotFoundError(
            f"no session {session!r} in {storage.url}; it was committed, deleted, or never wrote; "
            "open a new one with repo.session()",
            session=session,
        )
    return head_in(data, session, f"{path} of {storage.url}")


def head_in(data: bytes, session: str, where: str) -> SessionHead:
    """The head of a session from its file.

    Raises:
        CorruptJournalError: it is damaged.
    """
    text = text_in(data)
    try:
        if text is None:
            raise ValueError("its checksum does not match")
        document: dict[str, Any] = json.loads(text)
        return SessionHead(**{**document, "started": parse_time(document["started"])})
    except (ValueError, TypeError, KeyError) as error:
        raise CorruptJournalError(
            f"{where} is damaged: {error}; repo.sessions.delete({session!r}) "
            "deletes the session, whose values are stored beside that file",
            session=session,
            where=where,
        ) from error


def add_writer(storage: Storage, session: str, writer: int) -> None:
    """Record that this process writes under a number: one append to `writers`, not synced."""
    log = storage.open_log(f"{folder_of(session)}/{_WRITERS}", create=True)
    try:
        log.append(encode_writer(writer, process_identity.shown()))
    finally:
        log.close()


def encode_writer(writer: int, process: str) -> bytes:
    """A line of `writers`."""
    document = {"process": process, "writer": writer}
    return checked_line(json.dumps(document, sort_keys=True).encode("ascii"))


def read_writers(storage: Storage, session: str) -> dict[int, str]:
    """The processes that wrote to a session, by their numbers; damaged lines are skipped."""
    try:
        data = bytes(storage.read(f"{folder_of(session)}/{_WRITERS}"))
    except FileNotFoundError:
        return {}
    texts = [text_in(line) for line in data.splitlines(keepends=True)]
    documents = [json.loads(text) for text in texts if text is not None]
    return {document["writer"]: document["process"] for document in documents}


def open_journal(storage: Storage, session: str, *, create: bool = False) -> AppendLog:
    """The log with the records of a session."""
    return storage.open_log(f"{folder_of(session)}/journal", create=create)


def session_ids(storage: Storage) -> list[str]:
    """The ids of all sessions, oldest first."""
    return sorted(session for session, names in _folders(storage).items() if names & {*_FILES})


def left_over(storage: Storage) -> list[str]:
    """The ids of deleted sessions of which only drafts are left."""
    return sorted(session for session, names in _folders(storage).items() if not names & {*_FILES})


def _folders(storage: Storage) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for stored in storage.list(SESSIONS):
        parts = stored.path.split("/")
        if len(parts) == 3 and (parts[2] in (*_FILES, _WRITERS) or parts[2].endswith(".draft")):
            found.setdefault(parts[1], set()).add(parts[2])
    return found


def remove_session(storage: Storage, session: str) -> None:
    """Remove the folder of a session, beginning with its journal.

    The journal is removed durably before any value, so that a power loss cannot bring back a
    session whose values are lost.
    """
    folder = folder_of(session)
    storage.delete(f"{folder}/journal")
    storage.delete(f"{folder}/session.json", durable=True)
    storage.delete_folder(folder)
