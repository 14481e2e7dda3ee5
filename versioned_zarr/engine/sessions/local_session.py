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

from versioned_zarr.blocks.file_reader import leaves_of
from versioned_zarr.blocks.protocol import BlockStore, ServedBlocks, WouldBlockError
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import (
    IN_STORE,
    JournalRecord,
    RecordKind,
    SessionHead,
    folder_of,
    make_session,
    remove_session,
)
from versioned_zarr.engine.sessions.journal_view import REMOVED, JournalView
from versioned_zarr.engine.sessions.pack_staging import PackStaging
from versioned_zarr.engine.sessions.protocol import Known, ended_error
from versioned_zarr.engine.sessions.reused_leaves import NO_LEAVES, ReusedLeaves, stored_blocks
from versioned_zarr.engine.sessions.session_reader import SessionReader
from versioned_zarr.engine.sessions.stable_copy import copy_of, is_large
from versioned_zarr.errors import BlockNotFoundError
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
        storage: stores the journal and the drafts.
        blocks: stores committed values; values that are already there are not written again.
        trees: reads trees.
        head: the session; its folder may not exist yet.
        root: the tree that the session is based on.
        exists: whether the folder exists.
        tree_of: returns the tree of a commit, for commits that other processes make.
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
        # A server removes unreferenced blocks, including blocks that only a session needs.
        self._may_lose_blocks = isinstance(blocks, ServedBlocks)
        self.drafts = PackStaging(storage, blocks, head.id)
        self._journal = JournalView(storage, trees, head, root, tree_of)
        self._ended: str | None = None
        self._may_have_folder = exists
        self._start_again()
        self._journal.is_shared = exists
        if exists:
            self._journal.open()
            self.refresh()

    def _start_again(self) -> None:
        """Initialize the state of this process."""
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._writers: set[int] = set()

    def before_fork(self) -> None:
        """In a process that is about to fork: the child may write to the session too."""
        self._journal.is_shared = True

    def after_fork(self) -> None:
        """In a forked child: release what belongs to the parent."""
        self._journal.is_shared = True
        self.drafts.after_fork()
        self._start_again()
        # The position in an open file is shared with the parent, so each opens the file itself.
        was_open = self._journal.is_open
        self._journal.after_fork()
        if was_open:
            self._join()

    @property
    def state(self) -> ChangeSet:
        """The writes of the session, over its base."""
        return self._journal.state

    @property
    def consumed(self) -> int:
        """The position up to which this process has read the journal."""
        return self._journal.position

    @property
    def closed(self) -> str | None:
        """How the session ended; None while it has not."""
        is_removed = self._journal.is_removed
        return REMOVED if self._ended is None and is_removed else self._ended

    @property
    def exists(self) -> bool:
        """Whether the session has a folder: it has written, or was shared with other processes."""
        return self._journal.is_open

    # Reading

    def find(self, key: str) -> PendingWrite | Link | None:
        """The contents of a key: a pending value, a committed value, or nothing."""
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
        except FileNotFoundError:  # its draft has become a pack
            return None

    # Writing

    def write(
        self, key: str, data: Bytes, known: Known | None = None, *, only_new: bool = False
    ) -> None:
        """Write a value. It survives the death of the process once this returns.

        Args:
            key: a Zarr key.
            data: the value. It is copied before it is hashed, because zarr passes views of users'
                arrays; a large value is hashed again from the written bytes instead.
            known: the position up to which the caller knows all writes of others; None if it knows
                what this process knows.
            only_new: do nothing if the key already has a value.

        Raises:
            InvalidKeyError: the key is invalid, or is above or below another key's value.
            SessionClosedError: the session has ended.
            StorageError: the value could not be stored; the session is unchanged.
        """
        check_key(key)
        self._write(key, data, known, only_new=only_new, may_reuse=True)

    def _write(
        self, key: str, data: Bytes, known: Known | None, *, only_new: bool, may_reuse: bool
    ) -> None:
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
                if len(file.blocks) == 1:
                    offset = draft.reserve(file.blocks)
                    draft.write(offset, file.blocks)
                    self._set(key, file, number, offset, known)
                    return
                reused = self._reusable(key, file) if may_reuse else NO_LEAVES
                blocks = stored_blocks(file, reused)
                offset = draft.reserve(blocks)
                self._writers.add(threading.get_ident())
            draft.write(offset, blocks)
            if not is_copied and not draft.holds(offset, blocks):
                # The data changed meanwhile: the written bytes differ from the hashed bytes.
                draft.has_failed = True
                self._write(key, bytes(data), known, only_new=only_new, may_reuse=may_reuse)
                return
            with self._lock, self.drafts.keeping(reused) as is_kept:
                self._journal.settle()
                if is_kept:
                    self._set(key, file, number, offset, known, reused)
                    return
            # The leaves were collected meanwhile.
            self._write(key, data, known, only_new=only_new, may_reuse=False)
        finally:
            if threading.get_ident() in self._writers:
                with self._lock:
                    self._writers.discard(threading.get_ident())
                    self._changed.notify_all()

    def delete(self, key: str, known: Known | None = None) -> bool:
        """Delete a key; returns whether it existed."""
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
        """Delete everything in a folder and below it."""
        with self._lock:
            self._begin_write()
            if not self.state.tree.is_empty(path):
                seen = known if isinstance(known, int) else self.consumed
                writer = self._journal.writer
                self._journal.append(JournalRecord(RecordKind.CLEAR, path, writer, seen))

    def link(self, path: str, found: Link, known: Known | None = None) -> None:
        """Let a stored value or directory replace what is at a path. Nothing is read or copied.

        One record in the journal, O(depth) in the tree.

        Args:
            path: a key, or a folder; "" for the root.
            found: a link from the tree of the base commit, or of one in its history: as long as
                there is a session, a `gc` keeps those.
            known: as in `write`.

        Raises:
            InvalidKeyError: a value is above the path, or a folder is where a value shall be, or a
                value where a folder shall be.
            SessionClosedError: the session has ended.
        """
        if path:
            check_key(path)
        is_folder = self.trees.is_directory(found)
        size = 0 if is_folder else self.trees.size(found)
        with self._lock:
            self._begin_write()
            writer = self._journal.writer
            if is_folder:
                seen = known if isinstance(known, int) else self.consumed
            else:
                seen = self._seen(path, known)
            record = JournalRecord(
                RecordKind.LINK if is_folder else RecordKind.SET,
                path,
                writer,
                seen,
                size=size,
                tsize=found.tsize,
                cid=found.cid,
                is_blind=self.state.is_blind(path),
            )
            if is_folder:
                self.state.check_folder(path)
                self._journal.append(record)
            else:
                self._journal.set(record)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Block the writers of this process, and wait for writes in progress."""
        with self._lock:
            self.check_open()
            # An interrupt may have kept this thread from recording the end of its write.
            self._writers.discard(threading.get_ident())
            self._changed.wait_for(lambda: not (self._writers and self._writers & _running()))
            yield

    def check_open(self) -> None:
        """Raise SessionClosedError if the session has ended, here or in another process."""
        self._journal.check_removed()
        closed = self.closed
        if closed is not None:
            raise ended_error(self.head, closed)
        if self._process != os.getpid():
            self.after_fork()

    def _begin_write(self) -> None:
        self.check_open()
        if not self._journal.is_open:
            self.materialise()
        self.drafts.own()  # tells other processes that the session is alive
        if self._journal.is_shared:
            self._journal.name_writer()
        self.refresh()

    def _write_again(self, key: str, file: unixfs.File, known: Known | None) -> bool:
        """Record a value that is already stored, without writing it; returns whether it was."""
        written = self._journal.written.get(file.cid)
        if written is not None and written.draft != IN_STORE:
            self._set(key, file, written.draft, written.offset, known, written.reused)
            return True
        if not self._may_lose_blocks and file.cid in self.blocks:
            with self.blocks.keep([cid for cid, _ in file.blocks]) as is_kept:
                if is_kept:
                    self._set(key, file, IN_STORE, 0, known)
                    return True
        return False

    def _reusable(self, key: str, file: unixfs.File) -> ReusedLeaves:
        """The leaves of a new value that need not be stored again.

        A `gc` on another machine does not know what a session here reuses. It keeps the commit that
        the session is based on, so only leaves of the value that the key has there are reused.
        """
        if not self._may_lose_blocks:
            return self.drafts.reusable(file)
        try:
            with self.blocks.near():
                link = self.trees.find(self.state.root, key)
                before = [] if link is None else list(leaves_of(self.blocks.get, link.cid))
        except (WouldBlockError, BlockNotFoundError):
            return NO_LEAVES
        return self.drafts.reusable(file, frozenset(before))

    def _set(
        self,
        key: str,
        file: unixfs.File,
        draft: int,
        offset: int,
        known: Known | None,
        reused: ReusedLeaves = NO_LEAVES,
    ) -> None:
        seen, writer = self._seen(key, known), self._journal.writer
        place = (draft, offset, file.size, file.tsize, file.cid, self.state.is_blind(key))
        record = JournalRecord(RecordKind.SET, key, writer, seen, *place, reused=reused)
        self._journal.set(record)

    def _seen(self, key: str, known: Known | None) -> int:
        """The position up to which the writer of a key knows the writes of others to it."""
        upto = known if isinstance(known, int) else None
        return self.state.seen(key, upto, self.consumed)

    # The journal

    def share(self) -> None:
        """Prepare for other processes, which open the session by its id."""
        with self._lock:
            self._journal.is_shared = True
            self.materialise()
            self._journal.name_writer()

    def writer_name(self, writer: int) -> str:
        """The process that writes under a number: its ID and machine, for errors."""
        return self._journal.writer_name(writer)

    def materialise(self) -> None:
        """Create the session's folder, so that other processes can write to it."""
        with self._lock:
            if not self._journal.is_open and not self._join():
                self._may_have_folder = True
                make_session(self.storage, self.blocks, self.head)
                self._journal.open(create=True)

    def _join(self) -> bool:
        """Open the journal if another process has created it; returns whether it exists."""
        if not self._journal.is_shared:
            return False
        try:
            self._journal.open()
        except FileNotFoundError:
            return False
        return True

    def position(self) -> int:
        """The position up to which this process has read the journal, after a refresh."""
        with self._lock:
            self.refresh()
            return self.consumed

    def known(self) -> int:
        """Like `position`, without a refresh."""
        return self.consumed

    def look_again(self) -> None:
        """Read the writes of other processes; same as `refresh`: the journal has all of them."""
        self.refresh()

    def refresh(self) -> None:
        """Read what other processes have written since; one system call if they have not."""
        if not self._journal.is_open:
            self._join()
        self._journal.refresh()

    # Committing

    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None:
        """Append an intent or a commit to the journal; both apply to the records before `upto`."""
        with self._lock:
            if self._journal.is_open:
                writer = self._journal.writer
                self._journal.append(JournalRecord(kind, "", writer, upto, cid=commit))
            elif kind is RecordKind.COMMIT:
                self._journal.rebase(commit, upto)

    def close_drafts(self) -> None:
        """Close the drafts of this process and of dead processes, so that they can become packs.

        Later writes of equal values are stored again.
        """
        self._journal.written = {}
        self.drafts.close_current()
        self.drafts.adopt(self.state.entries.values())

    def release(self) -> None:
        """Close the drafts of this process, which writes no more for now: it is not alive here.

        The commit takes the drafts over, instead of copying from them. A later write begins another
        draft.
        """
        with self.frozen():
            self._journal.written = {}
            self.drafts.after_fork()

    def drop_damaged(self) -> list[str]:
        """Drop writes whose values are damaged or lost; returns the keys.

        Reads and hashes all pending values that this process did not write.
        """
        with self._lock:
            self.refresh()
            damaged = [
                key
                for key, it in self.state.entries.items()
                if not it.is_gone and it.draft != IN_STORE and not self.drafts.is_sound(it)
            ]
            for key in damaged:
                writer = self._journal.writer
                self._journal.append(JournalRecord(RecordKind.FORGET, key, writer, self.consumed))
            return damaged

    def drop_drafts(self) -> None:
        """After a commit: remove its drafts, and the folder if it is no longer needed."""
        self.drafts.drop()
        if self._journal.is_open and not self._journal.is_shared and not self.state.has_changes:
            # If this is interrupted, everything left in the journal is before this base.
            self.head = replace(self.head, base=self.state.base)
            self._journal.remove(self.head)
            self._may_have_folder = False

    def remove_journal(self) -> None:
        """Remove the journal, durably, and read what other processes appended before that."""
        with self._lock:
            if self._journal.is_open:
                self.storage.delete(f"{folder_of(self.head.id)}/journal", durable=True)
                self._journal.refresh()

    def end(self, how: str, *, keep_folder: bool) -> None:
        """Refuse further writes and close all files.

        Args:
            how: what happened to the session, for error messages.
            keep_folder: keep the journal and drafts, so that the session can be resumed.
        """
        with self._lock:
            if not keep_folder and (self._may_have_folder or self._journal.is_open):
                remove_session(self.storage, self.head.id)
            self._ended = how
            self.drafts.close()
            self._journal.close()


def _running() -> set[int]:
    """The threads of this process that run Python code, including those of other libraries."""
    return {*sys._current_frames()}
