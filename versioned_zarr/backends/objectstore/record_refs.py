"""Record refs: each update of a branch or tag is a numbered object that is created once.

`refs/heads/NAME/9223372036854775807` is the first record of a branch, and each later one has the
next smaller number, so that the newest is listed first. A store creates a name only if it does not
exist; therefore exactly one of many writers gets the next number. A record is never overwritten
while it is the newest, and its number is never used again. docs/design/object-stores.md shows the
bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from versioned_zarr.backends.objectstore.commit_check import NEVER, CommitCheck
from versioned_zarr.backends.objectstore.record_log import RecordLog
from versioned_zarr.backends.objectstore.ref_record import (
    FORGOTTEN,
    HINT,
    HINTED_EVERY,
    RefRecord,
    encode_record,
    next_fence,
    next_record,
    number_in,
    record_path,
    ref_folder,
)
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.errors import (
    BranchMovedError,
    CollectedError,
    CorruptRefError,
    OutcomeUnknownError,
    ReadOnlyError,
    RefNotFoundError,
    StorageError,
)
from versioned_zarr.history.ref_names import check_ref_name, from_file_name, to_file_name
from versioned_zarr.history.refs import (
    HEADS,
    KINDS,
    TAKEN_BACK,
    RefEntry,
    rename_by_moves,
    times_left,
)
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.storage.conditional_store import ConditionalStore
from versioned_zarr.storage.locks import Locks

_ATTEMPTS: Final = 5
_FIRST_PAUSE_S: Final = 0.1


class RecordRefs:
    """See the module, and `RefStore`. Thread-safe; many processes and machines may share a store.

    Args:
        storage: the objects.
        log: the records.
        locks: keep the processes of this machine from competing for the same number.
        packs: returns what to say of packs in a new record.
        check: checks that what a commit reaches will stay.
        is_new: whether the repository is being created, so that no gc can have begun.
    """

    def __init__(
        self,
        storage: ConditionalStore,
        log: RecordLog,
        locks: Locks,
        packs: Callable[[], Mapping[str, Any]],
        check: CommitCheck,
        is_new: Callable[[], bool],
    ) -> None:
        self._storage, self._log, self._locks = storage, log, locks
        self._packs, self._check, self._is_new = packs, check, is_new
        self._here = threading.local()

    # Reading

    def read(self, kind: str, name: str) -> RefEntry | None:
        """See `RefStore.read`: one request if the newest record is known, otherwise two.

        No request while this thread holds `lock`: a record that is not the newest is found out when
        the next one is created.
        """
        record = self._current(ref_folder(kind, name), name)
        return None if record is None or record.entry.commit is None else record.entry

    def _current(self, folder: str, name: str) -> RefRecord | None:
        known = self._log.newest.get(folder)
        is_locked = folder in getattr(self._here, "locked", ())
        # Of a ref that was deleted, no record may be created before others are looked for.
        if is_locked and known is not None and known.entry.commit is not None:
            return known
        return self._log.latest(folder, name)

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """See `RefStore.names`: a request for the list, and up to two for each ref, in parallel."""
        found = self._standing(kind)
        return sorted(
            name
            for name, entry in found.items()
            if (deleted and entry) or (isinstance(entry, RefEntry) and entry.commit is not None)
        )

    def broken(self, kind: str) -> dict[str, CorruptRefError]:
        """See `RefStore.broken`."""
        return {
            name: entry
            for name, entry in self._standing(kind).items()
            if isinstance(entry, CorruptRefError)
        }

    def _standing(self, kind: str) -> dict[str, RefEntry | CorruptRefError | None]:
        names = self._log.names(kind)

        def entry(name: str) -> RefEntry | CorruptRefError | None:
            try:
                found = self._log.latest(ref_folder(kind, name), name)
            except CorruptRefError as error:
                return error
            return None if found is None else found.entry

        return dict(zip(names, self._log.workers().map(entry, names), strict=True))

    def history(self, kind: str, name: str, *, readable: bool = False) -> Iterator[RefEntry]:
        """See `RefStore.history`; a request for each record, 16 in parallel."""
        moves = self._log.moves(ref_folder(kind, name), name, readable=readable)
        return (record.entry for record in moves)

    # Moving

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """See `RefStore.swap`: one request, and one more if this process knows no newest record.

        Raises:
            OutcomeUnknownError: the store did not answer; the error names the commit.
        """
        folder = ref_folder(kind, name)
        last = self._expected(folder, name, expect)
        while True:
            if new is not None and last is not None:
                self._check_before(folder, last, new)
            try:
                is_checked = last is not None or self._is_new()
                record = next_record(last, new, why, self._packs(), is_checked=is_checked)
                record = self._add(folder, name, record)
            except BranchMovedError as error:
                now = self._log.newest.get(folder)
                if now is None or _commit_of(now) != expect:
                    raise _moved(name, expect, _commit_of(now)) from error
                last = now  # a fence of a gc
                continue
            if new is not None and not record.is_checked:
                self._check_after(folder, name, record, new)
            return record.entry

    def _expected(self, folder: str, name: str, expect: Cid | None) -> RefRecord | None:
        """The newest record known of a ref, which must name a commit."""
        last = self._log.newest.get(folder)
        if last is None and folder in self._log.absent:
            self._log.absent.discard(folder)
        elif last is None and not self._is_new():
            last = self._log.latest(folder, name)
        if _commit_of(last) != expect:
            last = self._log.latest(folder, name)
        if _commit_of(last) != expect:
            raise _moved(name, expect, _commit_of(last))
        return last

    def _check_before(self, folder: str, last: RefRecord, new: Cid) -> None:
        """Check what a commit reaches, before a record after `last` names it."""
        fences, seen_ns = self._log.seen.get(folder, (-1, NEVER))
        old = last.entry.commit if last.is_checked else None
        since_ns = seen_ns if fences == last.fences else NEVER
        self._check.check(new, old, since_ns, self._live_elsewhere(folder))

    def _check_after(self, folder: str, name: str, record: RefRecord, new: Cid) -> None:
        """Check what a commit reaches, which the first record of a ref names already.

        Then another record says so. Until then nobody relies on the ref, and a gc settles it.

        Raises:
            CollectedError: something is gone, or about to be deleted; the ref was deleted again.
        """
        last = record
        while last.entry == record.entry and not last.is_checked:
            try:
                self._check.check(new, None, NEVER, self._live_elsewhere(folder))
            except CollectedError:
                self._take_back(folder, name, record)
                raise
            checked = next_fence(last, self._packs())._replace(is_checked=True)
            try:
                last = self._add(folder, name, checked)
            except BranchMovedError:  # the other record may be a fence
                last = self._log.newest[folder]
        if last.entry.why == TAKEN_BACK:
            raise CollectedError(
                f"a gc of {self._storage.url!r} deleted {name!r} again, because blocks that it "
                "reaches are gone",
                where=self._storage.url,
            )

    def _take_back(self, folder: str, name: str, record: RefRecord) -> None:
        """Delete a ref that was just created, unless others have moved it since."""
        last: RefRecord | None = record
        while last is not None and last.entry == record.entry:
            try:
                self._add(folder, name, next_record(last, None, TAKEN_BACK, self._packs()))
            except BranchMovedError:
                last = self._log.newest.get(folder)  # it may be a fence of a gc
            else:
                return

    def _live_elsewhere(self, but: str) -> Callable[[Cid], bool]:
        """Returns a function: whether another ref names a commit, or a descendant of it, now.

        It asks about the refs that this process has read, and about `main`.
        """
        now: dict[str, RefRecord | None] = {}

        def names(record: RefRecord | None, commit: Cid) -> bool:
            if record is None or not record.is_checked:
                return False
            head = record.entry.commit
            return head is not None and self._check.is_ancestor(commit, head)

        def read(folder: str) -> RefRecord | None:
            if folder not in now:
                now[folder] = None
                with suppress(CorruptRefError):
                    now[folder] = self._log.latest_now(folder, from_file_name(folder.split("/")[2]))
            return now[folder]

        def is_live(commit: Cid) -> bool:
            for folder, known in list(self._log.newest.items()):
                if folder != but and names(known, commit):
                    latest = read(folder)
                    if latest == known or names(latest, commit):
                        return True
            main = ref_folder(HEADS, MAIN)
            return main not in {but, *self._log.newest} and names(read(main), commit)

        return is_live

    def _add(self, folder: str, name: str, record: RefRecord) -> RefRecord:
        """Create a record.

        Raises:
            BranchMovedError: another writer created that number; the newest record is known then.
        """
        data = encode_record(record)
        pause_s = _FIRST_PAUSE_S
        failure: StorageError | None = None
        for _ in range(_ATTEMPTS):
            try:
                there = self._created(folder, record.number, data)
            except StorageError as error:
                failure, there = error, None
            if there == data:
                if record.number % HINTED_EVERY == HINTED_EVERY - 1:
                    with suppress(StorageError, ReadOnlyError):  # readers then look a little longer
                        self._storage.put(f"{folder}/{HINT}", [b"%d\n" % record.number])
                return self._log.remember(folder, record)
            if there is not None:
                self._log.newest.pop(folder, None)
                now = self._log.latest(folder, name)
                raise _moved(name, record.entry.commit, _commit_of(now))
            time.sleep(pause_s)
            pause_s *= 2
        raise self._unknown(name, record.entry.commit, failure)

    def _created(self, folder: str, number: int, data: bytes) -> bytes | None:
        """Create a record; returns the one that is there then.

        It is ours also if an answer was lost, and the request was repeated. If there is none, the
        store was busy with several that are to be created.
        """
        try:
            self._storage.create(record_path(folder, number), data)
        except FileExistsError:
            return self._log.bytes_at(folder, number)
        return data

    def _unknown(
        self, name: str, new: Cid | None, failure: StorageError | None
    ) -> OutcomeUnknownError:
        where = "deleted" if new is None else f"moved to {to_text(new)}"
        return OutcomeUnknownError(
            f"{name!r} of {self._storage.url!r} may have been {where}: the store did not confirm "
            f"it ({failure}). No earlier commit is lost. Once it answers again, check with 'vz log "
            f"{name}', or commit again: no commit is made twice",
            where=self._storage.url,
            ref=name,
            commit=None if new is None else to_text(new),
        )

    def rename(self, kind: str, old: str, new: str, why: str) -> None:
        """See `RefStore.rename`: two moves."""
        rename_by_moves(self, kind, old, new, why)

    def remove(self, kind: str, name: str, why: str) -> None:
        """See `RefStore.remove`."""
        folder = ref_folder(kind, name)
        while True:
            try:
                last = self._log.latest(folder, name)
            except CorruptRefError:
                last = self._unreadable(folder)
            if last is None:
                raise RefNotFoundError(f"{name!r} not found in {self._storage.url!r}", ref=name)
            with suppress(BranchMovedError):
                self._add(folder, name, next_record(last, None, why, self._packs()))
                return

    def _unreadable(self, folder: str) -> RefRecord | None:
        """In place of the newest record, which is damaged: only its number is known."""
        first = self._log.first(folder)
        number = None if first is None else number_in(first.path)
        if number is None:
            return None
        entry = RefEntry(0, None, datetime.min.replace(tzinfo=UTC), "")
        return RefRecord(number, entry, "", {}, fences=number)  # there cannot be more

    def settle(self, kind: str, name: str) -> None:
        """See `RefStore.settle`: a record that can be read is durable."""

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """See `RefStore.forget`: a request for each move.

        The objects stay, without their content. If a number became free, a writer that has not
        looked at the ref since could take it, and would not notice that it is not the newest.
        """
        folder = ref_folder(kind, name)
        moves = list(self._log.moves(folder, name))
        times = times_left(record.entry for record in moves)
        for record, (_, left_at) in zip(moves, times, strict=True):
            if left_at is not None and left_at < before:
                self._storage.put(record_path(folder, record.number), [FORGOTTEN])

    # Garbage collection

    def settle_new(self) -> None:
        """Check the refs whose creators have not done so, and take back those that fail."""
        self._for_each(self._settle_new)

    def _settle_new(self, kind: str, name: str) -> None:
        folder = ref_folder(kind, name)
        with suppress(CorruptRefError, CollectedError):  # a damaged ref is the problem of the mark
            last = self._log.latest(folder, name)
            if last is not None and not last.is_checked and last.entry.commit is not None:
                self._check_after(folder, name, last, last.entry.commit)

    def fence(self) -> None:
        """Create a record that moves nothing in every log of a ref, deleted or not.

        Whoever has read a record before it reads again what is condemned, to create one after it.
        Two requests for each ref, 16 in parallel.
        """
        self._for_each(self._fence)

    def _for_each(self, act: Callable[[str, str], None]) -> None:
        """Call a function with the kind and the name of every ref, 16 at a time."""
        for kind in KINDS:
            self._storage.renew(f"refs/{kind}")
        refs = [(kind, name) for kind in KINDS for name in self._log.names(kind)]
        list(self._log.workers().map(lambda ref: act(*ref), refs))

    def _fence(self, kind: str, name: str) -> None:
        folder = ref_folder(kind, name)
        while True:
            last = self._log.latest_now(folder, name)
            if last is None:
                return
            with suppress(BranchMovedError):
                self._add(folder, name, next_fence(last, self._packs()))
                return

    @contextmanager
    def lock(self, kind: str, name: str) -> Iterator[bool]:
        """See `RefStore.lock`: among the processes of this machine."""
        folder = ref_folder(kind, check_ref_name(name))
        with self._locks.lock(f"{kind}-{to_file_name(name)}") as is_held:
            outer = getattr(self._here, "locked", frozenset[str]())
            self._here.locked = outer | {folder}
            try:
                yield is_held
            finally:
                self._here.locked = outer


def _commit_of(record: RefRecord | None) -> Cid | None:
    return None if record is None else record.entry.commit


def _moved(name: str, expect: Cid | None, found: Cid | None) -> BranchMovedError:
    texts = [None if each is None else to_text(each) for each in (expect, found)]
    expected, there = (text or "nothing" for text in texts)
    return BranchMovedError(
        f"{name!r} is at {there}, not at {expected} as expected",
        branch=name,
        expected=texts[0],
        found=texts[1],
    )
