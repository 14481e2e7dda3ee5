"""A spooled session: its writes are on this machine until other processes are to share it.

Before, it is a `LocalSession`, which sends full packs while it writes. When it is pickled, or its
URL is asked for, what it wrote is stored, and it is a `StoredSession` from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TypeVar

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import (
    IN_STORE,
    NO_CID,
    JournalRecord,
    RecordKind,
    SessionHead,
    folder_of,
)
from versioned_zarr.engine.sessions.journal_view import REMOVED
from versioned_zarr.engine.sessions.local_session import LocalSession
from versioned_zarr.engine.sessions.protocol import Known
from versioned_zarr.engine.stored_sessions.batch_writer import new_writer
from versioned_zarr.engine.stored_sessions.stored_session import StoredSession
from versioned_zarr.errors import SessionClosedError, VersionedZarrError
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.keys import check_key

_T = TypeVar("_T")
_STORED = "is stored in the repository now"


class SpooledSession:
    """See the module, and `versioned_zarr.engine.sessions.protocol.SessionState`.

    Args:
        local: the session on this machine.
        stored: returns the stored session with a head, which is not there yet.
        find: returns the stored session with an id, if there is one.

    Attributes:
        now: what it is now.
    """

    def __init__(
        self,
        local: LocalSession,
        stored: Callable[[SessionHead], StoredSession],
        find: Callable[[str], StoredSession | None],
    ) -> None:
        self.now: LocalSession | StoredSession = local
        self._stored, self._find = stored, find
        self._lock = threading.RLock()
        self._unfinished: StoredSession | None = None
        """What an attempt to store the session left."""

    def _do(self, act: Callable[[LocalSession | StoredSession], _T]) -> _T:
        """Act on the session, and once more if it was stored meanwhile."""
        now = self.now
        try:
            return act(now)
        except (VersionedZarrError, OSError):
            if self.now is now and not self._was_stored():
                raise
        return act(self.now)

    def _was_stored(self) -> bool:
        """Whether another process of this machine has stored the session meanwhile."""
        with self._lock:
            now = self.now
            if isinstance(now, StoredSession) or now.closed != REMOVED:
                return False
            found = self._find(now.head.id)
            if found is not None:
                self.now = found
            return found is not None

    # Sharing

    def share(self) -> None:
        """See `LocalSession.share`: stores what was written, O(its bytes), once."""
        with self._lock:
            local = self.now
            if isinstance(local, StoredSession):
                local.share()
                return
            with local.storage.lock("share"):
                self.check_open()  # another process may have stored it meanwhile
                if self.now is local:
                    self._store(local)

    def _store(self, local: LocalSession) -> None:
        with local.frozen():
            local.refresh()
            stored = self._stored(replace(local.head, base=local.state.base))
            if local.exists:
                self._adopt(local, stored)
            else:
                stored.share()
            self.now = stored
            local.end(_STORED, keep_folder=False)

    def _adopt(self, local: LocalSession, stored: StoredSession) -> None:
        writer = _adopter_of(local)
        if writer is None:
            writer = new_writer()
            local.storage.put(_adopter_path(local), [b"%08x" % writer])
        adopter = stored.adopter(writer)
        stored.adopt(_writes_of(local), adopter)
        adopted = local.consumed
        local.remove_journal()  # from now on, other processes cannot write to it
        stored.adopt(_writes_of(local, since=adopted), adopter)

    def _drop_adopted(self, local: LocalSession, commit: Cid) -> None:
        """Before a commit on this machine is noted: drop what an attempt to store it left."""
        writer = _adopter_of(local)
        if writer is not None:
            self._unfinished = self._find(local.head.id)
            if self._unfinished is not None:
                self._unfinished.drop_adopted(writer, commit)

    def _end_unfinished(self, local: LocalSession, how: str) -> None:
        if self._unfinished is None and _adopter_of(local) is not None:
            self._unfinished = self._find(local.head.id)
        if self._unfinished is not None:
            self._unfinished.end(how, keep_folder=False)

    def before_fork(self) -> None:
        """See `SessionState`: the child writes to the same files."""
        self.now.before_fork()

    def after_fork(self) -> None:
        """See `SessionState`."""
        self._lock = threading.RLock()
        self.now.after_fork()

    def position(self) -> Known:
        """See `LocalSession.position`."""
        return self.now.position()

    def known(self) -> Known:
        """See `LocalSession.known`."""
        return self.now.known()

    def release(self) -> None:
        """See `LocalSession.release`."""
        self.now.release()

    def writer_name(self, writer: int) -> str:
        """See `LocalSession.writer_name`."""
        return self.now.writer_name(writer)

    # What it is now

    @property
    def is_remote(self) -> bool:
        """See `SessionState`."""
        return self.now.is_remote

    @property
    def head(self) -> SessionHead:
        """See `SessionState`."""
        return self.now.head

    @property
    def state(self) -> ChangeSet:
        """See `SessionState`."""
        return self.now.state

    @property
    def consumed(self) -> int:
        """See `SessionState`."""
        return self.now.consumed

    @property
    def closed(self) -> str | None:
        """See `SessionState`."""
        return self.now.closed

    @property
    def exists(self) -> bool:
        """See `SessionState`."""
        return self.now.exists

    def find(self, key: str) -> PendingWrite | Link | None:
        """See `SessionReader.find`."""
        return self._do(lambda now: now.find(key))

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `SessionReader.read`."""
        return self._do(lambda now: now.read(key, start, end))

    def read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """See `SessionReader.read_found`."""
        return self._do(lambda now: now.read_found(found, start, end))

    def walk(self, prefix: str = "") -> Iterator[tuple[str, PendingWrite | Link]]:
        """See `SessionReader.walk`."""
        return self._do(lambda now: now.walk(prefix))

    def list_dir(self, path: str) -> list[str]:
        """See `SessionReader.list_dir`."""
        return self._do(lambda now: now.list_dir(path))

    def is_empty(self, path: str) -> bool:
        """See `SessionReader.is_empty`."""
        return self._do(lambda now: now.is_empty(path))

    def size(self, found: PendingWrite | Link) -> int:
        """See `SessionReader.size`."""
        return self._do(lambda now: now.size(found))

    def changed(self) -> list[tuple[str, PendingWrite | Link | None]]:
        """See `SessionReader.changed`."""
        return self._do(lambda now: now.changed())

    def write(
        self, key: str, data: Bytes, known: Known | None = None, *, only_new: bool = False
    ) -> None:
        """See `LocalSession.write`."""
        check_key(key)
        self._do(lambda now: now.write(key, data, known, only_new=only_new))

    def delete(self, key: str, known: Known | None = None) -> bool:
        """See `LocalSession.delete`."""
        return self._do(lambda now: now.delete(key, known))

    def clear(self, path: str, known: Known | None = None) -> None:
        """See `LocalSession.clear`."""
        self._do(lambda now: now.clear(path, known))

    def link(self, path: str, found: Link, known: Known | None = None) -> None:
        """See `LocalSession.link`."""
        self._do(lambda now: now.link(path, found, known))

    def values_at(self, path: str, found: Link) -> list[tuple[str, Link]]:
        """See `SessionReader.values_at`."""
        return self.now.values_at(path, found)

    def linked(self, path: str) -> tuple[Link | None, list[tuple[str, PendingWrite | Link | None]]]:
        """See `SessionReader.linked`."""
        return self._do(lambda now: now.linked(path))

    def frozen(self) -> AbstractContextManager[None]:
        """See `LocalSession.frozen`."""
        self.check_open()  # another process may have stored it
        return self.now.frozen()

    def check_open(self) -> None:
        """See `LocalSession.check_open`."""
        self._do(lambda now: now.check_open())

    def look_again(self) -> None:
        """See `LocalSession.look_again`."""
        self.now.look_again()

    def refresh(self) -> None:
        """See `LocalSession.refresh`."""
        self.now.refresh()

    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None:
        """See `LocalSession.note`."""
        if kind is RecordKind.COMMIT and isinstance(self.now, LocalSession):
            self._drop_adopted(self.now, commit)
        self.now.note(kind, commit, upto)

    def drop_drafts(self) -> None:
        """See `LocalSession.drop_drafts`."""
        self.now.drop_drafts()

    def drop_damaged(self) -> list[str]:
        """See `LocalSession.drop_damaged`."""
        return self.now.drop_damaged()

    def end(self, how: str, *, keep_folder: bool) -> None:
        """See `LocalSession.end`."""
        if not keep_folder:
            with suppress(SessionClosedError):
                self.check_open()  # another process may have stored it
            if isinstance(self.now, LocalSession):
                self._end_unfinished(self.now, how)
        self.now.end(how, keep_folder=keep_folder)


def _adopter_path(local: LocalSession) -> str:
    """The file with the number of the writer that stores the session, since the first attempt."""
    return f"{folder_of(local.head.id)}/adopter"


def _adopter_of(local: LocalSession) -> int | None:
    try:
        return int(bytes(local.storage.read(_adopter_path(local))), 16)
    except FileNotFoundError:
        return None


def _writes_of(
    local: LocalSession, since: int = 0
) -> Iterator[tuple[JournalRecord, Sequence[Block]]]:
    """The writes of a session from a position on, in an order that has the same result.

    Yields:
        A record, and the blocks of its value.
    """
    for record in local.state.cleared:
        if record.position >= since:
            if record.kind is RecordKind.LINK:
                yield from _gone_above(local, record)
            yield record._replace(kind=RecordKind.CLEAR, cid=NO_CID, tsize=0), ()
            if record.kind is RecordKind.LINK:
                yield from _values_of(local, record)
    for key, it in local.state.entries.items():
        if it.position < since:
            continue
        kind = RecordKind.DELETE if it.is_gone else RecordKind.SET
        blocks: Sequence[Block] = ()
        if not it.is_gone and it.draft != IN_STORE:
            blocks = list(local.drafts.blocks_of(it))
        record = JournalRecord(kind, key, it.writer, 1, is_blind=it.is_blind)
        if not it.is_gone:
            record = record._replace(size=it.size, tsize=it.tsize, cid=it.cid)
        yield record, blocks


def _gone_above(
    local: LocalSession, record: JournalRecord
) -> Iterator[tuple[JournalRecord, Sequence[Block]]]:
    """The deletions of values of the base that made way for a linked folder."""
    parts = record.key.split("/")
    for number in range(len(parts) if record.key else 0):
        key = "/".join(parts[: number + 1])
        link = local.trees.subtree(local.state.root, key)
        if link is None:
            return
        if not local.trees.is_directory(link):
            is_blind = local.state.is_blind(key)
            yield JournalRecord(RecordKind.DELETE, key, record.writer, 1, is_blind=is_blind), ()
            return


def _values_of(
    local: LocalSession, record: JournalRecord
) -> Iterator[tuple[JournalRecord, Sequence[Block]]]:
    """A linked folder as a stored session has it: a record for each key."""
    for key, link in local.values_at(record.key, Link("", record.cid, record.tsize)):
        size = local.trees.size(link)
        value = JournalRecord(RecordKind.SET, key, record.writer, 1)
        yield value._replace(size=size, tsize=link.tsize, cid=link.cid), ()
