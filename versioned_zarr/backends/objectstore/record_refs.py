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
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from versioned_zarr.backends.objectstore.obstore_storage import ObstoreStorage
from versioned_zarr.backends.objectstore.ref_record import (
    FORGOTTEN,
    HINT,
    HINTED_EVERY,
    RefRecord,
    damaged,
    decode_record,
    encode_record,
    is_record,
    next_record,
    number_in,
    record_path,
    ref_folder,
)
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.errors import (
    BranchMovedError,
    CorruptRefError,
    OutcomeUnknownError,
    ReadOnlyError,
    RefNotFoundError,
    StorageError,
)
from versioned_zarr.fork_local import ForkLocal, threads
from versioned_zarr.history.log_refs import may_be_ref
from versioned_zarr.history.ref_names import check_ref_name, from_file_name, to_file_name
from versioned_zarr.history.refs import HEADS, RefEntry, rename_by_moves, times_left
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.storage.locks import Locks
from versioned_zarr.storage.object_store import Stored

_ATTEMPTS: Final = 5
_FIRST_PAUSE_S: Final = 0.1
_AT_ONCE: Final = 16


class RecordRefs:
    """See the module, and `RefStore`. Thread-safe; many processes and machines may share a store.

    Args:
        storage: the objects.
        locks: keep the processes of this machine from competing for the same number.
        packs: returns what to say of packs in a new record.
        learn: is passed what records say of packs.
        listed: lists of folders that were begun when the repository was opened; each is used once.
    """

    def __init__(
        self,
        storage: ObstoreStorage,
        locks: Locks,
        packs: Callable[[], Mapping[str, Any]],
        learn: Callable[[Mapping[str, Any]], None],
        listed: Mapping[str, Future[Stored | None]] | None = None,
    ) -> None:
        self._storage, self._locks, self._packs, self._learn = storage, locks, packs, learn
        self._listed = dict(listed or {})
        self._newest: dict[str, RefRecord] = {}
        """The newest record known of each ref; a newer one may exist."""
        self._absent: set[str] = set()
        """Refs that were found not to exist; the next move relies on that once."""
        self._workers: ForkLocal[ThreadPoolExecutor] = threads(_AT_ONCE, "vz-refs")
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
        known = self._newest.get(folder)
        is_locked = folder in getattr(self._here, "locked", ())
        # Of a ref that was deleted, no record may be created before others are looked for.
        if is_locked and known is not None and known.entry.commit is not None:
            return known
        return self._latest(folder, name)

    def _latest(self, folder: str, name: str) -> RefRecord | None:
        """The newest record of a ref; None if there was never one."""
        known = self._newest.get(folder)
        if known is not None and self._bytes_at(folder, known.number + 1) is None:
            return known
        self._storage.check_process()  # no thread of the parent continues in a forked child
        begun = self._listed.pop(folder, None)
        if begun is not None and (found := self._from_list(folder, begun.result(), name)):
            return found
        listed = None
        while True:
            number = self._newest_number(folder, name)
            if number is None:
                self._newest.pop(folder, None)
                self._absent.add(folder)
                return None
            record = self._at(folder, number, name)
            if record is not None:
                return self._remember(folder, record)
            if number == listed:
                raise damaged(record_path(folder, number), name)
            listed = number  # it was forgotten since, because there is a newer one

    def _first(self, folder: str) -> Stored | None:
        """The object of the newest record, or another one if there are only others."""
        return self._storage.first(folder, is_record)

    def _newest_number(self, folder: str, name: str) -> int | None:
        """The number of the newest record, by a list or, if the store has none, by the hint."""
        if not self._storage.can_list:
            return self._probed_number(folder)
        first = self._first(folder)
        if first is None:
            return None
        number = number_in(first.path)
        if number is None:
            raise damaged(first.path, name)
        return number

    def _probed_number(self, folder: str) -> int | None:
        """The number of the newest record: the hint, the next one, and then 16 in parallel."""
        known = self._newest.get(folder)
        number = known.number if known is not None else self._hint(folder)
        size = 1
        while True:
            batch = range(number + 1, number + 1 + size)
            size = HINTED_EVERY
            there = list(self._workers().map(partial(self._bytes_at, folder), batch))
            count = there.index(None) if None in there else len(there)
            number += count
            if count < len(there):
                return number if number >= 0 else None

    def _hint(self, folder: str) -> int:
        """A number that a record of the ref once had; -1 if there is no hint."""
        try:
            text = bytes(self._storage.read(f"{folder}/{HINT}"))
        except FileNotFoundError:
            return -1
        return int(text) if text.strip().isdigit() else -1

    def _from_list(self, folder: str, first: Stored | None, name: str) -> RefRecord | None:
        """The newest record by a list that may be old by now; None if it was not the newest."""
        number = None if first is None else number_in(first.path)
        if number is None:
            return None
        newer = self._workers().submit(self._bytes_at, folder, number + 1)
        record = self._at(folder, number, name)
        if record is None or newer.result() is not None:
            return None
        return self._remember(folder, record)

    def _remember(self, folder: str, record: RefRecord) -> RefRecord:
        known = self._newest.get(folder)
        if known is None or known.number < record.number:
            self._newest[folder] = record
            self._learn(record.packs)
        return record

    def _bytes_at(self, folder: str, number: int) -> bytes | None:
        try:
            return bytes(self._storage.read(record_path(folder, number)))
        except FileNotFoundError:
            return None

    def _at(self, folder: str, number: int, name: str) -> RefRecord | None:
        """The record of a number; None if it does not exist, or was forgotten."""
        data = self._bytes_at(folder, number)
        if data is None or data == FORGOTTEN:
            return None
        return decode_record(data, record_path(folder, number), name)

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """See `RefStore.names`: a request for the list, and up to two for each ref, in parallel."""
        found = self._standing(kind)
        return sorted(
            name
            for name, entry in found.items()
            if deleted or (isinstance(entry, RefEntry) and entry.commit is not None)
        )

    def broken(self, kind: str) -> dict[str, CorruptRefError]:
        """See `RefStore.broken`."""
        return {
            name: entry
            for name, entry in self._standing(kind).items()
            if isinstance(entry, CorruptRefError)
        }

    def _names_there(self, kind: str) -> list[str]:
        """The names of all refs of a kind; without lists, `main` and those that were read."""
        if not self._storage.can_list:
            start = f"refs/{kind}/"
            known = {each.removeprefix(start) for each in self._newest if each.startswith(start)}
            usual = {MAIN} if kind == HEADS else set[str]()
            return sorted({from_file_name(each) for each in known} | usual)
        folders = self._storage.folders(f"refs/{kind}")
        names = [(from_file_name(folder), folder) for folder in folders]
        return [
            name
            for name, folder in names
            if to_file_name(name) == folder and may_be_ref(kind, name)
        ]

    def _standing(self, kind: str) -> dict[str, RefEntry | CorruptRefError | None]:
        names = self._names_there(kind)

        def entry(name: str) -> RefEntry | CorruptRefError | None:
            try:
                found = self._latest(ref_folder(kind, name), name)
            except CorruptRefError as error:
                return error
            return None if found is None else found.entry

        return dict(zip(names, self._workers().map(entry, names), strict=True))

    def history(self, kind: str, name: str, *, readable: bool = False) -> Iterator[RefEntry]:
        """See `RefStore.history`; a request for each move, 16 in parallel."""
        folder = ref_folder(kind, name)
        try:
            newest = self._latest(folder, name)
        except CorruptRefError:
            if not readable:
                raise
            first = self._first(folder)
            number = None if first is None else number_in(first.path)
        else:
            number = None if newest is None else newest.number

        def read(number: int) -> RefEntry | CorruptRefError | None:
            try:
                record = self._at(folder, number, name)
            except CorruptRefError as error:
                return error
            return None if record is None else record.entry

        while number is not None and number >= 0:
            batch = range(number, max(-1, number - _AT_ONCE), -1)
            for found in self._workers().map(read, batch):
                if found is None:
                    return
                if isinstance(found, RefEntry):
                    yield found
                elif not readable:
                    raise found
            number -= _AT_ONCE

    # Moving

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """See `RefStore.swap`: one request, and one more if this process knows no newest record.

        Raises:
            OutcomeUnknownError: the store did not answer; the error names the commit.
        """
        folder = ref_folder(kind, name)
        last = self._newest.get(folder)
        if last is None and folder in self._absent:
            self._absent.discard(folder)
        elif last is None:
            last = self._latest(folder, name)
        if _commit_of(last) != expect:
            last = self._latest(folder, name)
        if _commit_of(last) != expect:
            raise _moved(name, expect, _commit_of(last))
        return self._add(folder, name, last, new, why).entry

    def _add(
        self, folder: str, name: str, last: RefRecord | None, new: Cid | None, why: str
    ) -> RefRecord:
        """Create the record after the last one.

        Raises:
            BranchMovedError: another writer created it.
        """
        record = next_record(last, new, why, self._packs())
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
                return self._remember(folder, record)
            if there is not None:
                self._newest.pop(folder, None)
                now = self._latest(folder, name)
                raise _moved(name, _commit_of(last), _commit_of(now))
            time.sleep(pause_s)
            pause_s *= 2
        raise self._unknown(name, new, failure)

    def _created(self, folder: str, number: int, data: bytes) -> bytes | None:
        """Create a record; returns the one that is there then.

        It is ours also if an answer was lost, and the request was repeated. If there is none, the
        store was busy with several that are to be created.
        """
        try:
            self._storage.create(record_path(folder, number), data)
        except FileExistsError:
            return self._bytes_at(folder, number)
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
                last = self._latest(folder, name)
            except CorruptRefError:
                last = self._unreadable(folder)
            if last is None:
                raise RefNotFoundError(f"{name!r} not found in {self._storage.url!r}", ref=name)
            with suppress(BranchMovedError):
                self._add(folder, name, last, None, why)
                return

    def _unreadable(self, folder: str) -> RefRecord | None:
        """In place of the newest record, which is damaged: only its number is known."""
        first = self._first(folder)
        number = None if first is None else number_in(first.path)
        if number is None:
            return None
        return RefRecord(
            number, RefEntry(number, None, datetime.min.replace(tzinfo=UTC), ""), "", {}
        )

    def settle(self, kind: str, name: str) -> None:
        """See `RefStore.settle`: a record that can be read is durable."""

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """See `RefStore.forget`: a request for each move.

        The objects stay, without their content. If a number became free, a writer that has not
        looked at the ref since could take it, and would not notice that it is not the newest.
        """
        folder = ref_folder(kind, name)
        for entry, left_at in times_left(self.history(kind, name)):
            if left_at is not None and left_at < before:
                self._storage.put(record_path(folder, entry.number), [FORGOTTEN])

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
