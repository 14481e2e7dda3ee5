"""A session on lakeFS: each write is an object on a hidden branch when it returns.

The branch is the journal: its differences from its base commit are the writes of the session. Every
object stores the CID of its value and its writer, so that processes that share a session see each
other's writes and detect independent writes to the same key.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from versioned_zarr.backends.lakefs.api.api_errors import PreconditionFailedError
from versioned_zarr.backends.lakefs.api.objects import Stat
from versioned_zarr.backends.lakefs.commits.commit_metadata import VALUE_RIVAL
from versioned_zarr.backends.lakefs.lakefs_context import LakefsContext
from versioned_zarr.backends.lakefs.sessions.session_branch import (
    SessionBranch,
    SessionWrite,
    write_in,
)
from versioned_zarr.blocks.file_reader import read_stored
from versioned_zarr.engine.sessions.change_set import ChangeSet, PendingWrite
from versioned_zarr.engine.sessions.journal import JournalRecord, RecordKind, SessionHead
from versioned_zarr.engine.sessions.protocol import Known, check_not_ended
from versioned_zarr.engine.sessions.stable_copy import copy_of
from versioned_zarr.errors import (
    InvalidKeyError,
    KeyNotFoundError,
    RefNotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.storage.protocol import Bytes
from versioned_zarr.tree.keys import check_key

_STRIPES = 1024


class LakefsSession:
    """A session as one process sees it; see `versioned_zarr.engine.sessions.protocol.SessionState`.

    Args:
        parts: the repository.
        head: the session; its branch may not exist yet.
        root: the tree that the session is based on.
        branch: the name of its branch, if that exists.
    """

    def __init__(
        self, parts: LakefsContext, head: SessionHead, root: Cid, branch: str | None = None
    ) -> None:
        self._commits, self._survey = parts.commits, parts.survey
        self._blocks, self._trees = parts.blocks, parts.trees
        self.head = head
        self.state = ChangeSet(parts.trees, head.base, root)
        self.consumed = 0
        self.closed: str | None = None
        self.is_remote = True
        self.branch = SessionBranch(parts, head, branch)
        self._is_shared = branch is not None
        self._doubted: set[str] = set()
        """Keys of which nobody knows whether a write of this process was done."""
        self._seen: dict[int, int] = {}
        """Up to which write of each other process this one has looked."""
        self.writer = self._number = 0
        self._start_again()
        if branch is not None:
            self.refresh()
            intended = self.branch.intended()
            if intended is not None:
                seen = self.consumed + 1
                self.state.intent = JournalRecord(RecordKind.INTENT, "", 0, seen, cid=intended)

    def _start_again(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._under_way = 0
        self._stripes = [threading.RLock() for _ in range(_STRIPES)]
        # A child knows what its parent knew.
        self._seen = {**self._seen, self.writer: self._number}
        self.writer, self._number = secrets.randbits(32), 0

    def before_fork(self) -> None:
        """See `SessionState`: the session's branch has to be there for both."""
        with suppress(VersionedZarrError):  # who writes next is told
            self.share()

    def after_fork(self) -> None:
        """See `SessionState`: the child and the parent share the session from now on."""
        self._start_again()
        self._is_shared = True

    @property
    def exists(self) -> bool:
        """Whether the session has a branch."""
        return self.branch.name is not None

    # Reading

    def find(self, key: str) -> PendingWrite | Link | None:
        """See `LocalSession.find`; a request where others may write into the session."""
        if self._is_shared and self.exists:
            self._look(key)
        elif self._doubted:
            self._settle()
        with self._lock:
            return self.state.find(key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `LocalSession.read`."""
        found = self.find(key)
        if found is None:
            raise KeyNotFoundError(f"no value under {key!r} in session {self.head.id}", key=key)
        return self.read_found(found, start, end)

    def read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """See `LocalSession.read_found`."""
        if isinstance(found, PendingWrite):
            start, end, _ = slice(start, end).indices(found.size)
            data = self.branch.read(found, start, max(start, end))
            if data is not None:
                return data
        return read_stored(self._blocks, found.cid, start, end)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, PendingWrite | Link]]:
        """See `LocalSession.walk`."""
        self.refresh()
        with self._lock:
            return iter(list(self.state.tree.walk(prefix)))

    def list_dir(self, path: str) -> list[str]:
        """See `LocalSession.list_dir`."""
        self.refresh()
        with self._lock:
            return self.state.tree.list_dir(path)

    def is_empty(self, path: str) -> bool:
        """See `LocalSession.is_empty`."""
        self.refresh()
        with self._lock:
            return self.state.tree.is_empty(path)

    def size(self, found: PendingWrite | Link) -> int:
        """See `LocalSession.size`."""
        return found.size if isinstance(found, PendingWrite) else self._trees.size(found)

    def changed(self) -> list[tuple[str, PendingWrite | None]]:
        """See `LocalSession.changed`."""
        self.refresh()
        with self._lock:
            return list(self.state.tree.changed())

    # Writing

    def write(
        self, key: str, data: Bytes, known: Known | None = None, *, only_new: bool = False
    ) -> None:
        """See `LocalSession.write`: one request; one more where others may have written the key."""
        check_key(key)
        self._blocks.check_may_wait()
        self.branch.check_length(key)
        file = unixfs.build_file(copy_of(data), self._blocks.hash)
        with self._writing(key):
            if only_new and self.find(key) is not None:
                return
            self._check_clash(key)
            self._doubted.add(key)
            rivals = self._send(key, file, known)
            with self._lock:
                record = JournalRecord(
                    RecordKind.SET,
                    key,
                    self.writer,
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
        """While one key is written: nobody else of this process writes it, nor commits."""
        with self._lock:
            self.check_open()
            self.materialise()
            self._under_way += 1
        try:
            with self._stripes[hash(key) % _STRIPES]:
                yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._changed.notify_all()

    def _check_clash(self, key: str) -> None:
        """Refuse a key above or below another one's value before anything is sent."""
        with self._lock:
            parts = key.split("/")
            above = ("/".join(parts[:number]) for number in range(1, len(parts)))
            clash = next((path for path in above if self.state.tree.get(path) is not None), None)
            if clash is None and not self.state.tree.is_empty(key):
                clash = f"{key}/{self.state.tree.list_dir(key)[0]}"
        if clash is not None:
            raise InvalidKeyError(
                f"{key!r} and {clash!r} cannot both hold values: one would be both a value and a "
                "folder",
                key=key,
            )

    def _send(self, key: str, file: unixfs.File, known: Known | None) -> tuple[PendingWrite, ...]:
        """Send a value; returns the different values that others wrote there independently."""
        if not self._is_shared:
            self._put(key, file)
            return ()
        before = self._before(key)
        if before is None:
            try:
                self._put(key, file, only_new=True)
                return ()
            except PreconditionFailedError:
                pass  # another process of the session was first, or this one's answer was lost
        return self._send_over(key, file, before, known)

    def _put(self, key: str, file: unixfs.File, rival: str = "", *, only_new: bool = False) -> None:
        """Send a value, and know for certain whether it is there: an answer may be lost."""
        with self._lock:
            self._number += 1
            by = SessionWrite(self.writer, self._number)
        try:
            self.branch.send(key, file, by, rival, only_new=only_new)
        except PreconditionFailedError:
            raise
        except (StorageError, RefNotFoundError) as error:
            if not self._has_sent(key, by):
                self.branch.explain(error)
                raise
            self.branch.sent(key, file)

    def _has_sent(self, key: str, by: SessionWrite) -> bool:
        try:
            stat = self.branch.stat(key)
        except VersionedZarrError:
            return False
        return stat is not None and write_in(stat) == by

    def _send_over(
        self, key: str, file: unixfs.File, before: Cid | None, known: Known | None
    ) -> tuple[PendingWrite, ...]:
        """Send a value where there may be one that this process does not know of.

        lakeFS cannot replace an object on a condition: of two that write within the same few
        milliseconds over a value that was there before, the later one is not told of the other.
        """
        stat = self.branch.stat(key)
        if stat is not None:
            theirs = PendingWrite(self.branch.record(key, stat), is_unseen=True)
            if theirs.cid == file.cid:
                return ()
            if not self._is_aware(key, theirs, write_in(stat), before, known):
                self._put(key, file, to_text(theirs.cid))
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
        """Whether who writes a key knows what another process wrote there. No clock is asked."""
        if theirs.writer == self.writer:
            return True
        if known is None or isinstance(known, int):
            return theirs.cid == before
        with self._lock:
            entry = self.state.entries.get(key)
            if entry is None or entry.is_unseen:
                base = self._trees.find(self.state.root, key)
                is_seen = base is not None and base.cid == theirs.cid
            else:
                is_seen = entry.cid == theirs.cid
        return is_seen or write.number <= known.get(write.writer, 0)

    def _before(self, key: str) -> Cid | None:
        """What this process knows to lie under a key."""
        with self._lock:
            found = self.state.tree.get(key)
        return None if found is None else found.cid

    def delete(self, key: str, known: Known | None = None) -> bool:  # noqa: ARG002 - no trace stays
        """See `LocalSession.delete`."""
        if self.find(key) is None:
            self.check_open()
            return False
        self._blocks.check_may_wait()
        with self._writing(key):
            self._remove([key])
        return True

    def clear(self, path: str, known: Known | None = None) -> None:  # noqa: ARG002 - as there
        """See `LocalSession.clear`: a request for each 1000 keys."""
        self.check_open()
        self._blocks.check_may_wait()
        keys = [key for key, _ in self.walk(path)]
        if keys:
            with self._writing(path):
                self._remove(keys)

    def _remove(self, keys: list[str]) -> None:
        """Take keys away, and know for certain which are gone: an answer may be lost."""
        self._doubted.update(keys)
        try:
            self.branch.delete(keys)
        except (StorageError, RefNotFoundError) as error:
            self.branch.explain(error)
            self._settle()
            with self._lock:
                if any(self.state.tree.get(key) is not None for key in keys):
                    raise
            return
        with self._lock:
            for key in keys:
                self._take(
                    key, JournalRecord(RecordKind.DELETE, key, self.writer, 0), (), is_own=True
                )
            self._doubted.difference_update(keys)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """See `LocalSession.frozen`."""
        with self._lock:
            self.check_open()
            self._changed.wait_for(lambda: not self._under_way)
            self._settle()
            yield

    def check_open(self) -> None:
        """See `LocalSession.check_open`."""
        check_not_ended(self.head, self.closed)
        if self._process != os.getpid():
            self.after_fork()

    # What others wrote

    def _take(
        self, key: str, record: JournalRecord, rivals: tuple[PendingWrite, ...], *, is_own: bool
    ) -> None:
        """Lay a write over the state; those of this process and others' are numbered as seen."""
        self.consumed += 1
        self.state.entries.pop(key, None)
        pending = self.state.lay(record._replace(position=self.consumed), is_own=is_own)
        pending.rivals = rivals

    def _look(self, key: str) -> None:
        """Take in what one key holds on the server."""
        self._blocks.check_may_wait()
        with suppress(InvalidKeyError):
            check_key(key)
            self._take_in(key, self.branch.stat(key))

    def _take_in(self, key: str, stat: Stat | None) -> None:
        if stat is None:
            with self._lock:
                if self.state.tree.get(key) is not None:
                    self._take(key, JournalRecord(RecordKind.DELETE, key, 0, 0), (), is_own=False)
            return
        record = self.branch.record(key, stat)
        by = write_in(stat)
        with self._lock:
            self._seen[by.writer] = max(by.number, self._seen.get(by.writer, 0))
        rival = stat.metadata.get(VALUE_RIVAL)
        rivals: tuple[PendingWrite, ...] = ()
        if rival is not None:
            other = JournalRecord(RecordKind.SET, key, 0, 0, cid=from_text(rival))
            rivals = (PendingWrite(other, is_unseen=True),)
        with self._lock:
            found = self.state.tree.get(key)
            is_same = found is not None and found.cid == record.cid
            if not is_same or (rivals and not getattr(found, "rivals", ())):
                self._take(key, record, rivals, is_own=record.writer == self.writer)

    def _settle(self) -> None:
        """Look at the keys of which nobody knows whether a write of this process was done."""
        for key in list(self._doubted):
            if self.exists:
                self._look(key)
            self._doubted.discard(key)

    def refresh(self) -> None:
        """See `LocalSession.refresh`: costs requests only where others may write into it."""
        if self._is_shared and self.exists:
            self.look_again()
        elif self._doubted:
            self._settle()

    def look_again(self) -> None:
        """See `LocalSession.look_again`: takes in all that differs on the branch from its base.

        Raises:
            StorageError: others removed what this session wrote, which nobody else writes into.
        """
        self._blocks.check_may_wait()
        with self._lock:
            before = {key: it for key, it in self.state.entries.items() if not it.is_gone}
        for key, stat in self.branch.changes(self.state.base, list(before)):
            self._take_in(key, stat)
        self._doubted.clear()
        with self._lock:
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
        with self._lock:
            self.materialise()
            self._is_shared = True

    def materialise(self) -> None:
        """Make the session's branch, if it has none."""
        with self._lock:
            if self.branch.name is None:
                self.branch.make(self.state.base)

    def position(self) -> Known:
        """See `LocalSession.position`: up to which write of each process this one knows all."""
        self.refresh()
        return self.known()

    def known(self) -> Known:
        """See `LocalSession.known`."""
        with self._lock:
            return {**self._seen, self.writer: self._number}

    # Committing

    def note(self, kind: RecordKind, commit: Cid, upto: int) -> None:
        """See `LocalSession.note`."""
        if kind is RecordKind.INTENT:
            self.state.intent = JournalRecord(kind, "", self.writer, upto, cid=commit)
        if kind is RecordKind.COMMIT:
            with self._lock:
                there = self._commits.id_of(commit)
                assert there is not None
                self.state.intent = None
                self.branch.landed(there)
                self.state.rebase(commit, self._survey.tree_of(there).cid, upto + 1)

    def drop_damaged(self) -> list[str]:
        """See `LocalSession.drop_damaged`: what the server acknowledged, it has."""
        return []

    def drop_drafts(self) -> None:
        """See `LocalSession.drop_drafts`: the branch begins anew where others may write on."""
        with self._lock:
            if not self.exists:
                return
            if self._is_shared:
                self.branch.begin_again(self.state.base)
            else:
                self.branch.remove()

    def end(self, how: str, *, keep_folder: bool) -> None:
        """See `LocalSession.end`."""
        with self._lock:
            self.closed = how
            if not keep_folder:
                self.branch.remove()
