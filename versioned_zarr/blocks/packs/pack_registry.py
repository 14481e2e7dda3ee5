"""The pack registry: the packs in a storage, and the location of each block in them.

Layout: `packs/NAME.pack`, written once; `index/NAME.idx`, merged runs over many packs. A pack that
no run covers yet is searched by the index in its own tail. Reads no block.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from versioned_zarr.blocks.packs.index import (
    NAME_SIZE,
    BlockLocation,
    Run,
    merge_runs,
    run_from_file,
    run_of_pack,
    run_of_packs,
)
from versioned_zarr.blocks.packs.pack_format import Entries, read_tail
from versioned_zarr.blocks.packs.pack_recovery import recover
from versioned_zarr.blocks.packs.ranged_run import run_at
from versioned_zarr.errors import CorruptError, ReadOnlyError, StorageError
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import ObjectStore, PackStorage, view_or_read

PACKS, INDEX = "packs", "index"
ENDING = ".pack"
_NAME = re.compile(f"[0-9a-f]{{{NAME_SIZE}}}")
_UNCOVERED_PACKS = 16
_UNCOVERED_ENTRIES = 4096


def pack_path(name: str) -> str:
    """The path of the pack with this name."""
    return f"{PACKS}/{name}{ENDING}"


def new_name() -> str:
    """A unique name for a pack or a run."""
    return secrets.token_hex(NAME_SIZE // 2)


@dataclass(frozen=True)
class KnownPacks:
    """The packs that this process knows: replaced as a whole, never changed.

    Attributes:
        stamp: represents the state of the folders; the same object while no change is seen.
        packs: the names of the packs.
        merged: the index files, each with its run.
        single: the runs of packs that no index file covers.
    """

    stamp: object
    packs: frozenset[str]
    merged: tuple[tuple[str, Run], ...]
    single: tuple[Run, ...]

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """All runs, those with the most blocks first, so that a lookup usually ends early."""
        return (*(run for _, run in self.merged), *reversed(self.single))

    def find(self, cid: Cid) -> BlockLocation | None:
        """One location of a block."""
        digest = cid[-32:]
        for run in self.runs:
            place = run.first(digest)
            if place is not None:
                return place if place.pack in self.packs else next(self.find_all(cid), None)
        return None

    def find_all(self, cid: Cid) -> Iterator[BlockLocation]:
        """All locations of a block: merging and repacking may temporarily leave it in two packs."""
        digest = cid[-32:]
        for run in self.runs:
            for place in run.find(digest):
                if place.pack in self.packs:
                    yield place


class PackRegistry:
    """The packs that this process knows. Thread-safe; many processes may share the storage.

    Args:
        storage: stores the packs and index files.
        hash_function: the hash function of the repository.

    Attributes:
        known: the packs that are known now.
    """

    def __init__(self, storage: PackStorage, hash_function: HashFunction) -> None:
        self._storage, self._hash = storage, hash_function
        self.known = KnownPacks(None, frozenset(), (), ())
        self._guard = ForkSafeLock()
        self._stored = 0
        self._checked: set[str] = set()
        """The index files whose checksums were verified."""
        self._damaged: set[str] = set()
        """The damaged index files; the next one that is written replaces them."""
        self.refresh()

    def is_current(self) -> bool:
        """Whether `refresh` would find nothing new."""
        return self._stamp() == self.known.stamp

    def refresh(self) -> bool:
        """Look for new packs and index files; returns whether there were changes."""
        stamp = self._stamp()
        if stamp == self.known.stamp:
            return False
        with self._guard:
            stamp = self._stamp()
            known = self.known
            if stamp == known.stamp:
                return True
            packs = frozenset(_names(self._storage, PACKS, ENDING))
            merged = self._load_merged(dict(known.merged))
            covered = {pack for _, run in merged for pack in run.packs}
            have = {run.packs[0]: run for run in known.single}
            single = []
            for name in sorted(packs - covered):
                run = have.get(name) or self._load_single(name)
                if run is not None:
                    single.append(run)
            self.known = KnownPacks(stamp, packs, tuple(merged), tuple(single))
        return True

    def _stamp(self) -> object:
        return self._storage.stamp(PACKS), self._storage.stamp(INDEX)

    def _load_merged(self, have: dict[str, Run]) -> list[tuple[str, Run]]:
        found: list[tuple[str, Run]] = []
        for name in _names(self._storage, INDEX, ".idx"):
            if name in self._damaged:
                continue
            run = have.get(name)
            if run is None:
                path = f"{INDEX}/{name}.idx"
                try:
                    run = run_at(self._storage, path, self._hash.code)
                except (FileNotFoundError, CorruptError, StorageError, ReadOnlyError):
                    continue
            found.append((name, run))
        found.sort(key=lambda item: len(item[1].packs), reverse=True)
        covered: set[str] = set()
        needed = []
        for name, run in found:
            if not covered.issuperset(run.packs):
                covered.update(run.packs)
                needed.append((name, run))
        return needed

    def _load_single(self, name: str) -> Run | None:
        path = pack_path(name)
        try:
            tail = read_tail(self._storage, path, self._hash.code)
            return run_of_pack(name, tail.entries, tail.data_end)
        except FileNotFoundError:
            return None
        except CorruptError:
            return self._recovered(name)

    def find(self, cid: Cid) -> BlockLocation | None:
        """One location of a block, as far as this process knows."""
        while True:
            try:
                return self.known.find(cid)
            except FileNotFoundError:
                self._read_again()

    def find_all(self, cid: Cid) -> list[BlockLocation]:
        """All locations of a block, as far as this process knows."""
        while True:
            try:
                return [*self.known.find_all(cid)]
            except FileNotFoundError:
                self._read_again()

    def _read_again(self) -> None:
        """Read the folders again, because an index file was replaced while it was read."""
        self.known = replace(self.known, stamp=None, merged=(), single=())
        self.refresh()

    def wants_tidying(self, packs: int) -> bool:
        """Whether this process has stored or found enough new packs to merge again."""
        if self._stored < packs and (self._stored != 1 or len(self.known.packs) < 2 * packs):
            return False
        self._stored = 0
        return True

    def learn(self, name: str) -> None:
        """Add a pack that this process has just stored, without looking for others."""
        run = self._load_single(name)
        with self._guard:
            self._stored += 1
            known = self.known
            single = known.single if run is None else (*known.single, run)
            self.known = KnownPacks(known.stamp, known.packs | {name}, known.merged, single)
        entries = sum(len(run) for run in single)
        if len(single) >= _UNCOVERED_PACKS or entries >= _UNCOVERED_ENTRIES:
            self.merge()

    def adopt(self, packs: Mapping[str, Entries]) -> None:
        """Add packs that others have stored, by name with their entries.

        If there are many, they are covered by one index file. The storage must list the packs next.
        """
        known = self.known
        new = [(pack, entries) for pack, entries in packs.items() if pack not in known.packs]
        if not new:
            return
        merged, single = known.merged, known.single
        if len(new) >= _UNCOVERED_PACKS or sum(len(each) for _, each in new) >= _UNCOVERED_ENTRIES:
            name, run = new_name(), run_of_packs(new)
            self._storage.put(f"{INDEX}/{name}.idx", run.to_bytes(self._hash.code))
            merged = (*merged, (name, run))
        else:
            single = (*single, *(run_of_packs([each]) for each in new))
        with self._guard:
            self._stored += len(new)
            found = known.packs.union(pack for pack, _ in new)
            self.known = KnownPacks(known.stamp, found, merged, single)

    def merge(self, *, everything: bool = False) -> None:
        """Cover the single packs with a run; merge runs until each is at least twice the next."""
        self.refresh()
        known = self.known
        chosen: list[Run] = list(known.single)
        size = sum(len(run) for run in chosen)
        left = sorted(known.merged, key=lambda item: len(item[1]))
        joined = []
        while left and (everything or len(left[0][1]) < 2 * size):
            name, run = left.pop(0)
            joined.append(name)
            chosen.append(run)
            size += len(run)
        if not chosen:
            return
        # The index contains nothing that is not in the packs: skip a file that cannot be read now.
        with contextlib.suppress(FileNotFoundError, CorruptError, StorageError):
            self._write_index(merge_runs(chosen, set(known.packs)), replacing=joined)

    def look_again(self) -> bool:
        """Search again for a block that was not found; returns whether more is known. Read-only.

        Lists the folders even if nothing seems to have changed, because with a coarse clock a
        folder may have the same time before and after a change. Verifies the checksum of each index
        file, once. The packs of a damaged index file are searched by their own tails.
        """
        if frozenset(pack_names(self._storage)) != self.known.packs:
            self.known = replace(self.known, stamp=None)
            self.refresh()
            return True
        with self._guard:
            known = self.known
            merged = [(name, run) for name, run in known.merged if self._is_sound(name)]
            if len(merged) == len(known.merged):
                return False
            covered = {pack for _, run in merged for pack in run.packs}
            have = {run.packs[0]: run for run in known.single}
            runs = (have.get(name) or self._load_single(name) for name in known.packs - covered)
            single = tuple(run for run in runs if run is not None)
            self.known = replace(known, merged=tuple(merged), single=single)
        return True

    def _is_sound(self, name: str) -> bool:
        """Whether the checksum of an index file is correct; verified once."""
        if name not in self._checked:
            path = f"{INDEX}/{name}.idx"
            try:
                run_from_file(view_or_read(self._storage, path), self._hash.code, path, check=True)
            except (FileNotFoundError, CorruptError, StorageError, ReadOnlyError):
                self._damaged.add(name)
                return False
            self._checked.add(name)
        return True

    def rebuild(self) -> None:
        """Replace all index files with one built from the tails of the packs. O(all blocks)."""
        with self._guard:
            packs = _names(self._storage, PACKS, ENDING)
            stale = _names(self._storage, INDEX, ".idx")
            runs = [run for run in map(self._load_single, packs) if run is not None]
            self.known = KnownPacks(self._stamp(), frozenset(packs), (), tuple(runs))
        if runs:
            self._write_index(merge_runs(runs, set(packs)), replacing=stale)

    def _write_index(self, run: Run, replacing: Iterable[str]) -> None:
        path = f"{INDEX}/{new_name()}.idx"
        # The index contains nothing that is not in the packs: without space or permission for an
        # index file, lookups use the tails of the packs.
        with contextlib.suppress(StorageError, ReadOnlyError):
            self._storage.put(path, run.to_bytes(self._hash.code))
            for name in {*replacing, *self._damaged}:
                self._storage.delete(f"{INDEX}/{name}.idx")
        self.refresh()

    def _recovered(self, name: str) -> Run | None:
        """The run of a pack whose tail is damaged; hashes the whole pack.

        For a truncated pack, the entries of an index file.
        """
        path = pack_path(name)
        try:
            found = recover(view_or_read(self._storage, path), self._hash, path)
        except FileNotFoundError:
            return None
        run = run_of_pack(name, found.entries, found.data_end)
        if found.is_whole:
            return run
        told = (merge_runs([each], {name}) for _, each in self.known.merged if name in each.packs)
        return max([run, *told], key=len)


def pack_names(storage: ObjectStore) -> dict[str, int]:
    """The packs by name, with their sizes in bytes."""
    return _sizes(storage, PACKS, ENDING)


def _names(storage: ObjectStore, folder: str, ending: str) -> list[str]:
    return list(_sizes(storage, folder, ending))


def _sizes(storage: ObjectStore, folder: str, ending: str) -> dict[str, int]:
    """The files in a folder whose names look like those of `new_name`; all others are ignored."""
    start = len(folder) + 1
    return {
        stored.path[start : -len(ending)]: stored.size
        for stored in storage.list(folder)
        if stored.path.endswith(ending) and _NAME.fullmatch(stored.path[start : -len(ending)])
    }
