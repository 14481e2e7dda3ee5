"""The block cache: packs of remote blocks in a local folder, bounded, shared by processes.

Holds only blocks that were verified against their CIDs when they arrived. Nothing depends on its
content: any of its packs can be removed at any time. So nothing is synced to disk. After a crash of
the machine, the packs written last, which may be torn, are dropped.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from versioned_zarr.blocks.cache.write_buffer import WriteBuffer
from versioned_zarr.blocks.packs.pack_registry import ENDING, PACKS
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.protocol import Block, Publishable
from versioned_zarr.errors import ReadOnlyError, StorageError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid, HashFunction
from versioned_zarr.storage.protocol import Bytes, Storage

LIMIT_BYTES = 10 << 30
_TRIMMED_TO = 0.8
_LOOKED_EVERY_S = 0.1
_BOOT = "boot"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_WRITTEN_BACK_S = 300
"""Older packs are on the disk: Linux writes all data within half a minute."""


class _Holder:
    pass


class BlockCache:
    """A local cache of remote blocks. Thread-safe; many processes may share the storage.

    Single blocks are collected in memory, and become a pack when there are enough of them, or when
    the process ends.

    Args:
        storage: stores the packs.
        hash_function: the hash function of the CIDs.
        limit_bytes: the maximum total size of the packs; with 0, only the last few blocks are kept.
        verify: whether leaves of values in the packs are verified on every read, as all other
            blocks are.
    """

    def __init__(
        self,
        storage: Storage,
        hash_function: HashFunction,
        *,
        limit_bytes: int = LIMIT_BYTES,
        verify: bool = False,
    ) -> None:
        _drop_torn(storage)
        self.packed = PackStore(storage, hash_function, verify=False)
        self.limit_bytes = limit_bytes
        self._verify = verify
        self._gathering = WriteBuffer(partial(_write, self.packed, limit_bytes))
        self._looked_s = time.monotonic()
        self._grown_bytes = limit_bytes  # so that the first new pack triggers a check of the size
        self._holders: weakref.WeakSet[_Holder] = weakref.WeakSet()

    @property
    def hash(self) -> HashFunction:
        """The hash function of the CIDs."""
        return self.packed.hash

    def get(self, cid: Cid) -> memoryview | None:
        """The bytes of a block, or None if it is not cached or is damaged."""
        found = self._gathering.get(cid)
        if found is not None:
            return found
        data = self.packed.find_known(cid)
        if data is None and self._is_news_due() and self.packed.refresh():
            data = self.packed.find_known(cid)
        is_checked = self._verify or not cids.is_raw(cid)
        if data is not None and is_checked and not cids.matches(cid, data):
            return None
        return data

    def _is_news_due(self) -> bool:
        """Whether to look for packs from other processes; an occasional miss costs nothing."""
        now = time.monotonic()
        if now - self._looked_s < _LOOKED_EVERY_S:
            return False
        self._looked_s = now
        return True

    def get_joined(self, wanted: Sequence[Cid], sizes_bytes: Sequence[int]) -> memoryview | None:
        """The bytes of several blocks, joined in order, or None if one is not cached."""
        if self._verify or any(cid not in self.packed for cid in wanted):
            return None
        with suppress(LookupError, StorageError):
            return self.packed.get_joined(wanted, sizes_bytes)
        return None

    def __contains__(self, cid: Cid) -> bool:
        return cid in self._gathering or cid in self.packed

    def add(self, cid: Cid, data: Bytes) -> None:
        """Add a verified block."""
        kept_bytes = self._gathering.add(cid, data)
        if kept_bytes:
            self._trim(kept_bytes)

    def flush(self) -> None:
        """Write the collected single blocks as a pack."""
        self._trim(self._gathering.flush())

    def put(self, blocks: Sequence[Block], root: Cid) -> None:
        """Add blocks as a separate pack."""
        if self.limit_bytes:
            with suppress(StorageError):  # a full disk must not stop work that needs no cache
                self.packed.put(blocks, root, durable=False)
            self._trim(sum(len(data) for _, data in blocks))

    def publish(self, draft: Publishable, root: Cid, size_bytes: int) -> None:
        """Add a finished draft as a pack."""
        if self.limit_bytes or self._holders:
            self.packed.publish(draft, root, durable=False)
            self._trim(size_bytes)

    # Size

    @contextmanager
    def holding(self) -> Iterator[None]:
        """A context in which this process removes nothing, and keeps drafts of any size."""
        # A context that an interrupt leaves open ends with the code that entered it.
        holder = _Holder()
        self._holders.add(holder)
        try:
            yield
        finally:
            self._holders.discard(holder)
            self._trim(0)

    def size_bytes(self) -> int:
        """The total size of the packs."""
        return sum(stored.size for stored in self.packed.storage.list(PACKS))

    def clear(self) -> None:
        """Remove everything."""
        self._gathering.clear()
        self._drop_to(0)

    def _trim(self, grown_bytes: int) -> None:
        """Check the size from time to time, and remove the oldest packs if it exceeds the limit."""
        self._grown_bytes += grown_bytes
        if self._holders or self._grown_bytes < self.limit_bytes // 16:
            return
        self._grown_bytes = 0
        if self.size_bytes() > self.limit_bytes:
            self._drop_to(int(self.limit_bytes * _TRIMMED_TO))

    def _drop_to(self, limit_bytes: int) -> None:
        packs = sorted(self.packed.storage.list(PACKS), key=lambda stored: stored.modified_s)
        size = sum(stored.size for stored in packs)
        for stored in packs:
            if size <= limit_bytes:
                break
            if stored.path.endswith(ENDING):
                self.packed.storage.delete(stored.path)
                size -= stored.size
        self.packed.refresh()


def _drop_torn(storage: Storage) -> None:
    """Remove the packs that were written last before a crash of the machine, if there was one."""
    try:
        boot = _BOOT_ID.read_bytes()
    except OSError:  # not Linux
        return
    try:
        last = bytes(storage.read(_BOOT))
    except FileNotFoundError:
        last = b""
    if last == boot:
        return
    packs = storage.list(PACKS)
    newest_s = max((stored.modified_s for stored in packs), default=0.0)
    with suppress(StorageError, ReadOnlyError):  # it is checked again next time
        for stored in packs:
            if stored.modified_s > newest_s - _WRITTEN_BACK_S:
                storage.delete(stored.path)
        storage.put(_BOOT, [boot], durable=False)


def _write(packed: PackStore, limit_bytes: int, blocks: list[Block]) -> None:
    if limit_bytes:
        with suppress(StorageError):
            packed.put(blocks, blocks[-1][0], durable=False)
