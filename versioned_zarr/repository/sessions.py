"""The sessions that have written and not ended: listed, looked into, dropped."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from versioned_zarr.errors import CorruptJournalError, SessionNotFoundError
from versioned_zarr.ipld.cid import to_text
from versioned_zarr.repository.journal import (
    Kind,
    Record,
    decode_records,
    folder_of,
    open_journal,
    read_head,
    session_ids,
)
from versioned_zarr.repository.keeping import SessionInfo
from versioned_zarr.repository.stores import Stores
from versioned_zarr.storage import Storage


def list_sessions(stores: Stores) -> list[SessionInfo]:
    """See `Repository.sessions`."""
    found = []
    for session in session_ids(stores.storage):
        with suppress(SessionNotFoundError, FileNotFoundError):
            found.append(session_info(stores, session))
    return found


def session_info(stores: Stores, session: str) -> SessionInfo:
    """What can be told of one session.

    Raises:
        SessionNotFoundError: there is none of this id.
        FileNotFoundError: it has no journal.
    """
    storage = stores.storage
    problem, keys, base = None, 0, None
    head = read_head(storage, session)
    try:
        records = read_records(storage, session)
        last, later = writes_since_commit(records)
        keys = len({record.key for record in later})
        base = last
    except CorruptJournalError as error:
        problem = str(error)
    stored = storage.list(folder_of(session))
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
        keys=keys,
        is_alive=any(_is_claimed(storage, item.path) for item in stored),
        purpose=head.purpose,
        problem=problem,
    )


def read_records(storage: Storage, session: str) -> list[Record]:
    """All records of a session's journal.

    Raises:
        FileNotFoundError: it has none.
        CorruptJournalError: a record is damaged.
    """
    log = open_journal(storage, session)
    try:
        end = log.end()
        where = f"{folder_of(session)}/journal"
        records, position = decode_records(log.read(0, end), 0, where)
        if position != end:
            raise CorruptJournalError(
                f"the last record of {where} is cut off", session=session, where=where
            )
        return records
    finally:
        log.close()


def writes_since_commit(records: list[Record]) -> tuple[str | None, list[Record]]:
    """The last commit on a journal, and the writes that came after what it holds."""
    commits = [record for record in records if record.kind is Kind.COMMIT]
    upto = commits[-1].seen if commits else 0
    writes = (Kind.SET, Kind.DELETE, Kind.CLEAR)
    later = [record for record in records if record.position >= upto and record.kind in writes]
    return (to_text(commits[-1].cid) if commits else None), later


def _is_claimed(storage: Storage, path: str) -> bool:
    if not path.endswith(".draft"):
        return False
    try:
        return storage.is_claimed(path)
    except FileNotFoundError:
        return False


def drop_session(stores: Stores, session: str) -> None:
    """See `Repository.drop`."""
    if session not in session_ids(stores.storage):
        raise SessionNotFoundError(
            f"no session {session!r} in {stores.storage.url}; it was committed, dropped, or "
            "never wrote",
            session=session,
        )
    stores.storage.delete_folder(folder_of(session))
