"""The memory backend: a `Storage` in this process, for tests, scratch work and as reference.

A repository at `memory://name` lives as long as the process and is shared by all its threads; it
does not reach other processes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.storage.protocol import AppendLog, Bytes, StagedPack, Stored


@dataclass
class _Item:
    data: bytearray
    modified_s: float = field(default_factory=time.time)
    writer: object | None = None


class MemoryStorage:
    """A dict of byte strings that behaves like a folder."""

    _storages: dict[str, MemoryStorage] = {}
    _storages_guard = ForkSafeLock()

    def __init__(self, name: str) -> None:
        self.url = f"memory://{name}"
        self._items: dict[str, _Item] = {}
        self._locks: dict[str, _SharedLock] = {}
        self._guard = ForkSafeLock()
        self._changes = 0

    @classmethod
    def named(cls, name: str) -> MemoryStorage:
        """The storage of this name, created on first use."""
        with cls._storages_guard:
            return cls._storages.setdefault(name, cls(name))

    def __repr__(self) -> str:
        return f"MemoryStorage({self.url!r})"

    def _item(self, path: str) -> _Item:
        try:
            return self._items[path]
        except KeyError:
            raise FileNotFoundError(f"nothing at {path!r} in {self.url}") from None

    def view(self, path: str) -> memoryview:
        """See `Storage.view`."""
        return memoryview(self._item(path).data).toreadonly()

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `Storage.read`."""
        with self._guard:
            return memoryview(bytes(self._item(path).data[start:end]))

    def put(
        self,
        path: str,
        parts: Sequence[Bytes],
        *,
        durable: bool = True,  # noqa: ARG002 - memory cannot be more durable
    ) -> None:
        """See `Storage.put`."""
        with self._guard:
            self._items[path] = _Item(bytearray().join(parts))
            self._changes += 1

    def list(self, prefix: str) -> list[Stored]:
        """See `Storage.list`."""
        start = f"{prefix}/" if prefix else ""
        with self._guard:
            return [
                Stored(path, len(item.data), item.modified_s)
                for path, item in sorted(self._items.items())
                if path.startswith(start)
            ]

    def delete(
        self,
        path: str,
        *,
        durable: bool = False,  # noqa: ARG002 - memory cannot be more durable
    ) -> None:
        """See `Storage.delete`."""
        with self._guard:
            self._items.pop(path, None)
            self._changes += 1

    def move(self, path: str, to: str) -> None:
        """See `Storage.move`."""
        with self._guard:
            self._items[to] = self._item(path)
            del self._items[path]
            self._changes += 1

    def delete_folder(self, prefix: str) -> None:
        """See `Storage.delete_folder`."""
        for stored in self.list(prefix):
            self.delete(stored.path)

    def sweep(self, folders: Iterable[str]) -> None:
        """See `Storage.sweep`: incomplete writes in memory end with their writer."""

    def stamp(self, prefix: str) -> object:  # noqa: ARG002 - one count for all
        """See `Storage.stamp`: coarse, one count for all folders."""
        return self._changes

    def open_log(self, path: str, *, create: bool = False) -> AppendLog:
        """See `Storage.open_log`."""
        with self._guard:
            if create:
                self._items.setdefault(path, _Item(bytearray()))
            return _MemoryLog(self, path)

    def open_draft(self, path: str) -> StagedPack:
        """See `Storage.open_draft`."""
        with self._guard:
            if path in self._items:
                raise FileExistsError(path)
            self._items[path] = _Item(bytearray())
            return _MemoryDraft(self, path, claim=True)

    def adopt_draft(self, path: str) -> StagedPack | None:
        """See `Storage.adopt_draft`."""
        with self._guard:
            taken = self._item(path).writer is not None
            return None if taken else _MemoryDraft(self, path, claim=True)

    def is_claimed(self, path: str) -> bool:
        """See `Storage.is_claimed`."""
        with self._guard:
            return self._item(path).writer is not None

    def read_draft(self, path: str) -> StagedPack:
        """See `Storage.read_draft`."""
        return _MemoryDraft(self, path, claim=False)

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[bool]:
        """See `Storage.lock`."""
        with self._guard:
            lock = self._locks.setdefault(name, _SharedLock())
        is_held = lock.acquire(shared, wait)
        try:
            yield is_held
        finally:
            if is_held:
                lock.release(shared)


class _SharedLock:
    """Many readers or one writer, among the threads of this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._alone = False

    def acquire(self, shared: bool, wait: bool) -> bool:
        with self._changed:
            if not wait and not self._is_free(shared):
                return False
            self._changed.wait_for(lambda: self._is_free(shared))
            if shared:
                self._sharing += 1
            else:
                self._alone = True
            return True

    def release(self, shared: bool) -> None:
        with self._changed:
            if shared:
                self._sharing -= 1
            else:
                self._alone = False
            self._changed.notify_all()

    def _is_free(self, shared: bool) -> bool:
        return not self._alone and (shared or not self._sharing)


class _MemoryLog:
    def __init__(self, storage: MemoryStorage, path: str) -> None:
        self._storage, self._path = storage, path
        self._item, self._guard = storage._item(path), storage._guard

    def append(self, record: bytes) -> int:
        with self._guard:
            self._item.data += record
            self._item.modified_s = time.time()
            return len(self._item.data)

    def end(self) -> int:
        return len(self._item.data)

    def read(self, start: int, end: int) -> bytes:
        with self._guard:
            return bytes(self._item.data[start:end])

    def is_removed(self) -> bool:
        return self._storage._items.get(self._path) is not self._item

    def sync(self) -> None:
        """Memory cannot be made more durable."""

    def close(self) -> None:
        """Nothing to close."""


class _MemoryDraft:
    def __init__(self, storage: MemoryStorage, path: str, *, claim: bool) -> None:
        self.path = path
        self._storage = storage
        self._item = storage._item(path)
        if claim:
            self._item.writer = self

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        with self._storage._guard:
            data = self._item.data
            for part in parts:
                end = offset + len(part)
                if len(data) < offset:
                    data.extend(bytes(offset - len(data)))
                data[offset:end] = part
                offset = end

    def read(self, start: int, end: int) -> memoryview:
        with self._storage._guard:
            return memoryview(bytes(self._item.data[start:end]))

    part = read

    def size(self) -> int:
        return len(self._item.data)

    def start_writeback(self) -> None:
        """Memory cannot be made more durable."""

    def publish(
        self,
        path: str,
        size: int,
        *,
        durable: bool = True,  # noqa: ARG002 - memory cannot be more durable
    ) -> None:
        with self._storage._guard:
            del self._item.data[size:]
            self._storage._items[path] = self._storage._items.pop(self.path)
            self._storage._changes += 1

    def close(self) -> None:
        if self._item.writer is self:
            self._item.writer = None
