"""A local session: the state of a session in one process, over its base tree.

Every process that writes to a session has its own state; the journal keeps them consistent. It does
not know how to commit.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from versioned_zarr.blocks.protocol import BlockStore, ServedBlocks
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import (
    IN_STORE,
    JournalRecord,
    RecordKind,
    SessionHead,
    make_session,
    remove_session,
)
from versioned_zarr.engine.sessions.journal_view import REMOVED, JournalView
from versioned_zarr.engine.sessions.pack_staging import PackStaging
from versioned_zarr.engine.sessions.protocol import Known, ended_error
from versioned_zarr.engine.sessions.session_reader import SessionReader
from versioned_zarr.engine.sessions.stable_copy import copy_of, is_large
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes, Storage
from versioned_zarr.tree.keys import check_key
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder


class LocalSession(SessionReader):
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

    is_remote = False

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
        super().__init__(blocks, trees, head)
        self.storage = storage
        # A server removes what nothing names there, and so what a session alone counts on.
        self._may_lose_blocks = isinstance(blocks, ServedBlocks)
        self.drafts = PackStaging(storage, blocks, head.id)
        self._journal = JournalView(storage, trees, head, root, tree_of)
        self._ended: str | None = None
        self._may_have_folder = exists
        self._start_again()
        self._is_shared = exists
        if exists:
            self._journal.open()
            self.refresh()

    def _start_again(self) -> None:
        """Set up what belongs to this process alone."""
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._writers: set[int] = set()

    def before_fork(self) -> None:
        """In a process that is about to fork: the child may write into the session too."""
        self._is_shared = True

    def after_fork(self) -> None:
        """In a forked child: let go of what is the parent's alone."""
        self._is_shared = True
        self.drafts.after_fork()
        self._start_again()
        # A position in an open file is shared with the parent; each needs one of its own.
        was_open = self._journal.is_open
        self._journal.after_fork()
        if was_open:
            self._join()

    @property
    def state(self) -> ChangeSet:
        """What was written, over what the session is based on."""
        return self._journal.state

    @property
    def consumed(self) -> int:
        """Up to where this process has taken in the journal."""
        return self._journal.position

    @property
    def closed(self) -> str | None:
        """How the session ended; None while it has not."""
        is_removed = self._journal.is_removed
        return REMOVED if self._ended is None and is_removed else self._ended

    @property
    def exists(self) -> bool:
        """Whether the session has a folder: it has written, or was handed to others."""
        return self._journal.is_open

    # Reading

    def find(self, key: str) -> PendingWrite | Link | None:
        """What lies under a key: something pending, something committed, or nothing."""
        with self._lock:
            self.refresh()
            return self.state.find(key)

    @contextmanager
    def _fresh(self) -> Iterator[TreeBuilder[PendingWrite]]:
        with self._lock:
            self.refresh()
            yield self.state.tree

    def _pending_bytes(self, found: PendingWrite, start: int, end: int | None) -> memoryview | None:
        if found.draft == IN_STORE:
            return None
        try:
            return self.drafts.read(found, start, end)
        except FileNotFoundError:  # its draft has become a pack since
            return None

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
                self._journal.settle()
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
            writer = self._journal.writer
            self._journal.append(
                JournalRecord(RecordKind.DELETE, key, writer, seen, is_blind=is_blind)
            )
            return True

    def clear(self, path: str, known: Known | None = None) -> None:
        """Take away all that lies in a folder and below it."""
        with self._lock:
            self._begin_write()
            if not self.state.tree.is_empty(path):
                seen = known if isinstance(known, int) else self.consumed
                writer = self._journal.writer
                self._journal.append(JournalRecord(RecordKind.CLEAR, path, writer, seen))

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
        closed = self.closed
        if closed is not None:
            raise ended_error(self.head, closed)
        if self._process != os.getpid():
            self.after_fork()

    def _begin_write(self) -> None:
        self.check_open()
        if not self._journal.is_open:
            self.materialise()
        self.drafts.own()  # tells others that the session is alive
        self.refresh()

    def _write_again(self, key: str, file: unixfs.File, known: Known | None) -> bool:
        """Enter a value that is there already, without writing it; says whether it was."""
        written = self._journal.written.get(file.cid)
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
        self._journal.set(JournalRecord(RecordKind.SET, key, self._journal.writer, seen, *place))

    def _seen(self, key: str, known: Known | None) -> int:
        """Up to which position of the journal the writer of a key knows what others wrote to it."""
        upto = known if isinstance(known, int) else None
        return self.state.seen(key, upto, self.consumed)

    # The journal

    def share(self) -> None:
        """Make ready for other processes, which will know the session by its id."""
        with self._lock:
            self._is_shared = True
            self.materialise()

    def materialise(self) -> None:
        """Give the session its folder, so that others can write into it."""
        with self._lock:
            if not self._journal.is_open and not self._join():
                self._may_have_folder = True
                make_session(self.storage, self.blocks, self.head)
                self._journal.open(create=True)

    def _join(self) -> bool:
        """Open the journal if another process has made it meanwhile; says whether it has."""
        if not self._is_shared:
            return False
        try:
            self._journal.open()
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
        if not self._journal.is_open:
            self._join()
        self._journal.refresh()

    # Committing

    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None:
        """Put an intent or a commit on the journal; both speak of the records before `upto`."""
        with self._lock:
            if self._journal.is_open:
                writer = self._journal.writer
                self._journal.append(JournalRecord(kind, "", writer, upto, cid=commit))
            elif kind is RecordKind.COMMIT:
                self._journal.rebase(commit, upto)

    def close_drafts(self) -> None:
        """Make the drafts ready to become packs: those of this process, and of those that are gone.

        Equal values that are written next are written again.
        """
        self._journal.written = {}
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
                writer = self._journal.writer
                self._journal.append(JournalRecord(RecordKind.FORGET, key, writer, self.consumed))
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
        if self._journal.is_open and not self._is_shared and not self.state.has_changes:
            # What is left of the journal, should this be interrupted, is all before this base.
            self.head = replace(self.head, base=self.state.base)
            self._journal.remove(self.head)
            self._may_have_folder = False

    def end(self, how: str, *, keep_folder: bool) -> None:
        """Refuse further writes and let go of all that is open.

        Args:
            how: what happened to the session, as it will stand in errors.
            keep_folder: leave journal and drafts, so that the session can be resumed.
        """
        with self._lock:
            if not keep_folder and (self._may_have_folder or self._journal.is_open):
                remove_session(self.storage, self.head.id)
            self._ended = how
            self.drafts.close()
            self._journal.close()


def _running() -> set[int]:
    """The threads of this process that run Python code, whoever started them."""
    return {*sys._current_frames()}
