"""A session on lakeFS: each write is an object on a hidden branch when it returns.

The branch is the journal: its differences from its base commit are the writes of the session. Every
object stores the CID of its value and its writer, so that processes that share a session see each
other's writes and detect independent writes to the same key.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from versioned_zarr import process_identity
from versioned_zarr.backends.lakefs.api.api_errors import PreconditionFailedError
from versioned_zarr.backends.lakefs.api.objects import Stat
from versioned_zarr.backends.lakefs.lakefs_context import LakefsContext
from versioned_zarr.backends.lakefs.sessions.session_branch import (
    CommittedValue,
    SessionBranch,
    SessionWrite,
    write_in,
)
from versioned_zarr.backends.lakefs.sessions.write_gate import WriteGate
from versioned_zarr.backends.lakefs.sessions.write_numbers import WriteNumbers
from versioned_zarr.backends.lakefs.trees.lakefs_blocks import LakefsBlocks
from versioned_zarr.blocks.file_reader import read_stored
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind, SessionHead
from versioned_zarr.engine.sessions.protocol import Known, ended_error
from versioned_zarr.engine.sessions.session_reader import SessionReader
from versioned_zarr.engine.sessions.stable_copy import copy_of
from versioned_zarr.errors import (
    InvalidKeyError,
    RefNotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.keys import check_key
from versioned_zarr.tree.tree_builder import TreeBuilder


class LakefsSession(SessionReader):
    """A session as one process sees it; see `versioned_zarr.engine.sessions.protocol.SessionState`.

    Args:
        parts: the repository.
        head: the session; its branch may not exist yet.
        root: the tree that the session is based on.
        branch: the name of its branch, if that exists.
    """

    blocks: LakefsBlocks
    is_remote = True

    def __init__(
        self, parts: LakefsContext, head: SessionHead, root: Cid, branch: str | None = None
    ) -> None:
        super().__init__(parts.blocks, parts.trees, head)
        self._commits, self._tree_reader = parts.commits, parts.tree_reader
        self.state = ChangeSet(parts.trees, head.base, root)
        self.consumed = 0
        self.closed: str | None = None
        self.branch = SessionBranch(parts, head, branch)
        self._gate, self._numbers = WriteGate(), WriteNumbers()
        self._workers = parts.lakefs_folder.workers
        self._is_shared = branch is not None
        self._doubted: set[str] = set()
        """Keys for which it is unknown whether a write of this process succeeded."""
        self._process = os.getpid()
        if branch is not None:
            self.refresh()
            intended = self.branch.intended()
            if intended is not None:
                seen = self.consumed + 1
                intent = JournalRecord(RecordKind.INTENT, "", 0, seen, cid=intended)
                self.state.intents = [intent]

    def before_fork(self) -> None:
        """See `SessionState`: the parent and the child both need the session's branch."""
        with suppress(VersionedZarrError):  # tells the next writer
            self.share()

    def after_fork(self) -> None:
        """See `SessionState`: the child and the parent share the session from now on."""
        self._process = os.getpid()
        self._gate.renew()
        self._numbers.after_fork()
        self._is_shared = True

    @property
    def exists(self) -> bool:
        """Whether the session has a branch."""
        return self.branch.name is not None

    # Reading

    def find(self, key: str) -> PendingWrite | Link | None:
        """See `SessionReader.find`; a request if others may write to it, two for a missing key."""
        if self._is_shared and self.exists:
            self._look(key)
        elif self._doubted:
            self._settle()
        with self._gate.lock:
            return self.state.find(key)

    @contextmanager
    def _fresh(self) -> Iterator[TreeBuilder[PendingWrite]]:
        self.refresh()
        with self._gate.lock:
            yield self.state.tree

    def _pending_bytes(self, found: PendingWrite, start: int, end: int | None) -> memoryview | None:
        start, end, _ = slice(start, end).indices(found.size)
        return self.branch.read(found, start, max(start, end))

    # Writing

    def write(
        self, key: str, data: Bytes, known: Known | None = None, *, only_new: bool = False
    ) -> None:
        """See `LocalSession.write`: one request; one more if others may have written the key."""
        check_key(key)
        self.blocks.check_may_wait()
        self.branch.check_length(key)
        file = unixfs.build_file(copy_of(data), self.blocks.hash)
        self._write(key, file, known, only_new=only_new)

    def _write(
        self, key: str, file: unixfs.File | CommittedValue, known: Known | None, *, only_new: bool
    ) -> None:
        with self._writing(key):
            if only_new and self.find(key) is not None:
                return
            with self._gate.lock:
                self.state.check_place(key)  # before any request
            self._doubted.add(key)
            rivals = self._send(key, file, known)
            with self._gate.lock:
                record = JournalRecord(
                    RecordKind.SET,
                    key,
                    self._numbers.writer,
                    0,
                    size=file.size,
                    tsize=file.tsize,
                    cid=file.cid,
                    is_blind=self.state.is_blind(key),
                )
                self._take(key, record, rivals, is_own=True)
                self._doubted.discard(key)

    @contextmanager
    def _writing(self, key: str) -> Iterator[None]:
        """A context in which no other thread of this process writes the key or commits."""
        with self._gate.lock:
            self.check_open()
            self.materialise()
            self._gate.enter()
        with self._gate.at(key):
            yield

    def link(self, path: str, found: Link, known: Known | None = None) -> None:
        """See `LocalSession.link`: two requests per key, none of which transfers a value."""
        if path:
            check_key(path)
        self.check_open()
        self.blocks.check_may_wait()
        values = self.values_at(path, found)
        for key, _ in values:
            self.branch.check_length(key)
        if self.trees.is_directory(found):
            with self._gate.lock:
                self.state.check_folder(path)
            self.clear(path, known)

        def link(value: tuple[str, Link]) -> None:
            stored = self.branch.stored(value[1])
            if stored is None:
                self.write(value[0], read_stored(self.blocks, value[1].cid), known)
            else:
                self._write(value[0], stored, known, only_new=False)

        self._workers.map(link, values)

    def _send(
        self, key: str, file: unixfs.File | CommittedValue, known: Known | None
    ) -> tuple[PendingWrite, ...]:
        """Send a value; returns the different values that others wrote to the key independently."""
        if not self._is_shared:
            self._put(key, file)
            return ()
        with self._gate.lock:
            found = self.state.tree.get(key)
        before = None if found is None else found.cid
        if before is None:
            try:
                self._put(key, file, only_new=True)
                return ()
            except PreconditionFailedError:
                pass  # another process of the session was first, or the response was lost
        return self._send_over(key, file, before, known)

    def _put(
        self,
        key: str,
        file: unixfs.File | CommittedValue,
        rival: PendingWrite | None = None,
        *,
        only_new: bool = False,
    ) -> None:
        with self._gate.lock:
            by = self._numbers.next()
        self.branch.send(key, file, by, rival, only_new=only_new)

    def _send_over(
        self, key: str, file: unixfs.File | CommittedValue, before: Cid | None, known: Known | None
    ) -> tuple[PendingWrite, ...]:
        """Send a value to a key that may have a value that this process does not know of.

        lakeFS cannot replace an object conditionally: if two processes overwrite a value within the
        same few milliseconds, the later one does not detect the earlier one.
        """
        stat = self.branch.stat(key)
        if stat is not None:
            theirs = PendingWrite(self.branch.record(key, stat), is_unseen=True)
            if theirs.cid == file.cid:
                return ()
            if not self._is_aware(key, theirs, write_in(stat), before, known):
                self._put(key, file, theirs)
                return (theirs,)
        self._put(key, file)
        return ()

    def _is_aware(
        self,
        key: str,
        theirs: PendingWrite,
        write: SessionWrite,
        before: Cid | None,
        known: Known | None,
    ) -> bool:
        """Whether the writer of a key knew what another process wrote to it. Uses no clock."""
        if theirs.writer == self._numbers.writer:
            return True
        if known is None or isinstance(known, int):
            return theirs.cid == before
        with self._gate.lock:
            is_seen = self.state.has_seen(key, theirs.cid)
        return is_seen or write.number <= known.get(write.writer, 0)

    def delete(self, key: str, known: Known | None = None) -> bool:  # noqa: ARG002 - deletions leave no object
        """See `LocalSession.delete`."""
        if self.find(key) is None:
            self.check_open()
            return False
        self.blocks.check_may_wait()
        with self._writing(key):
            self._remove([key])
        return True

    def clear(self, path: str, known: Known | None = None) -> None:  # noqa: ARG002 - as there
        """See `LocalSession.clear`: one request per 1000 keys."""
        self.check_open()
        self.blocks.check_may_wait()
        keys = [key for key, _ in self.walk(path)]
        if keys:
            with self._writing(path):
                self._remove(keys)

    def _remove(self, keys: list[str]) -> None:
        """Delete keys, and determine which are deleted even if a response is lost."""
        self._doubted.update(keys)
        try:
            self.branch.delete(keys)
        except (StorageError, RefNotFoundError) as error:
            self.branch.explain(error)
            self._settle()
            with self._gate.lock:
                if any(self.state.tree.get(key) is not None for key in keys):
                    raise
            return
        writer = self._numbers.writer
        with self._gate.lock:
            for key in keys:
                record = JournalRecord(RecordKind.DELETE, key, writer, 0)
                self._take(key, record, (), is_own=True)
            self._doubted.difference_update(keys)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """See `LocalSession.frozen`."""
        with self._gate.lock:
            self.check_open()
            self._gate.wait()
            self._settle()
            yield

    def check_open(self) -> None:
        """See `LocalSession.check_open`."""
        if self.closed is not None:
            raise ended_error(self.head, self.closed)
        if self._process != os.getpid():
            self.after_fork()

    # Writes of other processes

    def _take(
        self, key: str, record: JournalRecord, rivals: tuple[PendingWrite, ...], *, is_own: bool
    ) -> None:
        """Apply a write to the state; writes of this and other processes are recorded as seen."""
        self.consumed += 1
        self.state.entries.pop(key, None)
        placed = record._replace(position=self.consumed)
        pending = self.state.lay(placed, lambda _: True, is_own=is_own)
        pending.rivals = rivals

    def _look(self, key: str) -> None:
        """Read the value of one key from the server."""
        self.blocks.check_may_wait()
        with suppress(InvalidKeyError):
            check_key(key)
            stat = self.branch.stat(key)
            if stat is None:  # otherwise zarr would read fill values from a session that has ended
                self.branch.head()
            self._take_in(key, stat)

    def _take_in(self, key: str, stat: Stat | None) -> None:
        if stat is None:
            with self._gate.lock:
                if self.state.tree.get(key) is not None:
                    self._take(key, JournalRecord(RecordKind.DELETE, key, 0, 0), (), is_own=False)
            return
        record = self.branch.record(key, stat)
        with self._gate.lock:
            self._numbers.saw(write_in(stat))
        rival = self.branch.rival(key, stat)
        rivals = () if rival is None else (PendingWrite(rival, is_unseen=True),)
        with self._gate.lock:
            found = self.state.tree.get(key)
            is_same = found is not None and found.cid == record.cid
            if not is_same or (rivals and not getattr(found, "rivals", ())):
                self._take(key, record, rivals, is_own=record.writer == self._numbers.writer)

    def _settle(self) -> None:
        """Check the keys for which it is unknown whether a write of this process succeeded."""
        for key in list(self._doubted):
            if self.exists:
                self._look(key)
            self._doubted.discard(key)

    def refresh(self) -> None:
        """See `LocalSession.refresh`: costs requests only if others may write to the session."""
        if self._is_shared and self.exists:
            self.look_again()
        elif self._doubted:
            self._settle()

    def look_again(self) -> None:
        """See `LocalSession.look_again`: reads all differences of the branch from its base.

        Raises:
            StorageError: writes of this session, which is not shared, were removed by others.
        """
        self.blocks.check_may_wait()
        with self._gate.lock:
            before = {key: it for key, it in self.state.entries.items() if not it.is_gone}
        for key, stat in self.branch.changes(self.state.base, list(before)):
            self._take_in(key, stat)
        self._doubted.clear()
        with self._gate.lock:
            lost = [key for key in before if self.state.tree.get(key) is None]
        if lost and not self._is_shared:
            shown = ", ".join(map(repr, lost[:8]))
            raise StorageError(
                f"{len(lost)} values that session {self.head.id} wrote are gone from its branch "
                f"{self.branch.name!r} on lakeFS, which someone else changed: {shown}; "
                "nothing was committed: write them again",
                where=str(self.branch.name),
            )

    def share(self) -> None:
        """See `LocalSession.share`."""
        with self._gate.lock:
            self.materialise()
            self._is_shared = True

    def materialise(self) -> None:
        """Create the session's branch, if it has none."""
        with self._gate.lock:
            if self.branch.name is None:
                self.branch.make(self.state.base)

    def position(self) -> Known:
        """See `LocalSession.position`: the last write of each process up to which all are known."""
        self.refresh()
        return self.known()

    def known(self) -> Known:
        """See `LocalSession.known`."""
        with self._gate.lock:
            return self._numbers.known()

    def writer_name(self, writer: int) -> str:
        """See `LocalSession.writer_name`: objects on the branch name their processes."""
        is_own = writer == self._numbers.writer
        return process_identity.shown() if is_own else self.branch.writer_name(writer)

    # Committing

    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None:
        """See `LocalSession.note`."""
        if kind is RecordKind.INTENT:
            intent = JournalRecord(kind, "", self._numbers.writer, upto, cid=commit)
            self.state.intents = [intent]
        if kind is RecordKind.COMMIT:
            with self._gate.lock:
                there = self._commits.id_of(commit)
                assert there is not None
                self.state.intents = []
                self.branch.landed(there)
                tree = self._tree_reader.tree_of(there).cid
                self.state.rebase(commit, tree, lambda _, position: position <= upto)

    def release(self) -> None:
        """See `LocalSession.release`: this process holds nothing that others wait for."""

    def drop_damaged(self) -> list[str]:
        """See `LocalSession.drop_damaged`: the server keeps all acknowledged writes."""
        return []

    def drop_drafts(self) -> None:
        """See `LocalSession.drop_drafts`: a shared session continues on a new branch."""
        with self._gate.lock:
            if not self.exists:
                return
            if self._is_shared:
                self.branch.begin_again(self.state.base)
            else:
                self.branch.remove()

    def end(self, how: str, *, keep_folder: bool) -> None:
        """See `LocalSession.end`."""
        with self._gate.lock:
            self.closed = how
            if not keep_folder:
                self.branch.remove()
