"""A local session: the state of a session in one process, over its base tree.

Knows the journal, and keeps the view of it that this process has. Every process that writes into a
session has its own working state of it; the journal makes them agree. It does not know how to
commit.

What was written is what the journal says. So an exception at any point, an interrupt above all,
leaves at most a view that may not be what the journal says; it is then made again from the journal
before it is used next.
"""

from __future__ import annotations

import os
import secrets
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from versioned_zarr.blocks.file_reader import read_stored
from versioned_zarr.blocks.protocol import BlockStore, ServedBlocks
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import (
    IN_STORE,
    JournalRecord,
    RecordKind,
    SessionHead,
    decode_records,
    encode_record,
    folder_of,
    make_session,
    open_journal,
    remove_session,
)
from versioned_zarr.engine.sessions.pack_staging import PackStaging
from versioned_zarr.engine.sessions.protocol import Known, check_not_ended
from versioned_zarr.engine.sessions.stable_copy import copy_of, is_large
from versioned_zarr.errors import InvalidKeyError, KeyNotFoundError
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import AppendLog, Bytes, Storage
from versioned_zarr.tree.keys import check_key
from versioned_zarr.tree.lookup import Trees


class LocalSession:
    """A session as one process sees it. Thread-safe; one for each session and process.

    Args:
        storage: where the journal and the drafts live.
        blocks: where committed values are, and where values are looked for before they are
            written again.
        trees: reads trees.
        head: the session; its folder may not exist yet.
        root: the tree that the session is based on.
        exists: whether the folder is there.
        tree_of: gives the tree of a commit, for commits that other processes make.
    """

    def __init__(
        self,
        storage: Storage,
        blocks: BlockStore,
        trees: Trees,
        head: SessionHead,
        root: Cid,
        *,
        exists: bool,
        tree_of: Callable[[Cid], Cid],
    ) -> None:
        self.storage, self.blocks, self.trees, self.head = storage, blocks, trees, head
        self.is_remote = False
        # A server removes what nothing names there, and so what a session alone counts on.
        self._may_lose_blocks = isinstance(blocks, ServedBlocks)
        self.state = ChangeSet(trees, head.base, root)
        self.drafts = PackStaging(storage, blocks, head.id)
        self.consumed = 0
        self.closed: str | None = None
        self._tree_of = tree_of
        self._log: AppendLog | None = None
        self._written: dict[Cid, PendingWrite] = {}
        self._is_in_doubt = False
        self._may_have_folder = exists
        self._start_again()
        self._is_shared = exists
        if exists:
            self._log = open_journal(storage, head.id)
            self.refresh()

    def _start_again(self) -> None:
        """Set up what belongs to this process alone: the lock and its number."""
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._writers: set[int] = set()
        self.writer = secrets.randbits(32)

    def before_fork(self) -> None:
        """In a process that is about to fork: the child may write into the session too."""
        self._is_shared = True

    def after_fork(self) -> None:
        """In a forked child: let go of what is the parent's alone."""
        self._is_shared = True
        self.drafts.after_fork()
        self._written.clear()
        self._start_again()
        if self._log is not None:
            # A position in an open file is shared with the parent; each needs one of its own.
            log, self._log = self._log, None
            log.close()
            self._join()

    @property
    def exists(self) -> bool:
        """Whether the session has a folder: it has written, or was handed to others."""
        return self._log is not None

    # Reading

    def find(self, key: str) -> PendingWrite | Link | None:
        """What lies under a key: something pending, something committed, or nothing."""
        with self._lock:
            self.refresh()
            return self.state.find(key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value or a range of them, clamped as slices are.

        Raises:
            KeyNotFoundError: there is no value under this key.
        """
        found = self.find(key)
        if found is None:
            raise KeyNotFoundError(f"no value under {key!r} in session {self.head.id}", key=key)
        return self.read_found(found, start, end)

    def read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """The bytes of what `find` or `walk` gave."""
        if isinstance(found, PendingWrite) and found.draft != IN_STORE:
            try:
                return self.drafts.read(found, start, end)
            except FileNotFoundError:
                pass  # its draft has become a pack since
        return read_stored(self.blocks, found.cid, start, end)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, PendingWrite | Link]]:
        """All values in a folder and below it, sorted; a view of this moment."""
        with self._lock:
            self.refresh()
            return iter(list(self.state.tree.walk(prefix)))

    def list_dir(self, path: str) -> list[str]:
        """The names directly in a folder."""
        with self._lock:
            self.refresh()
            return self.state.tree.list_dir(path)

    def is_empty(self, path: str) -> bool:
        """Whether no value lies in a folder."""
        with self._lock:
            self.refresh()
            return self.state.tree.is_empty(path)

    def size(self, found: PendingWrite | Link) -> int:
        """The length in bytes of a value."""
        return found.size if isinstance(found, PendingWrite) else self.trees.size(found)

    def changed(self) -> list[tuple[str, PendingWrite | None]]:
        """Every key that was touched: what it holds now, or None if it was deleted."""
        with self._lock:
            self.refresh()
            return list(self.state.tree.changed())

    # Writing

    def write(
        self, key: str, data: Bytes, known: Known | None = None, *, only_new: bool = False
    ) -> None:
        """Put a value under a key. It survives the death of the process once this returns.

        Args:
            key: a Zarr key.
            data: the value; copied before it is hashed, since zarr passes views of users' arrays.
                A large one is hashed again as it was written instead.
            known: the position up to which the caller knows all that others have written; None
                if it knows what this process knows.
            only_new: leave the key as it is if it holds a value.

        Raises:
            InvalidKeyError: no such key can be, or it lies above or below another key's value.
            SessionClosedError: the session has ended.
            StorageError: the value could not be stored; the session is as it was.
        """
        check_key(key)
        is_copied = not is_large(data)
        file = unixfs.build_file(copy_of(data) if is_copied else data, self.blocks.hash)
        try:
            with self._lock:
                self._begin_write()
                if only_new and self.state.tree.get(key) is not None:
                    return
                if self._write_again(key, file, known):
                    return
                number, draft = self.drafts.own()
                offset = draft.reserve(file.blocks)
                if len(file.blocks) == 1:
                    draft.write(offset, file.blocks)
                    self._set(key, file, number, offset, known)
                    return
                self._writers.add(threading.get_ident())
            draft.write(offset, file.blocks)
            if not is_copied and not draft.holds(offset, file.blocks):
                # Somebody changed it meanwhile: what was hashed is not what was written.
                draft.has_failed = True
                self.write(key, bytes(data), known, only_new=only_new)
                return
            with self._lock:
                self._check()
                self._set(key, file, number, offset, known)
        finally:
            if threading.get_ident() in self._writers:
                with self._lock:
                    self._writers.discard(threading.get_ident())
                    self._changed.notify_all()

    def delete(self, key: str, known: Known | None = None) -> bool:
        """Take a key away; says whether it was there."""
        with self._lock:
            self._begin_write()
            if self.state.tree.get(key) is None:
                return False
            seen = self._seen(key, known)
            is_blind = self.state.is_blind(key)
            self._append(
                JournalRecord(RecordKind.DELETE, key, self.writer, seen, is_blind=is_blind)
            )
            return True

    def clear(self, path: str, known: Known | None = None) -> None:
        """Take away all that lies in a folder and below it."""
        with self._lock:
            self._begin_write()
            if not self.state.tree.is_empty(path):
                seen = known if isinstance(known, int) else self.consumed
                self._append(JournalRecord(RecordKind.CLEAR, path, self.writer, seen))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Hold off the writers of this process, and wait for those that are under way."""
        with self._lock:
            self.check_open()
            # An interrupt may have kept this very thread from saying that its write has ended.
            self._writers.discard(threading.get_ident())
            self._changed.wait_for(lambda: not (self._writers and self._writers & _running()))
            yield

    def check_open(self) -> None:
        """Raise SessionClosedError if the session has ended."""
        check_not_ended(self.head, self.closed)
        if self._process != os.getpid():
            self.after_fork()

    def _begin_write(self) -> None:
        self.check_open()
        if self._log is None:
            self.materialise()
        self.drafts.own()  # tells others that the session is alive
        self.refresh()

    def _write_again(self, key: str, file: unixfs.File, known: Known | None) -> bool:
        """Enter a value that is there already, without writing it; says whether it was."""
        written = self._written.get(file.cid)
        if written is not None and written.draft != IN_STORE:
            self._set(key, file, written.draft, written.offset, known)
            return True
        if not self._may_lose_blocks and file.cid in self.blocks:
            with self.blocks.keep([cid for cid, _ in file.blocks]) as is_kept:
                if is_kept:
                    self._set(key, file, IN_STORE, 0, known)
                    return True
        return False

    def _set(
        self, key: str, file: unixfs.File, draft: int, offset: int, known: Known | None
    ) -> None:
        seen = self._seen(key, known)
        place = (draft, offset, file.size, file.tsize, file.cid, self.state.is_blind(key))
        record = JournalRecord(RecordKind.SET, key, self.writer, seen, *place)
        pending = PendingWrite(record, is_unseen=False)
        self._is_in_doubt = True
        try:
            # Refuses a key that cannot be here before anything is on record.
            self.state.tree.put(key, pending)
        except InvalidKeyError:
            self._is_in_doubt = False
            raise
        start, end = self._log_record(record)
        if start != self.consumed:
            self._take_in(start)
            self.state.tree.put(key, pending)
        pending.position = start
        self.state.enter(key, pending, seen)
        self._written.setdefault(file.cid, pending)
        self.consumed = end
        self._is_in_doubt = False

    def _seen(self, key: str, known: Known | None) -> int:
        """Up to which position of the journal the writer of a key knows what others wrote to it."""
        upto = known if isinstance(known, int) else None
        return self.state.seen(key, upto, self.consumed)

    def _append(self, record: JournalRecord) -> None:
        """Put a record on the journal and take it in: it counts once it is on the journal."""
        self._is_in_doubt = True
        start, end = self._log_record(record)
        if start != self.consumed:
            self._take_in(start)
        self._apply(record._replace(position=start))
        self.consumed = end
        self._is_in_doubt = False

    def _log_record(self, record: JournalRecord) -> tuple[int, int]:
        """Put a record on the journal; gives where it begins and ends."""
        assert self._log is not None
        encoded = encode_record(record)
        end = self._log.append(encoded)
        if self._log.is_removed():
            self.closed = "was discarded elsewhere"
            self.check_open()
        return end - len(encoded), end

    # The journal

    def share(self) -> None:
        """Make ready for other processes, which will know the session by its id."""
        with self._lock:
            self._is_shared = True
            self.materialise()

    def materialise(self) -> None:
        """Give the session its folder, so that others can write into it."""
        with self._lock:
            if self._log is None and not self._join():
                self._may_have_folder = True
                make_session(self.storage, self.blocks, self.head)
                self._log = open_journal(self.storage, self.head.id, create=True)

    def _join(self) -> bool:
        """Open the journal if another process has made it meanwhile; says whether it has."""
        if not self._is_shared:
            return False
        try:
            self._log = open_journal(self.storage, self.head.id)
        except FileNotFoundError:
            return False
        return True

    def position(self) -> int:
        """Up to where this process has taken in the journal, which it first brings up to date."""
        with self._lock:
            self.refresh()
            return self.consumed

    def known(self) -> int:
        """As `position`, of what was taken in before."""
        return self.consumed

    def look_again(self) -> None:
        """Take in what others have written, as `refresh`: the journal tells all of it."""
        self.refresh()

    def refresh(self) -> None:
        """Take in what other processes have written since; a system call if they have not."""
        self._check()
        if self._log is None and not self._join():
            return
        assert self._log is not None
        end = self._log.end()
        if end != self.consumed:
            self._is_in_doubt = True
            self._take_in(end)
            self._is_in_doubt = False

    def _check(self) -> None:
        """Take in the whole journal again, if something has stopped this process at a write."""
        if self._is_in_doubt:
            base = self.head.base
            self.state = ChangeSet(self.trees, base, self._tree_of(from_text(base)))
            self._written = {}
            self.consumed = 0
            if self._log is not None:
                self._take_in(self._log.end())
            self._is_in_doubt = False

    def _take_in(self, end: int) -> None:
        assert self._log is not None
        where = f"{folder_of(self.head.id)}/journal"
        data = self._log.read(self.consumed, end)
        records, position = decode_records(data, self.consumed, where)
        for record in records:
            self._apply(record)
        self.consumed = position

    def _apply(self, record: JournalRecord) -> None:
        is_own = record.writer == self.writer
        if record.kind is RecordKind.SET or record.kind is RecordKind.DELETE:
            pending = self.state.lay(record, is_own=is_own)
            if is_own and not pending.is_gone:
                self._written.setdefault(pending.cid, pending)
        elif record.kind is RecordKind.CLEAR:
            self.state.clear(record, is_own=is_own)
        elif record.kind is RecordKind.INTENT:
            self.state.intent = record
        elif record.kind is RecordKind.FORGET:
            self.state.forget(record.key)
            self._written = {}
        else:
            self._rebase(record.cid, record.seen)

    def _rebase(self, commit: Cid, upto: int) -> None:
        self._written = {}
        self.state.rebase(commit, self._tree_of(commit), upto)

    # Committing

    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None:
        """Put an intent or a commit on the journal; both speak of the records before `upto`."""
        with self._lock:
            if self._log is not None:
                self._append(JournalRecord(kind, "", self.writer, upto, cid=commit))
            elif kind is RecordKind.COMMIT:
                self._rebase(commit, upto)

    def close_drafts(self) -> None:
        """Make the drafts ready to become packs: those of this process, and of those that are gone.

        Equal values that are written next are written again.
        """
        self._written = {}
        self.drafts.close_current()
        self.drafts.adopt(self.state.entries.values())

    def drop_damaged(self) -> list[str]:
        """Take back what other processes wrote and did not survive; gives its keys.

        Reads and hashes all that is pending and was not written by this process.
        """
        with self._lock:
            self.refresh()
            damaged = [
                key
                for key, pending in self.state.entries.items()
                if not pending.is_gone and pending.draft != IN_STORE and not self.is_sound(pending)
            ]
            for key in damaged:
                self._append(JournalRecord(RecordKind.FORGET, key, self.writer, self.consumed))
            return damaged

    def is_sound(self, pending: PendingWrite) -> bool:
        """Whether a pending value is what the journal says; reads what other processes wrote."""
        try:
            return self.drafts.is_sound(pending)
        except FileNotFoundError:  # its draft has become a pack since, if it is not gone
            return pending.cid in self.blocks or not self.blocks.missing([pending.cid])

    def drop_drafts(self) -> None:
        """After a commit: remove the drafts that it took, and a folder that nobody needs."""
        self.drafts.drop()
        if self._log is not None and not self._is_shared and not self.state.has_changes:
            # What is left of the journal, should this be interrupted, is all before this base.
            self.head = replace(self.head, base=self.state.base)
            self._is_in_doubt = True
            log, self._log = self._log, None
            log.close()
            self.consumed = 0
            remove_session(self.storage, self.head.id)
            self._may_have_folder = self._is_in_doubt = False

    def end(self, how: str, *, keep_folder: bool) -> None:
        """Refuse further writes and let go of all that is open.

        Args:
            how: what happened to the session, as it will stand in errors.
            keep_folder: leave journal and drafts, so that the session can be resumed.
        """
        with self._lock:
            if not keep_folder and (self._may_have_folder or self._log is not None):
                remove_session(self.storage, self.head.id)
            self.closed = how
            self.drafts.close()
            if self._log is not None:
                log, self._log = self._log, None
                log.close()


def _running() -> set[int]:
    """The threads of this process that run Python code, whoever started them."""
    return {*sys._current_frames()}
