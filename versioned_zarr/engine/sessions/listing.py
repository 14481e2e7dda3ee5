"""The listing of sessions with uncommitted writes: inspect and delete them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.sessions.journal import (
    JournalRecord,
    RecordKind,
    SessionHead,
    decode_records,
    folder_of,
    open_journal,
    read_head,
    remove_session,
    session_ids,
)
from versioned_zarr.engine.sessions.protocol import SessionInfo
from versioned_zarr.errors import (
    CorruptJournalError,
    ReadOnlyError,
    SessionNotFoundError,
    StorageError,
)
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.storage.protocol import Storage


def list_sessions(stores: RepositoryContext) -> list[SessionInfo]:
    """See `Repository.sessions`."""
    found = []
    for session in session_ids(stores.storage):
        with suppress(SessionNotFoundError):
            found.append(session_info(stores, session))
    return found


def session_info(stores: RepositoryContext, session: str) -> SessionInfo:
    """The facts about one session; damage is reported as its problem.

    Raises:
        SessionNotFoundError: there is no session with this id, or it has written nothing yet.
    """
    storage = stores.storage
    head, problem = _head_of(stores, session)
    stored = storage.list(folder_of(session))
    later: list[JournalRecord] = []
    base: str | None = None
    try:
        records, damage = sound_records(storage, session)
        problem = problem or (None if damage is None else str(damage))
        base, later = writes_since_commit(records)
    except FileNotFoundError as error:
        if not any(item.path.endswith(".draft") for item in stored):
            raise SessionNotFoundError(
                f"session {session!r} has written nothing", session=session
            ) from error
        problem = problem or "its journal is missing; delete it with repo.sessions.delete(id)"
    except (ReadOnlyError, StorageError) as error:
        problem = problem or str(error)
    journal = [item for item in stored if item.path.endswith("/journal")]
    modified = max((item.modified_s for item in journal), default=head.started.timestamp())
    return SessionInfo(
        id=session,
        branch=head.branch,
        base=base or head.base,
        author=head.author,
        started=head.started,
        last_write=datetime.fromtimestamp(modified, UTC),
        host=head.host,
        process=head.process,
        keys=len({record.key for record in later}),
        is_alive=any(_is_claimed(storage, item.path) for item in stored),
        purpose=head.purpose,
        problem=problem,
        size_bytes=sum({record.key: record.size for record in later}.values()),
    )


def _head_of(stores: RepositoryContext, session: str) -> tuple[SessionHead, str | None]:
    """The head of a session; if it cannot be read, an empty one and the problem."""
    try:
        return read_head(stores.storage, session), None
    except (CorruptJournalError, SessionNotFoundError, ReadOnlyError, StorageError) as error:
        problem = str(error)
    if session not in session_ids(stores.storage):
        raise SessionNotFoundError(f"no session {session!r}", session=session)
    return SessionHead(session, "", "", datetime.fromtimestamp(0, UTC), "", 0, ""), problem


def sound_records(
    storage: Storage, session: str
) -> tuple[list[JournalRecord], CorruptJournalError | None]:
    """The records of a journal before the first damaged one, and what is wrong with that one.

    Raises:
        FileNotFoundError: there is no journal.
    """
    log = open_journal(storage, session)
    try:
        data = log.read(0, log.end())
    finally:
        log.close()
    where = f"{folder_of(session)}/journal"
    try:
        records, end = decode_records(data, 0, where)
    except CorruptJournalError as error:
        sound = error.sound or 0
        error.session = session
        return decode_records(data[:sound], 0, where)[0], error
    if end == len(data):
        return records, None
    return records, CorruptJournalError(
        f"the last record of {where} is truncated", session=session, where=where, sound=end
    )


def cut_journal(storage: Storage, session: str) -> str | None:
    """Truncate a damaged journal before the damage; returns a description of the loss, or None.

    The damaged journal is kept beside it, as `journal.damaged`.

    Raises:
        CorruptJournalError: a process may be writing it.
    """
    try:
        _, damage = sound_records(storage, session)
    except FileNotFoundError:
        return None
    if damage is None:
        return None
    folder = folder_of(session)
    if any(_is_claimed(storage, item.path) for item in storage.list(folder)):
        raise damage
    data = bytes(storage.read(f"{folder}/journal"))
    sound = damage.sound or 0
    storage.put(f"{folder}/journal.damaged", [data])
    storage.put(f"{folder}/journal", [data[:sound]])
    return f"the journal was damaged at byte {sound}: {len(data) - sound} bytes after it are lost"


def read_records(storage: Storage, session: str) -> list[JournalRecord]:
    """All records of a session's journal.

    Raises:
        FileNotFoundError: there is no journal.
        CorruptJournalError: a record is damaged.
    """
    records, damage = sound_records(storage, session)
    if damage is not None:
        raise damage
    return records


def writes_since_commit(records: list[JournalRecord]) -> tuple[str | None, list[JournalRecord]]:
    """The last commit in a journal, and the writes that it does not contain."""
    commits = [record for record in records if record.kind is RecordKind.COMMIT]
    upto = commits[-1].seen if commits else 0
    writes = (RecordKind.SET, RecordKind.DELETE, RecordKind.CLEAR, RecordKind.LINK)
    later = [record for record in records if record.position >= upto and record.kind in writes]
    forgotten = {
        record.key: record.position for record in records if record.kind is RecordKind.FORGET
    }
    later = [record for record in later if record.position >= forgotten.get(record.key, 0)]
    return (to_text(commits[-1].cid) if commits else None), later


def _is_claimed(storage: Storage, path: str) -> bool:
    if not path.endswith(".draft"):
        return False
    try:
        return storage.is_claimed(path)
    except FileNotFoundError:
        return False
    except (ReadOnlyError, StorageError):
        return True  # unknown


def delete_session(stores: RepositoryContext, session: str) -> None:
    """See `Sessions.delete`."""
    if session not in session_ids(stores.storage):
        raise SessionNotFoundError(
            f"no session {session!r} in {stores.storage.url}; it was committed, deleted, or "
            "never wrote",
            session=session,
        )
    remove_session(stores.storage, session)
