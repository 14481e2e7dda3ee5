"""Session packs: a batch of a session is a pack that contains the values and what was written.

The name of a pack is 24 hexadecimal digits: ten of the SHA-256 of the session's id, eight of its
writer, and six of the number of the batch. The document of the batch is the last block, and the
root of the pack. So one request stores a batch, a commit takes the packs as they are, and a list of
the names that begin like the session's finds all of its batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from operator import itemgetter
from typing import Final

from versioned_zarr.backends.objectstore.sessions.batch_documents import (
    StoredDocument,
    decode_documents,
    encode_documents,
    entries_of,
    fewest,
    first_included,
)
from versioned_zarr.backends.objectstore.sessions.new_objects import create_new
from versioned_zarr.blocks.cache.memory_cache import MemoryCache
from versioned_zarr.blocks.packs.index import BlockLocation
from versioned_zarr.blocks.packs.pack import pack_of
from versioned_zarr.blocks.packs.pack_format import (
    FOOTER_SIZE,
    INDEX_ENTRY,
    PackBlock,
    Tail,
    decode_footer,
    decode_tail_in,
)
from versioned_zarr.blocks.packs.pack_registry import ENDING, PACKS, pack_path
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.engine.stored_sessions.session_log import BatchName
from versioned_zarr.errors import CorruptError, ReadOnlyError
from versioned_zarr.fork_local import ForkLocal, ForkSafeLock, threads
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.conditional_store import ConditionalStore
from versioned_zarr.storage.object_store import Stored

_KEY_SIZE: Final = 10
_TAIL_BYTES: Final = 16 << 10
"""The first read of a pack: the tail and the document of about 60 writes."""
_KEPT_BYTES: Final = 64 << 20
_KEPT_BLOCK_BYTES: Final = 256 << 10
_AT_ONCE: Final = 16


def session_key(session: str) -> str:
    """The first digits of the names of a session's packs."""
    return hashlib.sha256(session.encode()).hexdigest()[:_KEY_SIZE]


def pack_name(session: str, name: BatchName) -> str:
    """The name of the pack of a batch."""
    return f"{session_key(session)}{name.writer:08x}{name.number:06x}"


def key_and_batch(pack: str) -> tuple[str, BatchName]:
    """The session key and the batch in the name of a pack, if it is the pack of a session."""
    return pack[:_KEY_SIZE], BatchName(
        int(pack[_KEY_SIZE : _KEY_SIZE + 8], 16), int(pack[_KEY_SIZE + 8 :], 16)
    )


def document_in(blocks: Sequence[PackBlock], root: Cid) -> PackBlock | None:
    """The document of a batch among the blocks of a pack, if it is the pack of a session.

    Args:
        blocks: the blocks, in the order of their offsets.
        root: the root of the pack.
    """
    last = blocks[-1] if blocks else None
    is_document = last is not None and len(blocks) > 1 and last.cid == root and cids.is_raw(root)
    return last if is_document else None


def _stored(name: BatchName, document: bytes, tail: Tail, size_bytes: int) -> StoredDocument:
    return StoredDocument(name.number, document, tail.entries.tobytes(), size_bytes, tail.data_end)


class SessionPacks:
    """The packs of sessions that this process wrote or read. Thread-safe.

    Args:
        storage: the objects.
        hash_function: the hash function of the repository.
    """

    def __init__(self, storage: ConditionalStore, hash_function: HashFunction) -> None:
        self._storage, self._hash = storage, hash_function
        self._known: dict[str, StoredDocument] = {}
        self._unplaced: list[str] = []
        """Packs of which no block was looked for yet."""
        self._places: dict[bytes, BlockLocation] = {}
        self._recent = MemoryCache(_KEPT_BYTES)
        self._guard = ForkSafeLock()
        self._workers: ForkLocal[ThreadPoolExecutor] = threads(_AT_ONCE, "vz-batches")

    def named(self, session: str) -> Mapping[BatchName, Stored]:
        """The packs of a session; a request for each 1000."""
        with suppress(ReadOnlyError):
            self._storage.renew(PACKS)
        found = self._storage.named(PACKS, session_key(session))
        start = len(PACKS) + 1
        return {
            key_and_batch(stored.path[start : -len(ENDING)])[1]: stored
            for stored in found
            if stored.path.endswith(ENDING)
        }

    def append(
        self, session: str, name: BatchName, document: bytes, blocks: Sequence[Block]
    ) -> None:
        """See `SessionLog.append`."""
        earlier = self._earlier(session, name)
        block = encode_documents([StoredDocument(name.number, document), *earlier])
        root = self._hash.raw(block)
        parts = pack_of([*blocks, (root, block)], root, self._hash)
        pack = pack_name(session, name)
        data = b"".join(parts)
        create_new(self._storage, pack_path(pack), data)
        tail = decode_tail_in(memoryview(data), self._hash.code, pack)
        self._learn(pack, _stored(name, document, tail, len(data)))
        for cid, content in blocks:
            if len(content) <= _KEPT_BLOCK_BYTES:
                self._recent.add(cid, memoryview(bytes(content)))

    def _earlier(self, session: str, name: BatchName) -> list[StoredDocument]:
        """The batches before a new one that its block contains, too."""
        numbers = range(first_included(name.number), name.number)
        packs = [pack_name(session, name._replace(number=number)) for number in numbers]
        return [self._known[pack] for pack in packs if pack in self._known]

    def read(self, session: str, name: BatchName) -> bytes:
        """See `SessionLog.read`."""
        return self._read(session, name)[0].document

    def read_all(
        self, session: str, names: Collection[BatchName]
    ) -> Iterator[tuple[BatchName, bytes]]:
        """See `SessionLog.read_all`."""
        self._storage.check_process()
        wanted: dict[int, set[int]] = {}
        for writer, number in names:
            wanted.setdefault(writer, set()).add(number)
        chosen = [
            BatchName(writer, number)
            for writer, numbers in wanted.items()
            for number in fewest(numbers)
        ]
        for name, found in zip(chosen, self._read_many(session, chosen), strict=True):
            for each in found:
                if each.number in wanted[name.writer]:
                    wanted[name.writer].discard(each.number)
                    yield name._replace(number=each.number), each.document
        rest = [BatchName(writer, n) for writer, numbers in wanted.items() for n in numbers]
        for name, found in zip(rest, self._read_many(session, rest), strict=True):
            yield name, found[0].document

    def _read_many(
        self, session: str, names: Sequence[BatchName]
    ) -> Iterable[list[StoredDocument]]:
        def read(name: BatchName) -> list[StoredDocument]:
            return self._read(session, name)

        return map(read, names) if len(names) < 2 else self._workers().map(read, names)

    def _read(self, session: str, name: BatchName) -> list[StoredDocument]:
        """What the block of a batch contains, its own document first."""
        pack = pack_name(session, name)
        path = pack_path(pack)
        end = self._storage.read(path, -_TAIL_BYTES)
        footer = decode_footer(end, path)
        size_bytes = footer.data_end + footer.blocks * INDEX_ENTRY.itemsize + FOOTER_SIZE
        if footer.data_end < size_bytes - len(end):
            end = self._storage.read(path, footer.data_end)
        tail = decode_tail_in(end, self._hash.code, path)
        where = f"{path} of {self._storage.url}"
        last = max(tail.entries.tolist(), key=itemgetter(1, 2), default=None)
        if last is None or bytes(last[0]) != footer.root[-32:]:
            raise CorruptError(f"{where} is no batch of a session", where=path)
        at = last[1] - (size_bytes - len(end))
        block = end[at:][: last[2]] if at >= 0 else self._storage.read(path, last[1], tail.data_end)
        cids.check(footer.root, block, where)
        own, *earlier = decode_documents(block, where)
        stored = _stored(name, own.document, tail, size_bytes)
        self._learn(pack, stored)
        for each in earlier:
            self._learn(pack_name(session, name._replace(number=each.number)), each)
        return [stored, *earlier]

    def _learn(self, pack: str, stored: StoredDocument) -> None:
        with self._guard:
            if pack not in self._known:
                self._known[pack] = stored
                self._unplaced.append(pack)

    def _place(self, cid: Cid) -> BlockLocation | None:
        """The location of a block in the packs that are known."""
        with self._guard:
            for pack in self._unplaced:
                for digest, offset, size, _ in entries_of(self._known[pack]).tolist():
                    self._places[bytes(digest)] = BlockLocation(pack, offset, size)
            self._unplaced = []
            return self._places.get(cid[-32:])

    def get(self, cid: Cid) -> memoryview | None:
        """See `SessionLog.get`."""
        found = self._recent.get(cid)
        place = self._place(cid) if found is None else None
        if place is None:
            return found
        path = pack_path(place.pack)
        try:
            data = self._storage.read(path, place.start, place.start + place.size)
        except FileNotFoundError:  # a commit has it, and a gc moved it
            return None
        cids.check(cid, data, f"{path} of {self._storage.url}")
        return data

    def known(self, session: str, names: Iterable[BatchName]) -> dict[str, StoredDocument]:
        """Batches by the names of their packs; those that were forgotten are read again."""
        packs = {pack_name(session, name): name for name in names}
        forgotten = [name for pack, name in packs.items() if pack not in self._known]
        for _ in self.read_all(session, forgotten):
            pass
        return {pack: self._known[pack] for pack in packs}

    def forget(self, session: str) -> None:
        """See `SessionLog.forget`."""
        key = session_key(session)
        self._forget(lambda pack: pack.startswith(key))

    def forget_batches(self, session: str, names: Iterable[BatchName]) -> None:
        """See `SessionLog.forget_batches`."""
        self._forget({pack_name(session, name) for name in names}.__contains__)

    def _forget(self, is_one: Callable[[str], bool]) -> None:
        with self._guard:
            self._unplaced = [pack for pack in self._unplaced if not is_one(pack)]
            self._known = {pack: each for pack, each in self._known.items() if not is_one(pack)}
            self._places = {
                digest: place for digest, place in self._places.items() if not is_one(place.pack)
            }
