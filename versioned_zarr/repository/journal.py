"""The journal of a session: what was written, in one order that all its writers agree on.

A session is a folder `sessions/ID` with `session.json` (what it is based on), `journal` (one
record for each write, appended by every process that writes into the session) and one draft of a
pack for each of those processes. docs/design/sessions.md shows the bytes.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, NamedTuple

from versioned_zarr.blocks.store import BlockStore
from versioned_zarr.errors import CorruptJournalError, SessionClosedError, SessionNotFoundError
from versioned_zarr.history.commit import format_time, parse_time
from versioned_zarr.ipld.cid import CID_SIZE, Cid, from_text
from versioned_zarr.storage import Log, Storage

SESSIONS = "sessions"
IN_STORE = 0xFFFFFFFF
"""Instead of a draft's number: the value was in the block store already."""

_MAGIC = b"\xa7J"
# magic, kind, key size, writer, draft, seen, offset, size, cumulative size, CID; key; crc32
_HEAD = struct.Struct(f"<2sBxIIIQQQQ{CID_SIZE}s")
_CRC = struct.Struct("<I")
_NO_CID = Cid(bytes(CID_SIZE))


class Kind(IntEnum):
    """What a record says."""

    SET = 1
    DELETE = 2
    CLEAR = 3  # the key is a folder, all below it is gone
    COMMIT = 4  # all records before `seen` are in the commit `cid`
    INTENT = 5  # the commit `cid` of all records before `seen` is about to be made


class Record(NamedTuple):
    """One record of a journal.

    Attributes:
        kind: what it says.
        key: which key or folder it speaks of.
        writer: the number of the process that wrote it.
        seen: the position up to which that process knew what others had written to the key.
        draft: the number of the draft that holds the value, or IN_STORE.
        offset: where the value's first section begins in that draft.
        size: the value's length in bytes.
        tsize: the cumulative size of its blocks, as links give it.
        cid: the value, or the commit.
        position: where the record begins in the journal; not part of its bytes.
    """

    kind: Kind
    key: str
    writer: int
    seen: int
    draft: int = IN_STORE
    offset: int = 0
    size: int = 0
    tsize: int = 0
    cid: Cid = _NO_CID
    position: int = 0


def encode_record(record: Record) -> bytes:
    """A record as it is appended; its position is not in it."""
    key = record.key.encode("utf-8")
    body = (
        _HEAD.pack(
            _MAGIC,
            record.kind,
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


def decode_records(data: bytes, position: int, where: str) -> tuple[list[Record], int]:
    """The whole records in a piece of a journal, and the position behind the last of them.

    The piece may end inside a record that its writer is just appending.

    Args:
        data: the piece.
        position: where in the journal it begins.
        where: the journal's name, for errors.

    Raises:
        CorruptJournalError: what stands there is no record.
    """
    records: list[Record] = []
    at = 0
    while len(data) - at >= _HEAD.size:
        magic, kind, key_size, writer, draft, seen, offset, size, tsize, cid = _HEAD.unpack_from(
            data, at
        )
        end = at + _HEAD.size + key_size
        if magic == _MAGIC and end + _CRC.size > len(data):
            break
        if magic != _MAGIC or _CRC.unpack_from(data, end)[0] != zlib.crc32(data[at:end]):
            raise CorruptJournalError(
                f"the record at byte {position + at} of {where} is damaged; "
                "drop the session, or cut the journal there to keep what is before",
                where=where,
            )
        key = data[at + _HEAD.size : end].decode("utf-8")
        place = position + at
        records.append(
            Record(Kind(kind), key, writer, seen, draft, offset, size, tsize, Cid(cid), place)
        )
        at = end + _CRC.size
    return records, position + at


@dataclass(frozen=True)
class SessionHead:
    """What a session is: written once, when it writes its first value.

    Attributes:
        id: its name.
        branch: where it commits to.
        base: the CID of the commit it was opened on, as text.
        started: when, UTC.
        host: on which machine.
        process: the number of the process that opened it there.
        author: who.
        purpose: what for, in words that a program can find it by; empty as a rule.
    """

    id: str
    branch: str
    base: str
    started: datetime
    host: str
    process: int
    author: str
    purpose: str = ""

    @classmethod
    def new(cls, branch: str, base: str, author: str, purpose: str = "") -> SessionHead:
        """The head of a session that this process opens now."""
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        return cls(name, branch, base, now, os.uname().nodename, os.getpid(), author, purpose)

    def to_bytes(self) -> bytes:
        """The head as a file: a line of JSON and its checksum."""
        document = {**self.__dict__, "started": format_time(self.started)}
        text = json.dumps(document, sort_keys=True).encode("ascii")
        return b"%s %08x\n" % (text, zlib.crc32(text))


def folder_of(session: str) -> str:
    """Where the session of this id lies."""
    return f"{SESSIONS}/{session}"


def draft_path(session: str, number: int) -> str:
    """Where the draft of this number of a session lies."""
    return f"{folder_of(session)}/{number}.draft"


def make_session(storage: Storage, blocks: BlockStore, head: SessionHead) -> None:
    """Make the folder of a session, and so keep the commit that it is based on.

    Raises:
        SessionClosedError: that commit was collected in the meantime.
    """
    if blocks.is_remote:  # where a ref's log keeps it, for a day at the least
        write_head(storage, head)
        return
    with blocks.keep([from_text(head.base)]) as is_kept:
        if not is_kept:
            raise SessionClosedError(
                f"session {head.id} cannot begin: commit {head.base}, which it is based on, was "
                "collected since no branch reached it; open a new one with repo.session()",
                session=head.id,
            )
        write_head(storage, head)


def write_head(storage: Storage, head: SessionHead) -> None:
    """Make the folder of a session."""
    storage.put(f"{folder_of(head.id)}/session.json", [head.to_bytes()], durable=False)


def read_head(storage: Storage, session: str) -> SessionHead:
    """The head of a session.

    Raises:
        SessionNotFoundError: there is none of this id.
        CorruptJournalError: it is damaged.
    """
    path = f"{folder_of(session)}/session.json"
    try:
        data = bytes(storage.read(path)) if session and "/" not in session else None
    except FileNotFoundError:
        data = None
    if data is None:
        raise SessionNotFoundError(
            f"no session {session!r} in {storage.url}; it was committed, dropped, or never wrote",
            session=session,
        )
    text, checksum = data[:-10], data[-10:]
    if checksum != b" %08x\n" % zlib.crc32(text):
        raise CorruptJournalError(f"{path} is damaged", session=session, where=path)
    document: dict[str, Any] = json.loads(text)
    return SessionHead(**{**document, "started": parse_time(document["started"])})


def open_journal(storage: Storage, session: str, *, create: bool = False) -> Log:
    """The log that holds a session's records."""
    return storage.open_log(f"{folder_of(session)}/journal", create=create)


def session_ids(storage: Storage) -> list[str]:
    """The ids of all sessions that have a folder, the oldest first."""
    paths = [stored.path.split("/") for stored in storage.list(SESSIONS)]
    return sorted({path[1] for path in paths if len(path) > 2})
