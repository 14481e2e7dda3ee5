"""The block store that keeps packs on a `Storage`, and knows from its index where each block lies.

Layout: `packs/NAME.car`, written once; `index/NAME.idx`, merged runs over many packs. A pack that
no run covers yet is looked up through the index at its own tail.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from versioned_zarr.blocks.buffers import Buffers
from versioned_zarr.blocks.index import (
    NAME_SIZE,
    Place,
    Run,
    merge_runs,
    run_from_file,
    run_of_pack,
)
from versioned_zarr.blocks.pack import pack_of, read_entries, recover_entries
from versioned_zarr.blocks.store import Block, Followable, Publishable
from versioned_zarr.errors import (
    BlockNotFoundError,
    CorruptBlockError,
    CorruptError,
    ReadOnlyError,
    StorageError,
)
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.car import block_at, section_header
from versioned_zarr.ipld.cid import CID_SIZE, DAG_PB, RAW, Cid, HashFunction
from versioned_zarr.storage import Storage, look_at

PACKS, INDEX = "packs", "index"
GC_LOCK = "gc"
"""Shared by those who count on blocks to stay; alone for the moment in which packs go."""
HOUSE_LOCK = "housekeeping"
"""Only one process removes packs at a time, so that no other's plans are upset."""
_NEAR = contextlib.nullcontext()
_BUFFERS = Buffers()
_NOTHING_READ = memoryview(b""), 0
_UNCOVERED_PACKS = 16
_UNCOVERED_ENTRIES = 4096


def pack_path(name: str) -> str:
    """Where the pack of this name lies."""
    return f"{PACKS}/{name}.car"


def new_name() -> str:
    """A name for a pack or a run that no other has."""
    return secrets.token_hex(NAME_SIZE // 2)


@dataclass(frozen=True)
class _Known:
    """What this process knows of the packs: replaced as a whole, never changed."""

    stamp: object
    packs: frozenset[str]
    merged: tuple[tuple[str, Run], ...]  # name of the index file, and its run
    single: tuple[Run, ...]  # of packs that no merged run covers

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """All runs, those of most blocks first, where a look-up ends soonest as a rule."""
        return (*(run for _, run in self.merged), *reversed(self.single))

    def find(self, cid: Cid) -> Place | None:
        """One place of a block."""
        digest = cid[-32:]
        for run in self.runs:
            place = run.first(digest)
            if place is not None:
                return place if place.pack in self.packs else next(self.find_all(cid), None)
        return None

    def find_all(self, cid: Cid) -> Iterator[Place]:
        """All places of a block: merging and repacking may leave it in two packs for a while."""
        digest = cid[-32:]
        for run in self.runs:
            for place in run.find(digest):
                if place.pack in self.packs:
                    yield place


class PackedStore:
    """A `BlockStore` of packs. Thread-safe; many processes may share the storage."""

    is_remote = False

    def __init__(self, storage: Storage, hash_function: HashFunction, *, verify: bool) -> None:
        self.storage = storage
        self.hash = hash_function
        self.verify = verify
        self._known = _Known(None, frozenset(), (), ())
        self._guard = threading.Lock()
        self._rescued: object = None
        self._stored = 0
        self._read_last = _NOTHING_READ
        self.refresh()

    # Reading

    def get(self, cid: Cid) -> memoryview:
        """See `BlockStore.get`."""
        data = self.find_known(cid)
        if data is None and self.refresh():
            data = self.find_known(cid)
        if data is None and self._rescue():
            data = self.find_known(cid)
        if data is None or (self.verify and not cids.matches(cid, data)):
            data = self._find_sound(cid)
        return data

    def find(self, cid: Cid) -> memoryview | None:
        """The bytes of a block, or None if it is not here; not compared with its CID."""
        data = self.find_known(cid)
        return self.find_known(cid) if data is None and self.refresh() else data

    def find_known(self, cid: Cid) -> memoryview | None:
        """As `find`, in the packs that this process knows; looks for no new ones.

        Values are read in the order in which they were written, as a rule: what lies behind the
        block read last is looked at first. Else the index must name a place, and a section of
        that digest must be there.
        """
        pack, end = self._read_last
        span = block_at(pack, end, cid)
        if span is not None:
            self._read_last = pack, span[1]
            return pack[span[0] : span[1]]
        place = self._known.find(cid)
        if place is None:
            return None
        header = section_header(cid, place.size)
        before = len(header)
        path, start, end = pack_path(place.pack), place.start - before, place.start + place.size
        try:
            view = self.storage.view(path)
            section = self.storage.read(path, start, end) if view is None else view[start:end]
        except FileNotFoundError:
            return None
        found = section[:before]
        # A raw block and a node of the same bytes share their digest, and so their place.
        if found != header and (len(found) < CID_SIZE or _other_codec(found) != header):
            return None
        if view is not None:
            self._read_last = view, end
        return section[before:]

    def get_joined(self, cids: Sequence[Cid], size_bytes: int) -> memoryview:
        """See `BlockStore.get_joined`; one system call where the blocks lie side by side."""
        joined = _BUFFERS.take(size_bytes)
        if self.verify or not self._read_side_by_side(cids, joined):
            at = 0
            for cid in cids:
                block = self.get(cid)
                joined[at : at + len(block)] = block
                at += len(block)
        return joined.toreadonly()

    def _read_side_by_side(self, cids: Sequence[Cid], into: memoryview) -> bool:
        """Read blocks that lie in one pack, each behind the last; says whether they do.

        Only the first is looked up. The others are taken to be as long as that one, as a value's
        leaves are, and to lie behind it: what stands before each of them says whether it is so.
        """
        first = self._known.find(cids[0])
        if first is None or -(-len(into) // max(1, first.size)) != len(cids):
            return False
        headers: list[bytes] = []
        found: list[bytearray] = []
        buffers: list[memoryview] = []
        for number, cid in enumerate(cids):
            leaf = into[number * first.size : (number + 1) * first.size]
            header = section_header(cid, len(leaf))
            headers.append(header)
            found.append(bytearray(len(header)))
            buffers += (memoryview(found[-1]), leaf)
        try:
            start = first.start - len(headers[0])
            self.storage.read_into(pack_path(first.pack), start, buffers)
        except (FileNotFoundError, StorageError):
            return False
        return headers == found

    def _find_sound(self, cid: Cid) -> memoryview:
        """The block from whatever place holds it whole; says what is wrong if none does."""
        text, place = cids.to_text(cid), None
        for place in self._known.find_all(cid):
            try:
                path, start = pack_path(place.pack), place.start
                data = look_at(self.storage, path, start, start + place.size)
            except FileNotFoundError:
                continue
            if cids.matches(cid, data):
                return data
        if place is not None:
            raise CorruptBlockError(
                f"block {text} is damaged in {pack_path(place.pack)} of {self.storage.url}; "
                "fetch it from another copy of the repository; 'vz fsck' says what it touches",
                cid=text,
                where=pack_path(place.pack),
            )
        raise BlockNotFoundError(
            f"block {text} is not in {self.storage.url}; "
            "'vz fsck' lists what is missing and which commits it touches",
            cid=text,
        )

    def __contains__(self, cid: Cid) -> bool:
        """See `BlockStore.__contains__`."""
        return self._known.find(cid) is not None

    def missing(self, wanted: Sequence[Cid]) -> list[Cid]:
        """See `BlockStore.missing`: looks at the folder of packs once, then at the index."""
        self.refresh()
        return [cid for cid in wanted if cid not in self]

    # Writing

    def follow(self, draft: Followable) -> None:
        """See `BlockStore.follow`: nothing to do, the draft lies here already."""

    def expect(self, blocks: Sequence[Block]) -> None:
        """See `BlockStore.expect`: nothing to do."""

    def put(self, blocks: Sequence[Block], root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.put`: one new pack; `durable` as in `Storage.put`."""
        name = new_name()
        self.storage.put(pack_path(name), pack_of(blocks, root, self.hash), durable=durable)
        self._learn(name)

    def publish(self, draft: Publishable, root: Cid, *, durable: bool = True) -> None:
        """See `BlockStore.publish`; `durable` as in `Storage.put`."""
        name = new_name()
        draft.publish(pack_path(name), root, durable=durable)
        self._learn(name)

    @contextlib.contextmanager
    def keep(self, cids_: Iterable[Cid]) -> Iterator[bool]:
        """See `BlockStore.keep`: holds off the last step of `gc` and `repack`."""
        with self.storage.lock(GC_LOCK, shared=True):
            wanted = list(cids_)
            if wanted:
                self.refresh()
            yield all(cid in self for cid in wanted)

    def near(self) -> contextlib.AbstractContextManager[None]:
        """See `BlockStore.near`: everything is near."""
        return _NEAR

    # What is known of the packs

    def refresh(self) -> bool:
        """Look for new packs and indexes; says whether there were changes."""
        stamp = self._stamp()
        if stamp == self._known.stamp:
            return False
        with self._guard:
            stamp = self._stamp()
            known = self._known
            if stamp == known.stamp:
                return True
            packs = frozenset(_names(self.storage, PACKS, ".car"))
            merged = self._load_merged(dict(known.merged))
            covered = {pack for _, run in merged for pack in run.packs}
            have = {run.packs[0]: run for run in known.single}
            single = []
            for name in sorted(packs - covered):
                run = have.get(name) or self._load_single(name)
                if run is not None:
                    single.append(run)
            self._known = _Known(stamp, packs, tuple(merged), tuple(single))
            self._read_last = _NOTHING_READ  # its pack may have gone
        return True

    def _stamp(self) -> object:
        return self.storage.stamp(PACKS), self.storage.stamp(INDEX)

    def _load_merged(self, have: dict[str, Run]) -> list[tuple[str, Run]]:
        found: list[tuple[str, Run]] = []
        for name in _names(self.storage, INDEX, ".idx"):
            run = have.get(name)
            if run is None:
                path = f"{INDEX}/{name}.idx"
                try:
                    data = look_at(self.storage, path)
                    run = run_from_file(data, self.hash.code, path, check=False)
                except (FileNotFoundError, CorruptError):
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
            data = look_at(self.storage, path)
            return run_of_pack(name, *read_entries(data, self.hash, path))
        except FileNotFoundError:
            return None
        except CorruptError:
            return self._scan(name)

    def wants_tidying(self, packs: int) -> bool:
        """Whether this process has stored so many packs since the last time, or found them."""
        if self._stored < packs and (self._stored != 1 or len(self._known.packs) < 2 * packs):
            return False
        self._stored = 0
        return True

    def _learn(self, name: str) -> None:
        """Take in a pack that this process has just stored, without looking at the others."""
        run = self._load_single(name)
        with self._guard:
            self._stored += 1
            known = self._known
            single = known.single if run is None else (*known.single, run)
            self._known = _Known(known.stamp, known.packs | {name}, known.merged, single)
        entries = sum(len(run) for run in single)
        if len(single) >= _UNCOVERED_PACKS or entries >= _UNCOVERED_ENTRIES:
            self.merge_index()

    def merge_index(self, *, everything: bool = False) -> None:
        """Cover the single packs with a run, and join runs until each is twice the next."""
        self.refresh()
        known = self._known
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
        self._write_index(merge_runs(chosen, set(known.packs)), replacing=joined)

    def _rescue(self) -> bool:
        """Make the index again from the packs, once for each state of them; says if it did."""
        if self._stamp() == self._rescued:
            return False
        with contextlib.suppress(ReadOnlyError, StorageError):
            self.rebuild_index()
        self._rescued = self._stamp()
        return True

    def rebuild_index(self) -> None:
        """Replace every index file by one made from the packs' sections alone. O(all blocks)."""
        with self._guard:
            packs = _names(self.storage, PACKS, ".car")
            stale = _names(self.storage, INDEX, ".idx")
            runs = [run for run in map(self._scan, packs) if run is not None]
            self._known = _Known(self._stamp(), frozenset(packs), (), tuple(runs))
        if runs:
            self._write_index(merge_runs(runs, set(packs)), replacing=stale)

    def _write_index(self, run: Run, replacing: Iterable[str]) -> None:
        path = f"{INDEX}/{new_name()}.idx"
        self.storage.put(path, run.to_bytes(self.hash.code))
        for name in replacing:
            self.storage.delete(f"{INDEX}/{name}.idx")
        self.refresh()

    def _scan(self, name: str) -> Run | None:
        path = pack_path(name)
        try:
            data = look_at(self.storage, path)
        except FileNotFoundError:
            return None
        return run_of_pack(name, *recover_entries(data, self.hash, path))


def _other_codec(header: memoryview) -> bytes:
    """A section's header with the codec raw for dag-pb and the other way round."""
    changed = bytearray(header)
    changed[-CID_SIZE + 1] ^= RAW ^ DAG_PB
    return bytes(changed)


def _names(storage: Storage, folder: str, ending: str) -> list[str]:
    start = len(folder) + 1
    return [
        stored.path[start : -len(ending)]
        for stored in storage.list(folder)
        if stored.path.endswith(ending)
    ]
