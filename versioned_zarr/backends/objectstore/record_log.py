"""The record log: finds and reads the records of refs, and remembers the newest of each.

A store that lists objects lists the newest record of a ref first; on a web server, a hint says
where to begin. docs/design/object-stores.md shows the bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from versioned_zarr.backends.objectstore.ref_record import (
    FORGOTTEN,
    HINT,
    HINTED_EVERY,
    RefRecord,
    damaged,
    decode_record,
    is_record,
    number_in,
    record_path,
)
from versioned_zarr.engine.ref_mappings import MAIN
from versioned_zarr.errors import CorruptRefError
from versioned_zarr.fork_local import ForkLocal, ForkSafeFuture, threads
from versioned_zarr.history.log_refs import may_be_ref
from versioned_zarr.history.ref_names import from_file_name, to_file_name
from versioned_zarr.history.refs import HEADS, TAKEN_BACK
from versioned_zarr.storage.conditional_store import ConditionalStore
from versioned_zarr.storage.object_store import Stored

AT_ONCE: Final = 16


class RecordLog:
    """The records of all refs. Thread-safe.

    Args:
        storage: the objects.
        learn: is passed what records say of packs.
        listed: lists of folders that were begun when the repository was opened; each is used once.

    Attributes:
        newest: the newest record known of each ref by its folder; a newer one may exist.
        seen: for each folder the number of fences of its newest known record, and the moment (ns)
            by which the first record with that number was read.
        absent: refs that were found not to exist; the next move relies on that once.
        workers: read records in parallel.
    """

    def __init__(
        self,
        storage: ConditionalStore,
        learn: Callable[[Mapping[str, Any]], None],
        listed: Mapping[str, ForkSafeFuture[Stored | None]] | None = None,
    ) -> None:
        self._storage, self._learn = storage, learn
        self._listed = dict(listed or {})
        self.newest: dict[str, RefRecord] = {}
        self.seen: dict[str, tuple[int, int]] = {}
        self.absent: set[str] = set()
        self.workers: ForkLocal[ThreadPoolExecutor] = threads(AT_ONCE, "vz-refs")

    def latest(self, folder: str, name: str) -> RefRecord | None:
        """The newest record of a ref; None if there was never one."""
        known = self.newest.get(folder)
        if known is not None and self.bytes_at(folder, known.number + 1) is None:
            return known
        self._storage.check_process()  # no thread of the parent continues in a forked child
        begun = self._listed.pop(folder, None)
        first = None if begun is None else begun.here()
        if first is not None and (found := self._from_list(folder, first.result(), name)):
            return found
        listed = None
        while True:
            number = self._newest_number(folder, name)
            if number is None:
                self.newest.pop(folder, None)
                self.absent.add(folder)
                return None
            record = self.at(folder, number, name)
            if record is not None:
                return self.remember(folder, record)
            if number == listed:
                raise damaged(record_path(folder, number), name)
            listed = number  # it was forgotten since, because there is a newer one

    def latest_now(self, folder: str, name: str) -> RefRecord | None:
        """As `latest`, but not older than this call, whatever this machine remembers of names.

        Where `renew` has work to do, a list that follows it is never old, but a lookup of a record
        that is missing may be.
        """
        if self._storage.renew(folder):
            self._listed.pop(folder, None)
            self.newest.pop(folder, None)
        return self.latest(folder, name)

    def first(self, folder: str) -> Stored | None:
        """The object of the newest record, or another one if there are only others."""
        return self._storage.first(folder, is_record)

    def _newest_number(self, folder: str, name: str) -> int | None:
        """The number of the newest record, by a list or, if the store has none, by the hint."""
        if not self._storage.can_list:
            return self._probed_number(folder)
        first = self.first(folder)
        if first is None:
            return None
        number = number_in(first.path)
        if number is None:
            raise damaged(first.path, name)
        return number

    def _probed_number(self, folder: str) -> int | None:
        """The number of the newest record: the hint, the next one, and then 16 in parallel."""
        known = self.newest.get(folder)
        number = known.number if known is not None else self._hint(folder)
        size = 1
        while True:
            batch = range(number + 1, number + 1 + size)
            size = HINTED_EVERY
            there = list(self.workers().map(partial(self.bytes_at, folder), batch))
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
        newer = self.workers().submit(self.bytes_at, folder, number + 1)
        record = self.at(folder, number, name)
        if record is None or newer.result() is not None:
            return None
        return self.remember(folder, record)

    def remember(self, folder: str, record: RefRecord) -> RefRecord:
        """Take note of a record that was read or created; returns it."""
        known = self.newest.get(folder)
        if known is None or known.number < record.number:
            if folder not in self.seen or self.seen[folder][0] < record.fences:
                self.seen[folder] = record.fences, time.monotonic_ns()
            self.newest[folder] = record
            self._learn(record.packs)
        return record

    def bytes_at(self, folder: str, number: int) -> bytes | None:
        """The object of a record; None if there is none."""
        try:
            return bytes(self._storage.read(record_path(folder, number)))
        except FileNotFoundError:
            return None

    def at(self, folder: str, number: int, name: str) -> RefRecord | None:
        """The record of a number; None if it does not exist, or was forgotten."""
        data = self.bytes_at(folder, number)
        if data is None or data == FORGOTTEN:
            return None
        return decode_record(data, record_path(folder, number), name)

    def moves(self, folder: str, name: str, *, readable: bool = False) -> Iterator[RefRecord]:
        """The records that are neither fences nor creations that were taken back, newest first.

        A request for each record, 16 in parallel.

        Args:
            folder: the folder of the ref.
            name: the name of the ref.
            readable: whether to leave out damaged records, instead of raising an error.
        """
        is_taken_back = False
        for record in self._records(folder, name, readable=readable):
            if record.is_fence:
                continue
            if record.is_checked or not is_taken_back:
                yield record
            is_taken_back = record.entry.why == TAKEN_BACK

    def _records(self, folder: str, name: str, *, readable: bool) -> Iterator[RefRecord]:
        """The records of a ref, newest first, without most fences that follow each other."""
        try:
            newest = self.latest(folder, name)
        except CorruptRefError:
            if not readable:
                raise
            first = self.first(folder)
            number = None if first is None else number_in(first.path)
        else:
            number = None if newest is None else newest.before_fences

        def read(number: int) -> RefRecord | CorruptRefError | None:
            try:
                return self.at(folder, number, name)
            except CorruptRefError as error:
                return error

        while number is not None and number >= 0:
            batch = range(number, max(-1, number - AT_ONCE), -1)
            number = batch[-1] - 1
            for found in self.workers().map(read, batch):
                if found is None:
                    return
                if isinstance(found, RefRecord):
                    yield found
                    number = min(number, found.before_fences)
                elif not readable:
                    raise found

    def names(self, kind: str) -> list[str]:
        """The names of all refs of a kind; without lists, `main` and those that were read."""
        if not self._storage.can_list:
            start = f"refs/{kind}/"
            known = {each.removeprefix(start) for each in self.newest if each.startswith(start)}
            usual = {MAIN} if kind == HEADS else set[str]()
            return sorted({from_file_name(each) for each in known} | usual)
        folders = self._storage.folders(f"refs/{kind}")
        names = [(from_file_name(folder), folder) for folder in folders]
        return [
            name
            for name, folder in names
            if to_file_name(name) == folder and may_be_ref(kind, name)
        ]
