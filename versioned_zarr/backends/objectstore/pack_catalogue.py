"""The pack catalogue: which packs and index files an object store has, without listing it.

Ref records name the index files and the packs that these do not cover. A process therefore knows
them from the records that it reads and from what it writes; it lists the store only to find a block
that none of them has.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Final

from versioned_zarr.blocks.packs.index import HEAD_SIZE, NAME_SIZE, head_of
from versioned_zarr.blocks.packs.pack_format import FOOTER_SIZE, INDEX_ENTRY, decode_footer
from versioned_zarr.blocks.packs.pack_registry import (
    ENDING,
    INDEX,
    PACKS,
    PackRegistry,
    new_name,
    pack_path,
)
from versioned_zarr.blocks.protocol import Followable
from versioned_zarr.blocks.remote.range_reader import RangeReader
from versioned_zarr.errors import CorruptError, ReadOnlyError, StorageError
from versioned_zarr.fork_local import ForkLocal, ForkSafeFuture, ForkSafeLock, threads
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.conditional_store import ConditionalStore
from versioned_zarr.storage.object_store import Bytes, Stored

_INDEX_ENDING: Final = ".idx"
_TAIL_BYTES: Final = 64 << 10
_NEWEST_BYTES: Final = 512 << 10
"""As much is read of the end of the pack with the newest commit, for the nodes of its tree."""
NEWEST: Final = "newest"
_KEPT_ENDS: Final = 64
_KEPT_END_BYTES: Final = 64 << 20
_AT_ONCE: Final = 16
_SMALL_INDEX_BYTES: Final = 4 << 20
"""Index files up to this size are read as a whole when a record names them."""
_KEPT_INDEX_BYTES: Final = 256 << 20
_RANGED_READS: Final = 16
"""After so many reads of an index file it is read as a whole, up to `_KEPT_INDEX_BYTES`."""


class PackCatalogue:
    """A `PackStorage` for a `PackRegistry`. Thread-safe.

    It lists what is known, reads the tails of new packs in parallel, and keeps what this process
    wrote in memory, so that a pack that was just stored is not read back.

    Args:
        storage: the objects.
        hash_code: the multihash code of the repository.
    """

    def __init__(self, storage: ConditionalStore, hash_code: int) -> None:
        self._storage, self.url, self._hash_code = storage, storage.url, hash_code
        self.reader = self._new_reader()
        self._known: dict[str, int] = {}
        """Size in bytes by path, -1 if it is not known."""
        self._deleted: set[str] = set()
        self._version = 0
        self._put_at: dict[str, int] = {}
        """When (ns) this process began to send each of its packs."""
        self._ends: OrderedDict[str, _End] = OrderedDict()
        self._whole: dict[str, memoryview] = {}
        self._starts: dict[str, memoryview] = {}
        """The first bytes of long index files: their heads, and the names of their packs."""
        self._ranged_reads: dict[str, int] = {}
        self._coming: dict[str, ForkSafeFuture[_End | None]] = {}
        self._workers: ForkLocal[ThreadPoolExecutor] = threads(_AT_ONCE, "vz-tails")
        self._guard = ForkSafeLock()
        self._index_guard = ForkSafeLock()

    def check_process(self) -> None:
        """See `ConditionalStore.check_process`."""
        self._storage.check_process()

    # What is known

    def learn(self, said: Mapping[str, Any]) -> None:
        """Add what a record says, and fetch the tails of new packs in the background."""
        with self._guard:
            for name in said.get(NEWEST, ()):
                self._begin(f"{PACKS}/{name}{ENDING}", _NEWEST_BYTES)
            for folder, ending in ((PACKS, ENDING), (INDEX, _INDEX_ENDING)):
                for name in said.get(folder, ()):
                    self._begin(f"{folder}/{name}{ending}")

    def _begin(self, path: str, size_bytes: int = _TAIL_BYTES) -> None:
        if path not in self._known and path not in self._deleted:
            self._add(path, -1)
            fetching = self._workers().submit(self._fetched, path, size_bytes)
            self._coming[path] = ForkSafeFuture(fetching)

    def _add(self, path: str, size: int) -> None:
        self._known[path] = size
        self._version += 1

    def scan(self) -> bool:
        """List the store; says whether that found anything new."""
        known = set(self._known)
        index = self._listed(INDEX)
        for path in index.keys() - known:
            self._wait(path)  # it names packs, whose tails are then not needed
        found = self._listed(PACKS).keys() | index.keys()
        return not found <= known

    def _listed(self, folder: str) -> dict[str, Stored]:
        """List a folder: adds what is new, and forgets what is gone; returns it by path."""
        with self._guard:
            before = {path for path in self._known if path.startswith(f"{folder}/")}
        ending = ENDING if folder == PACKS else _INDEX_ENDING
        listed = self._storage.list(folder)
        found = {stored.path: stored for stored in listed if stored.path.endswith(ending)}
        for path in before - found.keys():
            self._note_deleted(path)
        with self._guard:
            new = found.keys() - self._known.keys()
            for path in new:
                self._begin(path)
            for path, stored in found.items():
                self._known[path] = stored.size
        return found

    def forget(self, path: str) -> None:
        """Forget a pack or an index file, until the store is listed again."""
        with self._guard:
            self._known.pop(path, None)
            self._whole.pop(path, None)
            self._starts.pop(path, None)
            self._ends.pop(path, None)
            self._coming.pop(path, None)
            self._version += 1

    def _note_deleted(self, path: str) -> None:
        """Forget an object for ever: records and index files may still name it."""
        self._deleted.add(path)
        self.forget(path)

    def present(self) -> dict[str, Stored]:
        """The packs in the store by name; one request for each 1000.

        Packs that were deleted are forgotten.
        """
        with suppress(ReadOnlyError):  # who may not write counts on no list
            self._storage.renew(PACKS)
        return self._present()

    def _present(self) -> dict[str, Stored]:
        start = len(PACKS) + 1
        return {path[start : -len(ENDING)]: found for path, found in self._listed(PACKS).items()}

    def present_now(self) -> dict[str, Stored]:
        """As `present`, by a list that is not older than this call, for those who write.

        Raises:
            ReadOnlyError: there is no permission to write.
        """
        self._storage.renew(PACKS)
        return self._present()

    def look(self) -> dict[str, int]:
        """The sizes of the packs; forgets what was read of them, so that it is read again."""
        found = {name: stored.size for name, stored in self.present().items()}
        with self._guard:
            self._ends.clear()
            self.reader = self._new_reader()
        return found

    def _new_reader(self) -> RangeReader:
        return RangeReader(self._storage)

    def _fetched(self, path: str, size_bytes: int) -> _End | None:
        """The end of a pack, or an index file if it is small."""
        try:
            if path.startswith(PACKS):
                return self._end_of_pack(path, size_bytes)
            data = self._storage.read(path, 0, _SMALL_INDEX_BYTES)
            kept = self._whole if len(data) < _SMALL_INDEX_BYTES else self._starts
            kept[path] = data
            self._add_covered(data, path)
        except FileNotFoundError:
            self._note_deleted(path)
        except (StorageError, ReadOnlyError, CorruptError):
            pass  # whoever needs it is told
        return None

    def _add_covered(self, data: memoryview, path: str) -> None:
        """Add the packs that an index file names."""
        packs, _ = head_of(data, self._hash_code, path)
        names = bytes(data[HEAD_SIZE : HEAD_SIZE + packs * NAME_SIZE]).decode("latin-1")
        with self._guard:
            for at in range(0, len(names), NAME_SIZE):
                pack = f"{PACKS}/{names[at : at + NAME_SIZE]}{ENDING}"
                if pack not in self._deleted:
                    self._known.setdefault(pack, -1)
            self._version += 1

    def _end_of_pack(self, path: str, size_bytes: int) -> _End | None:
        data = self._storage.read(path, -size_bytes)
        footer = decode_footer(data, path)
        size = footer.data_end + footer.blocks * INDEX_ENTRY.itemsize + FOOTER_SIZE
        first = min(size - len(data), footer.data_end)
        if first < size - len(data):
            data = self._storage.read(path, first, size)
        return _End(size, data)

    def is_at_hand(self, registry: PackRegistry) -> bool:
        """Whether lookups in a registry of this catalogue cost no request."""
        names = [name for name, _ in registry.known.merged]
        return registry.is_current() and all(
            f"{INDEX}/{name}{_INDEX_ENDING}" in self._whole for name in names
        )

    # See `PackStorage`

    def stamp(self, prefix: str) -> object:
        """See `PackStorage.stamp`."""
        del prefix
        return self._version

    def list(self, prefix: str) -> list[Stored]:
        """See `ObjectStore.list`: what is known; waits for the index files that records named."""
        for path in list(self._coming):
            if path.startswith(INDEX):
                self._wait(path)
        with self._guard:
            return [
                Stored(path, size, 0.0)
                for path, size in sorted(self._known.items())
                if path.startswith(f"{prefix}/")
            ]

    def view(self, path: str) -> memoryview | None:
        """See `ObjectStore.view`: small index files, and what was just written."""
        self._wait(path)
        return self._whole.get(path)

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `ObjectStore.read`."""
        at_hand = self.at_hand(path, start, end)
        if at_hand is not None:
            return at_hand
        try:
            if path.startswith(INDEX):
                return self._read_index(path, start, end)
            if end is None or start < 0:
                return self._storage.read(path, start, end)
            return self.reader.read(path, start, end)
        except FileNotFoundError:
            self._note_deleted(path)  # what is in use is elsewhere
            raise

    def _read_index(self, path: str, start: int, end: int | None) -> memoryview:
        """A range of an index file: a lookup is up to six requests, so many lookups read it all."""
        first = self._starts.get(path)
        if first is not None and end is not None and end <= len(first):
            return first[start:end]
        with self._index_guard:
            whole = self._whole.get(path)
            if whole is None:
                reads = self._ranged_reads[path] = self._ranged_reads.get(path, 0) + 1
                if reads == _RANGED_READS:
                    data = self._storage.read(path, 0, _KEPT_INDEX_BYTES)
                    if len(data) < _KEPT_INDEX_BYTES:
                        whole = self._whole[path] = data
                        self._starts.pop(path, None)
        return self._storage.read(path, start, end) if whole is None else whole[start:end]

    def at_hand(self, path: str, start: int, end: int | None) -> memoryview | None:
        """Bytes of the end of a pack, if they are in memory; waits if they are being fetched."""
        self._wait(path)
        return self._end_at(path, start, end)

    def peek(self, path: str, start: int, end: int) -> memoryview | None:
        """Bytes of a pack that were fetched; does not block."""
        found = self._end_at(path, start, end)
        return self.reader.peek(path, start, end) if found is None else found

    def _end_at(self, path: str, start: int, end: int | None) -> memoryview | None:
        found = self._ends.get(path)
        if found is None:
            return None
        at = max(0, found.size + start) if start < 0 else start
        stop = found.size if end is None else min(end, found.size)
        first = found.size - len(found.data)
        return found.data[at - first : max(at, stop) - first] if at >= first else None

    def _wait(self, path: str) -> None:
        coming = self._coming.get(path)
        if coming is None:
            return
        self._storage.check_process()
        fetching = coming.here()
        found = self._fetched(path, _TAIL_BYTES) if fetching is None else fetching.result()
        if found is not None:
            self._keep_end(path, found)
        self._coming.pop(path, None)

    def _keep_end(self, path: str, end: _End) -> None:
        with self._guard:
            self._ends[path] = end
            kept_bytes = sum(len(each.data) for each in self._ends.values())
            while len(self._ends) > 1 and (
                len(self._ends) > _KEPT_ENDS or kept_bytes > _KEPT_END_BYTES
            ):
                _, dropped = self._ends.popitem(last=False)
                kept_bytes -= len(dropped.data)

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """See `ObjectStore.put`; the end of a pack, and a whole index file, stay in memory."""
        self._storage.put(path, parts, durable=durable)
        size = sum(map(len, parts))
        with self._guard:
            if path.startswith(INDEX) and size < _KEPT_INDEX_BYTES:
                self._whole[path] = memoryview(b"".join(parts))
            self._add(path, size)
        if path.startswith(PACKS):
            self._note_put(path, size, _last_of(parts))

    def _note_put(self, path: str, size: int, last: memoryview) -> None:
        """Take note of a pack that was stored, and of its last bytes."""
        with self._guard:
            self._keep_end(path, _End(size, last))
            self._add(path, size)

    def add_packs(self, sizes: Mapping[str, int]) -> None:
        """Add packs that are stored, by name with their sizes in bytes."""
        with self._guard:
            for name, size in sizes.items():
                self._add(pack_path(name), size)

    def put_pack(self, parts: Sequence[Bytes]) -> str:
        """Store a pack, of which the last part is the tail; returns its name."""
        name = new_name()
        self._put_at[name] = time.monotonic_ns()
        self.put(pack_path(name), parts)
        return name

    def put_draft(self, draft: Followable, root: Cid) -> str:
        """Store a finished draft as a pack; returns its name."""
        return self.put_pack(draft.sealed(root))

    def put_since(self, moment_ns: int) -> frozenset[str]:
        """The packs that this process began to send after a moment."""
        return frozenset(name for name, put_ns in self._put_at.items() if put_ns > moment_ns)

    def is_there(self, name: str) -> bool:
        """Whether a pack is known and was not found to be deleted."""
        return pack_path(name) in self._known

    def is_own(self, name: str) -> bool:
        """Whether this process sent a pack."""
        return name in self._put_at

    def delete(self, path: str, *, durable: bool = False) -> None:
        """Forget an index file that another replaces; only `Collector` deletes objects.

        Processes on other machines may be reading it.
        """
        del durable
        self.forget(path)

    @contextmanager
    def lock(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[bool]:
        """See `Locks.lock`: nothing to lock, because nothing is deleted while it is used."""
        del name, shared, wait
        yield True


def _last_of(parts: Sequence[Bytes]) -> memoryview:
    """The last part, and as much before it as is read when a pack is opened."""
    kept: list[Bytes] = []
    kept_bytes = 0
    for part in reversed(parts):
        if kept and kept_bytes >= _TAIL_BYTES:
            break
        wanted = max(0, _TAIL_BYTES - kept_bytes) if kept else len(part)
        kept.append(memoryview(part)[max(0, len(part) - wanted) :])
        kept_bytes += len(kept[-1])
    return memoryview(b"".join(reversed(kept)))


class _End:
    """The last bytes of an object: the tail of a pack, and more."""

    __slots__ = ("data", "size")

    def __init__(self, size: int, data: memoryview) -> None:
        self.size, self.data = size, data
