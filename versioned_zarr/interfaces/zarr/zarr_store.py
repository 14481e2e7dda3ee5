"""Snapshots and sessions as a zarr v3 `Store`.

Small values are handled inline: reading from a local pack takes microseconds, and using a thread
costs forty. Large values are read, hashed and written in threads.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Self, TypeVar

from versioned_zarr.blocks.protocol import WouldBlockError
from versioned_zarr.errors import (
    BlockNotFoundError,
    MissingDependencyError,
    ReadOnlyError,
    RepositoryNotFoundError,
    StorageError,
)
from versioned_zarr.fork_local import threads
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot

try:
    from zarr.abc.store import (
        ByteRequest,
        OffsetByteRequest,
        RangeByteRequest,
        Store,
        SuffixByteRequest,
    )
    from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
    from zarr.core.config import config as zarr_config
except ImportError as error:
    raise MissingDependencyError(
        "snapshots and sessions are stores for zarr >= 3.1.6 only: pip install 'zarr>=3.1.6'; "
        "their mapping works with zarr 2: zarr.open(snapshot.mapping)",
        package="zarr",
    ) from error

if TYPE_CHECKING:
    from versioned_zarr.engine.sessions.change_set import PendingWrite
    from versioned_zarr.ipld.dag_pb import Link

INLINE_BYTES = 256 << 10
"""Values up to this size are read and written on the caller's thread."""
_LISTED_AT_ONCE = 1000
_NETWORK_THREADS = 32
_WRITTEN_AT_ONCE = 24
_AT_ONCE = "async.concurrency"
_T = TypeVar("_T")
_LOST = (BlockNotFoundError, RepositoryNotFoundError)


class VersionedStore(Store):
    """A zarr v3 store over a `Snapshot` or a `Session`.

    Accepts any key that is a valid file path: Zarr v2 and v3 documents, chunks of every key
    encoding, and files of other conventions. Thread-safe; pickled by reference.

    zarr's fused pipeline calls it in one thread, unless each value would wait for a network; then
    several values are requested at a time.

    If writes wait for a server, the first store of a process sets zarr's `async.concurrency` to 24,
    unless it differs from zarr's default of 10.

    If a block is lost, or the origin of a partial clone no longer exists, the error is a
    `StorageError`, which zarr does not interpret as a missing key.

    Args:
        view: the snapshot, which is read-only, or the session.
        read_only: refuse writes to a session too.
        consolidates: let zarr read and write consolidated metadata.
    """

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    def __init__(
        self, view: Session | Snapshot, *, read_only: bool = False, consolidates: bool = False
    ) -> None:
        super().__init__(read_only=read_only or view.read_only)
        self._consolidates = consolidates
        self._view = view
        self._blocks = view.repository._stores.blocks
        if isinstance(view, Session) and not self.read_only:
            waits = view._working.is_remote
            if waits:
                _send_more_at_once()
        else:
            waits = self._blocks.is_remote
        self._supports_sync_io = not waits  # required by zarr's fused pipeline

    @property
    def view(self) -> Session | Snapshot:
        """The snapshot or session behind the store."""
        return self._view

    @property
    def session(self) -> Session:
        """The session behind a store that can be written to.

        Raises:
            ReadOnlyError: it is a snapshot.
        """
        if isinstance(self._view, Session):
            return self._view
        raise ReadOnlyError(
            "a snapshot never changes; open a session to write: repo.session('main')",
            url=self._view.repository.url,
        )

    def __repr__(self) -> str:
        return f"VersionedStore({self._view!r})"

    def __str__(self) -> str:
        view = self._view
        name = f"session:{view.id}" if isinstance(view, Session) else view.cid
        return f"{view.repository.url}|{name}"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, VersionedStore)
            and other._view == self._view
            and other.read_only == self.read_only
            and other._consolidates == self._consolidates
        )

    def __hash__(self) -> int:
        return hash((self._view, self.read_only))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (self._view, self.read_only, self._is_open, self._consolidates)

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same content in a store that refuses or accepts writes.

        Raises:
            ReadOnlyError: a snapshot cannot be written to.
        """
        if not read_only:
            self.session  # noqa: B018 - raises for a snapshot
        return type(self)(self._view, read_only=read_only, consolidates=self._consolidates)

    @property
    def supports_consolidated_metadata(self) -> bool:
        """False unless requested: the tree is as fast, and never stale.

        So zarr and xarray neither write consolidated metadata nor warn that there is none.
        """
        return self._consolidates

    def with_consolidated_metadata(self) -> Self:
        """The same content in a store with which zarr reads and writes consolidated metadata.

        For data that others will read over HTTP without this package, and for data that has it:
        `zarr.consolidate_metadata(session.store.with_consolidated_metadata())`.
        """
        return type(self)(self._view, read_only=self.read_only, consolidates=True)

    # Reading

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """See `zarr.abc.store.Store.get`; ranges past the end are clamped as slices are."""
        blocks = self._blocks
        try:
            with blocks.near():
                found = self._view._find(key)
                if found is None:
                    return None
                if found.tsize <= INLINE_BYTES:
                    return self._read(found, prototype, byte_range)
        except WouldBlockError:
            pass
        except _LOST as error:
            raise self._lost(error) from error
        return await _in_thread(
            lambda: self.get_sync(key, prototype=prototype, byte_range=byte_range),
            is_remote=blocks.is_remote,
        )

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Like `get`, on the caller's thread."""
        try:
            found = self._view._find(key)
            if found is None:
                return None
            return self._read(found, prototype or default_buffer_prototype(), byte_range)
        except _LOST as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> StorageError:
        """The error that zarr gets for a missing block or a missing origin.

        The original errors are a KeyError and a FileNotFoundError. zarr would interpret them as a
        key that was never written, and report that the array does not exist, or create it again.
        """
        return StorageError(str(error), where=self._view.repository.url)

    def _read(
        self,
        found: Link | PendingWrite,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None,
    ) -> Buffer:
        if byte_range is None:
            return prototype.buffer.from_bytes(self._view._read_found(found))
        start, end = 0, None
        if isinstance(byte_range, RangeByteRequest):
            start, end = byte_range.start, max(byte_range.start, byte_range.end)
        elif isinstance(byte_range, OffsetByteRequest):
            start = byte_range.offset
        elif isinstance(byte_range, SuffixByteRequest):
            start = max(0, self._view._size_of(found) - byte_range.suffix)
        else:
            raise ValueError(f"Unexpected byte_range, got {byte_range}.")
        return prototype.buffer.from_bytes(self._view._read_found(found, start, end))

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """See `zarr.abc.store.Store.get_partial_values`."""
        return [await self.get(key, prototype, wanted) for key, wanted in key_ranges]

    async def exists(self, key: str) -> bool:
        """See `zarr.abc.store.Store.exists`; reads only the tree."""
        return await self._wait_for(self._view._find, key) is not None

    async def getsize(self, key: str) -> int:
        """The size of a value in bytes, from the tree.

        Raises:
            FileNotFoundError: the key has no value.
        """
        size = await self._wait_for(self._view.size, key)
        if size is None:
            raise FileNotFoundError(key)
        return size

    async def getsize_prefix(self, prefix: str) -> int:
        """The total size in bytes of all values in a folder and below it."""

        def total() -> int:
            return sum(size for _, size in self._view.sizes(prefix.rstrip("/")))

        return await self._wait_for(total)

    async def is_empty(self, prefix: str) -> bool:
        """See `zarr.abc.store.Store.is_empty`."""
        return await self._wait_for(self._view.is_empty, prefix.rstrip("/"))

    async def list(self) -> AsyncIterator[str]:
        """See `zarr.abc.store.Store.list`."""
        async for key in self._keys(""):
            yield key

    async def _keys(self, folder: str) -> AsyncIterator[str]:
        keys = iter(self._view.keys(folder))
        if not self._blocks.is_remote:
            for key in keys:
                yield key
            return
        while batch := await _in_thread(
            lambda: list(itertools.islice(keys, _LISTED_AT_ONCE)), is_remote=True
        ):
            for key in batch:
                yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """See `zarr.abc.store.Store.list_prefix`: the prefix is text, not a folder."""
        folder, slash, beginning = prefix.rpartition("/")
        if not beginning:
            async for key in self._keys(folder):
                yield key
            return
        for name in await self._wait_for(self._view.list_dir, folder):
            if name.startswith(beginning):
                path = folder + slash + name
                if await self.exists(path):
                    yield path
                    continue
                async for key in self._keys(path):
                    yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """See `zarr.abc.store.Store.list_dir`; O(children), not O(keys)."""
        for name in await self._wait_for(self._view.list_dir, prefix.rstrip("/")):
            yield name

    async def _wait_for(self, answer: Callable[..., _T], *arguments: str) -> _T:
        """Run a function inline if it needs no network, otherwise in a thread."""
        try:
            if not self._blocks.is_remote:
                return answer(*arguments)
            try:
                with self._blocks.near():
                    return answer(*arguments)
            except WouldBlockError:
                return await _in_thread(lambda: answer(*arguments), is_remote=True)
        except _LOST as error:
            raise self._lost(error) from error

    # Writing

    async def set(self, key: str, value: Buffer) -> None:
        """See `zarr.abc.store.Store.set`; survives the death of the process once it returns."""
        data = self._checked(value, "set")
        session = self.session
        is_remote = session._working.is_remote
        if len(data) > INLINE_BYTES:
            await _in_thread(lambda: session.write(key, data), is_remote=is_remote)
        elif is_remote:
            await self._wait_for(lambda: session.write(key, data))
        else:
            session.write(key, data)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Like `set`, on the caller's thread."""
        data = self._checked(value, "set_sync")
        self.session.write(key, data)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """See `zarr.abc.store.Store.set_if_not_exists`; atomic within the session's process."""
        data = self._checked(value, "set_if_not_exists")
        await self._wait_for(lambda: self.session.write_new(key, data))

    def _checked(self, value: Buffer, method: str) -> memoryview:
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(
                f"{type(self).__name__}.{method}(): `value` must be a Buffer instance. "
                f"Got an instance of {type(value)} instead."
            )
        return memoryview(value.as_buffer_like()).cast("B")

    async def delete(self, key: str) -> None:
        """See `zarr.abc.store.Store.delete`; a missing key is not an error."""
        await self._wait_for(lambda: self.delete_sync(key))

    def delete_sync(self, key: str) -> None:
        """Like `delete`, on the caller's thread."""
        self._check_writable()
        self.session.delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """See `zarr.abc.store.Store.delete_dir`; one record in the journal, however many keys."""
        self._check_writable()
        await self._wait_for(lambda: self.session.clear(prefix.rstrip("/")))


async def _in_thread(work: Callable[[], _T], *, is_remote: bool) -> _T:
    """Run a long operation in a thread; `is_remote` says whether it waits for a network."""
    pool = _WAITING() if is_remote else _WORKING()
    return await asyncio.get_running_loop().run_in_executor(pool, work)


# Threads shared by all stores of this process. Operations that wait for a network have more threads
# than there are cores. Hashing and copying have one per core, because more would only take time
# from the event loop.
_WAITING = threads(_NETWORK_THREADS, "versioned-zarr")
_WORKING = threads(os.cpu_count() or 1, "versioned-zarr")


@functools.cache
def _send_more_at_once() -> None:
    """Let zarr write more chunks at a time; once per process.

    See docs/design/decisions/zarr-concurrency.md.
    """
    if zarr_config.get(_AT_ONCE) == zarr_config.defaults[0]["async"]["concurrency"]:
        zarr_config.set({_AT_ONCE: _WRITTEN_AT_ONCE})


def _unpickle(
    view: Session | Snapshot, read_only: bool, is_open: bool, consolidates: bool
) -> VersionedStore:
    store = VersionedStore(view, read_only=read_only, consolidates=consolidates)
    store._is_open = is_open
    return store
