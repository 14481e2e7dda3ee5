"""A staged pack as a file, preallocated so that writes are fast."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from versioned_zarr.backends.local import system
from versioned_zarr.backends.local.file_io import (
    MAX_PARTS,
    make_folder,
    map_file,
    named,
    naming_failures,
    sync_folder,
    write_all,
    write_rest,
)
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.storage.protocol import Bytes, FilePart

_ALLOCATION_SIZE = 64 << 20
_ALLOCATE_FROM = 4 << 20
_ZEROS = bytes(256 << 10)
_ZEROS_FROM = 1 << 20
_MAPPED_BYTES = 96 << 20


class LocalStagedPack:
    """See `versioned_zarr.storage.protocol.StagedPack`.

    Args:
        folder: the folder of the storage.
        path: the path of the draft in it.
        fd: the open file; this process holds an exclusive lock on it, or only reads it.
        keep: receives the view of a published pack.
    """

    _fd = -1

    def __init__(
        self, folder: Path, path: str, fd: int, keep: Callable[[str, memoryview], None]
    ) -> None:
        self.path = path
        self._folder = folder
        self._fd = fd
        self._keep = keep
        self._allocated = 0
        self._zeroed = _ZEROS_FROM
        self._zeroing = ForkSafeLock()

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        """See `StagedPack.write`; the bytes are then in the page cache, and survive the process."""
        try:
            end = offset + sum(map(len, parts))
            if end > self._allocated and offset >= _ALLOCATE_FROM:
                self._allocate(end)
            if end > self._zeroed:
                self._write_ahead(offset, end)
            if len(parts) > MAX_PARTS:
                write_all(self._fd, parts, offset)
                return
            done = system.write_parts_at(self._fd, parts, offset)
            if done != end - offset:
                write_rest(self._fd, b"".join(parts)[done:], offset + done)
        except OSError as error:
            raise named(error, self.path) from error

    def _allocate(self, end: int) -> None:
        """Allocate space in advance: large files are less fragmented, and writes are faster."""
        wanted = -(-end // _ALLOCATION_SIZE) * _ALLOCATION_SIZE
        with contextlib.suppress(OSError):
            system.reserve(self._fd, self._allocated, wanted - self._allocated)
        self._allocated = wanted

    def _write_ahead(self, offset: int, end: int) -> None:
        """Write zeros where the next small writes will go.

        The system then allocates pages in large pieces: a third of the time for 16 KiB.
        """
        # Never where another thread may have written already: everything before `_zeroed`.
        with self._zeroing:
            start = max(self._zeroed, offset)
            self._zeroed = max(self._zeroed, end)
            if end > start and end - offset < len(_ZEROS) >> 1:
                with contextlib.suppress(OSError):
                    self._zeroed = max(end, start + system.write_at(self._fd, _ZEROS, start))

    def read(self, start: int, end: int) -> memoryview:
        """See `StagedPack.read`."""
        with naming_failures(self.path):
            return memoryview(system.read_at(self._fd, end - start, start))

    def part(self, start: int, end: int) -> Bytes | FilePart:
        """See `StagedPack.part`: independent of the draft, which may be closed."""
        with naming_failures(self.path):
            return system.part_of(self._fd, start, end)

    def size(self) -> int:
        """See `StagedPack.size`."""
        with naming_failures(self.path):
            return os.fstat(self._fd).st_size

    def start_writeback(self) -> None:
        """See `StagedPack.start_writeback`; it blocks, so a separate thread calls it."""
        with naming_failures(self.path):
            system.sync_data(self._fd)

    def publish(self, path: str, size: int, *, durable: bool = True) -> None:
        """See `StagedPack.publish`: truncate, fsync, rename, fsync of the folder."""
        target = self._folder / path
        with naming_failures(target):
            make_folder(target.parent)
            os.ftruncate(self._fd, size)
            if durable:
                os.fsync(self._fd)
            system.rename(self._folder / self.path, target)
            if durable:
                sync_folder(target.parent)
        if size <= _MAPPED_BYTES:
            # The data is usually read next, and is still in the page cache.
            with contextlib.suppress(OSError):
                self._keep(path, map_file(self._fd, size, is_at_hand=True))

    def link(self, path: str) -> bool:
        """See `LinkableDraft.link`."""
        try:
            os.link(self._folder / self.path, path)
        except OSError:
            return False
        return True

    def finish(self, size: int) -> None:
        """See `LinkableDraft.finish`."""
        with naming_failures(self.path):
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)

    def close(self) -> None:
        """See `StagedPack.close`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    __del__ = close
