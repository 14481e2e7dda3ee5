"""A session on lakeFS: a hidden branch, where each write is an object as soon as it returns.

The branch is the journal: what differs on it from the commit it was made on is what the session
wrote. Every object carries the CID of its value and who wrote it, so that the processes that share
a session find out what the others did, and whether two of them wrote to one key unaware.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from versioned_zarr.backends.lakefs import records
from versioned_zarr.backends.lakefs.client import PreconditionFailedError, Stat
from versioned_zarr.backends.lakefs.knowledge import Place
from versioned_zarr.backends.lakefs.lake import Parts
from versioned_zarr.backends.lakefs.names import SessionName
from versioned_zarr.blocks.values import read_stored
from versioned_zarr.errors import (
    CorruptBlockError,
    InvalidKeyError,
    KeyNotFoundError,
    RefNotFoundError,
    SessionClosedError,
    StorageError,
)
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.journal import Kind, Record, SessionHead
from versioned_zarr.repository.overlay import Overlay, Pending
from versioned_zarr.repository.scratch import copy_of
from versioned_zarr.storage import Bytes
from versioned_zarr.tree.keys import check_key

_STRIPES = 64
SESSION = "vz-session"
"""The key in the metadata of what is committed on a session's branch."""


class BranchWriting:
    """A session as one process sees it; see `versioned_zarr.repository.keeping.Writing`.

    Args:
        parts: the repository.
        head: the session; its branch may not exist yet.
        root: the tree that the session is based on.
        branch: the name of its branch, if that exists.
    """

    def __init__(
        self, parts: Parts, head: SessionHead, root: Cid, branch: str | None = None
    ) -> None:
        self._lake, self._client = parts.lake, parts.lake.client
        self._blocks, self._trees, self._commits = parts.blocks, parts.trees, parts.commits
        self._survey, self._workers = parts.survey, parts.lake.workers
        self.head = head
        self.state = Overlay(parts.trees, head.base, root)
        self.consumed = 0
        self.closed: str | None = None
        self.branch = branch
        # Where the values lie that were written and are not committed.
        self.places: dict[Cid, Place] = {}
        self._is_shared = branch is not None
        self._start_again()
        if branch is not None:
            self.refresh()

    def _start_again(self) -> None:
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._under_way = 0
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self.writer = secrets.randbits(32)

    def after_fork(self) -> None:
        """See `Writing`: the child and the parent share the session from now on."""
        self._start_again()
        self._is_shared = True

    @property
    def exists(self) -> bool:
        """Whether the session has a branch."""
        return self.branch is not None

    # Reading

    def find(self, key: str) -> Pending | Link | None:
        """See `Working.find`; a request where others may write into the session."""
        if self._is_shared and self.branch is not None:
            self._look(key)
        with self._lock:
            return self.state.find(key)

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `Working.read`."""
        found = self.find(key)
        if found is None:
            raise KeyNotFoundError(f"no value under {key!r} in session {self.head.id}", key=key)
        return self.read_found(found, start, end)

    def read_found(
        self, found: Pending | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """See `Working.read_found`."""
        if isinstance(found, Pending):
            with self._lock:
                place = self.places.get(found.cid)
            if place is not None:
                return self._read_pending(found, place, start, end)
        return read_stored(self._blocks, found.cid, start, end)

    def _read_pending(
        self, found: Pending, place: Place, start: int, end: int | None
    ) -> memoryview:
        near = self._blocks.cache.get(found.cid)
        if near is not None and cids.is_raw(found.cid):
            return near[start:end]
        self._blocks.check_may_wait()
        stop = found.size if end is None else min(end, found.size)
        if (start, stop) == (0, found.size):
            data = self._client.read(place.ref, place.path)
            is_same = unixfs.build_file(data, self._blocks.hash).cid == found.cid
            if not is_same:
                raise CorruptBlockError(
                    f"{place.path!r} on lakeFS branch {place.ref!r} is not what the session wrote "
                    "there: it was changed by others",
                    cid=to_text(found.cid),
                    where=place.path,
                )
            return memoryview(data)
        return memoryview(self._client.read(place.ref, place.path, start, stop))

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Pending | Link]]:
        """See `Working.walk`."""
        self.refresh()
        with self._lock:
            return iter(list(self.state.tree.walk(prefix)))

    def list_dir(self, path: str) -> list[str]:
        """See `Working.list_dir`."""
        self.refresh()
        with self._lock:
            return self.state.tree.list_dir(path)

    def is_empty(self, path: str) -> bool:
        """See `Working.is_empty`."""
        self.refresh()
        with self._lock:
            return self.state.tree.is_empty(path)

    def size(self, found: Pending | Link) -> int:
        """See `Working.size`."""
        return found.size if isinstance(found, Pending) else self._trees.size(found)

    def changed(self) -> list[tuple[str, Pending | None]]:
        """See `Working.changed`."""
        self.refresh()
        with self._lock:
            return list(self.state.tree.changed())

    # Writing

    def write(
        self, key: str, data: Bytes, known: int | None = None, *, only_new: bool = False
    ) -> None:
        """See `Working.write`: one request; one more where others may have written the key."""
        check_key(key)
        file = unixfs.build_file(copy_of(data), self._blocks.hash)
        with self._writing(key) as branch:
            if only_new and self.find(key) is not None:
                return
            self._check_place(key)
            rivals = self._upload(branch, key, file, known)
            self._keep(branch, key, file)
            with self._lock:
                record = Record(
                    Kind.SET, key, self.writer, 0, size=file.size, tsize=file.tsize, cid=file.cid
                )
                self._take(key, record, rivals, is_own=True)

    @contextmanager
    def _writing(self, key: str) -> Iterator[str]:
        """While one key is written: nobody else of this process writes it, nor commits."""
        with self._lock:
            self.check_open()
            branch = self.materialise()
            self._under_way += 1
        try:
            with self._stripes[hash(key) % _STRIPES]:
                yield branch
        finally:
            with self._lock:
                self._under_way -= 1
                self._changed.notify_all()

    def _check_place(self, key: str) -> None:
        """Refuse a key above or below another one's value before anything is sent."""
        with self._lock:
            parts = key.split("/")
            above = ("/".join(parts[:number]) for number in range(1, len(parts)))
            clash = next((path for path in above if self.state.tree.get(path) is not None), None)
            if clash is None and not self.state.tree.is_empty(key):
                clash = f"{key}/{self.state.tree.list_dir(key)[0]}"
        if clash is not None:
            raise InvalidKeyError(
                f"{key!r} cannot hold a value beside {clash!r}: one would be both a value and a "
                "folder",
                key=key,
            )

    def _upload(
        self, branch: str, key: str, file: unixfs.File, known: int | None
    ) -> tuple[Pending, ...]:
        """Send a value; gives what others wrote there, unaware, and different."""
        path = self._lake.path(key)
        metadata = {
            **records.value_metadata(to_text(file.cid), file.size, file.tsize),
            records.VALUE_WRITER: str(self.writer),
            records.VALUE_TIME: str(time.time_ns() // 1000),
        }
        leaves = [data for cid, data in file.blocks if cids.is_raw(cid)]
        data = leaves[0] if len(leaves) == 1 else b"".join(leaves)
        before = self._before(key)
        if before is None:
            try:
                self._client.upload(branch, path, data, metadata, only_new=True)
                return ()
            except PreconditionFailedError:
                pass  # another process of the session was first, or this one's answer was lost
        elif not self._is_shared:
            self._client.upload(branch, path, data, metadata)
            return ()
        return self._overwrite(branch, path, data, metadata, before, known)

    def _overwrite(
        self,
        branch: str,
        path: str,
        data: Bytes,
        metadata: dict[str, str],
        before: Cid | None,
        known: int | None,
    ) -> tuple[Pending, ...]:
        """Send a value where there may be one that this process does not know of.

        lakeFS cannot replace an object on a condition: of two that write within the same few
        milliseconds over a value that was there before, the later one is not told of the other.
        """
        stat = self._client.stat(branch, path)
        rivals: tuple[Pending, ...] = ()
        if stat is not None:
            theirs = self._pending(path, stat)
            if to_text(theirs.cid) == metadata[records.VALUE_CID]:
                return ()
            if not self._is_aware(theirs, stat, before, known):
                metadata = {**metadata, records.VALUE_RIVAL: to_text(theirs.cid)}
                rivals = (theirs,)
        self._client.upload(branch, path, data, metadata)
        return rivals

    def _is_aware(self, theirs: Pending, stat: Stat, before: Cid | None, known: int | None) -> bool:
        """Whether who writes a key knows what another process wrote there."""
        if theirs.writer == self.writer:
            return True
        if known is None:
            return theirs.cid == before
        key = self._lake.key(stat.path)
        with self._lock:
            entry = self.state.entries.get(key)
            if entry is None or entry.is_unseen:
                base = self._trees.find(self.state.root, key)
                is_seen = base is not None and base.cid == theirs.cid
            else:
                is_seen = entry.cid == theirs.cid
        return is_seen or _time_of(stat) < known

    def _before(self, key: str) -> Cid | None:
        """What this process knows to lie under a key."""
        with self._lock:
            found = self.state.tree.get(key)
        return None if found is None else found.cid

    def _keep(self, branch: str, key: str, file: unixfs.File) -> None:
        """Make a value that was sent readable by its CID."""
        place = Place(branch, self._lake.path(key), file.size)
        with self._lock:
            self.places[file.cid] = place
        if len(file.blocks) > 1:
            nodes = [block for block in file.blocks if not cids.is_raw(block[0])]
            self._blocks.knowledge.add_nodes(nodes)
        else:
            self._blocks.cache.add(*file.blocks[0])

    def delete(self, key: str, known: int | None = None) -> bool:  # noqa: ARG002 - no trace stays
        """See `Working.delete`."""
        if self.find(key) is None:
            self.check_open()
            return False
        with self._writing(key) as branch:
            self._client.delete(branch, self._lake.path(key))
            with self._lock:
                self._take(key, Record(Kind.DELETE, key, self.writer, 0), (), is_own=True)
        return True

    def clear(self, path: str, known: int | None = None) -> None:  # noqa: ARG002 - as there
        """See `Working.clear`: a request for each 1000 keys."""
        self.check_open()
        keys = [key for key, _ in self.walk(path)]
        if not keys:
            return
        with self._writing(path) as branch:
            self._client.delete_many(branch, [self._lake.path(key) for key in keys])
            with self._lock:
                for key in keys:
                    self._take(key, Record(Kind.DELETE, key, self.writer, 0), (), is_own=True)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """See `Working.frozen`."""
        with self._lock:
            self.check_open()
            self._changed.wait_for(lambda: not self._under_way)
            yield

    def check_open(self) -> None:
        """See `Working.check_open`."""
        if self.closed:
            raise SessionClosedError(
                f"session {self.head.id} on {self.head.branch!r} {self.closed}; "
                "open a new one with repo.session()",
                session=self.head.id,
            )
        if self._process != os.getpid():
            self.after_fork()

    # What others wrote

    def _take(self, key: str, record: Record, rivals: tuple[Pending, ...], *, is_own: bool) -> None:
        """Lay a write over the state; those of this process and others' are numbered as seen."""
        self.consumed += 1
        self.state.entries.pop(key, None)
        pending = self.state.lay(record._replace(position=self.consumed), is_own=is_own)
        pending.rivals = rivals

    def _pending(self, path: str, stat: Stat) -> Pending:
        return Pending(self._record(self._lake.key(path), stat), is_unseen=True)

    def _record(self, key: str, stat: Stat) -> Record:
        assert self.branch is not None
        value = self._survey.value(self.branch, stat)
        with self._lock:
            self.places[value.cid] = Place(self.branch, stat.path, stat.size)
        writer = int(stat.metadata.get(records.VALUE_WRITER, 0))
        return Record(Kind.SET, key, writer, 0, size=stat.size, tsize=value.tsize, cid=value.cid)

    def _look(self, key: str) -> None:
        """Take in what one key holds on the server."""
        assert self.branch is not None
        try:
            check_key(key)
        except InvalidKeyError:
            return
        self._take_in(key, self._client.stat(self.branch, self._lake.path(key)))

    def _take_in(self, key: str, stat: Stat | None) -> None:
        if stat is None:
            with self._lock:
                if self.state.tree.get(key) is not None:
                    self._take(key, Record(Kind.DELETE, key, 0, 0), (), is_own=False)
            return
        record = self._record(key, stat)
        rival = stat.metadata.get(records.VALUE_RIVAL)
        rivals: tuple[Pending, ...] = ()
        if rival is not None:
            other = Record(Kind.SET, key, 0, 0, cid=from_text(rival))
            rivals = (Pending(other, is_unseen=True),)
        with self._lock:
            found = self.state.tree.get(key)
            is_same = found is not None and found.cid == record.cid
            if not is_same or (rivals and not getattr(found, "rivals", ())):
                self._take(key, record, rivals, is_own=record.writer == self.writer)

    def refresh(self) -> None:
        """See `Working.refresh`: costs requests only where others may write into the session."""
        if not self._is_shared or self.branch is None:
            return
        branch = self.branch
        paths: dict[str, None] = {}
        base = self._commits.id_of(from_text(self.state.base))
        head = self._client.head(branch)
        if base is not None and head != base:
            for change in self._client.diff(base, head, prefix=self._lake.prefix):
                paths[change.path] = None
        for change in self._client.uncommitted(branch, prefix=self._lake.prefix):
            paths[change.path] = None
        with self._lock:
            paths.update({self._lake.path(key): None for key in self.state.entries})
        stats = self._workers.map(lambda path: self._client.stat(branch, path), list(paths))
        for path, stat in zip(paths, stats, strict=True):
            if not path.endswith("/"):
                self._take_in(self._lake.key(path), stat)

    def share(self) -> None:
        """See `Working.share`."""
        with self._lock:
            self.materialise()
            self._is_shared = True

    def materialise(self) -> str:
        """Make the session's branch, if it has none: one request, two where it has a purpose."""
        with self._lock:
            if self.branch is None:
                base = self._commits.id_of(from_text(self.state.base))
                if base is None:
                    raise RefNotFoundError(
                        f"lakeFS has no commit for {self.state.base}", ref=self.state.base
                    )
                branch = str(SessionName(self.head))
                self._client.create_branch(branch, base, hidden=True)
                if self.head.purpose:
                    metadata = {SESSION: self.head.id, records.PURPOSE: self.head.purpose}
                    self._client.commit(branch, "Begin a session", metadata, allow_empty=True)
                self.branch = branch
            return self.branch

    def position(self) -> int:
        """See `Working.position`: the time, in microseconds, up to which this process knows all."""
        self.refresh()
        return time.time_ns() // 1000

    # Committing

    def note(self, kind: Kind, commit: Cid, upto: int) -> None:
        """See `Working.note`."""
        if kind is Kind.COMMIT:
            with self._lock:
                there = self._commits.id_of(commit)
                assert there is not None
                self._blocks.knowledge.add_places(
                    (cid, place._replace(ref=there)) for cid, place in self.places.items()
                )
                self.places.clear()
                self.state.rebase(commit, self._survey.tree_of(there).cid, upto + 1)

    def drop_drafts(self) -> None:
        """See `Working.drop_drafts`: the branch begins anew where the session goes on."""
        with self._lock:
            if self.branch is None:
                return
            if self._is_shared:
                base = self._commits.id_of(from_text(self.state.base))
                assert base is not None
                with suppress(StorageError):  # another process wrote on: its changes stay
                    self._client.hard_reset(self.branch, base)
                return
            self._client.delete_branch(self.branch)
            self.branch = None
            self.head = replace(self.head, base=self.state.base)

    def end(self, how: str, *, keep_folder: bool) -> None:
        """See `Working.end`."""
        with self._lock:
            self.closed = how
            if self.branch is not None and not keep_folder:
                with suppress(RefNotFoundError):
                    self._client.delete_branch(self.branch)
            self.branch = None if not keep_folder else self.branch


def _time_of(stat: Stat) -> int:
    """When an object was written, in microseconds since 1970, as its writer's clock had it."""
    try:
        return int(stat.metadata[records.VALUE_TIME])
    except (KeyError, ValueError):
        return stat.mtime * 1_000_000
