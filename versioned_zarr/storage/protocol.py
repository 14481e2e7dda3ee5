"""The storage protocol: what a place must offer to hold packs, refs and journals.

A backend for a plain folder, for memory or for an object store implements `Storage`; everything
above it is the same for all of them. Paths are relative, with `/` between the parts. The contract
suite `versioned_zarr.testing.StorageContract` says in code what each method promises.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Anything that holds bytes one after the other and can be written without a copy."""


class FilePart:
    """Bytes of an open file, for who can let the system send them without a copy.

    Args:
        fd: the file; belongs to this part, which closes it when nobody needs it any more.
        start: the first byte.
        end: the byte behind the last.
    """

    __slots__ = ("end", "fd", "start")

    def __init__(self, fd: int, start: int, end: int) -> None:
        self.fd, self.start, self.end = fd, start, end

    def __len__(self) -> int:
        return self.end - self.start

    def __del__(self) -> None:
        os.close(self.fd)


class Stored(NamedTuple):
    """One thing in a storage: its path, its size in bytes, when it was last written (Unix s)."""

    path: str
    size: int
    modified_s: float


class AppendLog(Protocol):
    """A sequence of records that many processes append to, in one order that all of them see.

    A position is the number of bytes before it. What `append` was given is whole in the log once
    it returns, also when the process dies right after; no two records are mixed. One thread uses
    an open log at a time, and a forked child opens its own.
    """

    def append(self, record: bytes) -> int:
        """Add a record and return the position behind it.

        Raises:
            StorageError: the record was not added; the beginning of it may lie in the log.
        """
        ...

    def end(self) -> int:
        """The position behind the last record; cheap enough to be asked before every read."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """The bytes from one position to another."""
        ...

    def is_removed(self) -> bool:
        """Whether the log was deleted, and what is appended to it is lost."""
        ...

    def sync(self) -> None:
        """Return when everything appended so far would survive a loss of power."""
        ...

    def close(self) -> None:
        """Let go of what the log holds open."""
        ...


class StagedPack(Protocol):
    """A pack while one process writes it: sections are added, read back, and published at the end.

    What `write` was given survives the death of the process, and, once published, a loss of power.
    """

    path: str

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        """Put the parts one behind the other, the first at `offset` bytes.

        Raises:
            StorageFullError: no room; what was written before is as it was.
        """
        ...

    def read(self, start: int, end: int) -> memoryview:
        """The bytes between two offsets."""
        ...

    def part(self, start: int, end: int) -> Bytes | FilePart:
        """As `read`, to be sent elsewhere; must have been written."""
        ...

    def size(self) -> int:
        """How many bytes there are, room that was set aside included."""
        ...

    def start_writeback(self) -> None:
        """Begin to make durable what was written, without waiting for it."""
        ...

    def publish(self, path: str, size: int, *, durable: bool = True) -> None:
        """Cut the draft at `size` bytes and let it appear whole at `path`.

        Args:
            path: where.
            size: the length in bytes.
            durable: as for `Storage.put`.
        """
        ...

    def close(self) -> None:
        """Let go of the draft and of the claim to be its living writer; the bytes stay."""
        ...


class Documents(Protocol):
    """A place for small files about a repository as a whole, which all its machines share."""

    url: str

    def read(self, path: str) -> memoryview:
        """The bytes at `path`.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def put(self, path: str, parts: Sequence[Bytes]) -> None:
        """Write the parts as one whole, durably, in place of what is there."""
        ...


class Storage(Protocol):
    """A place for packs, logs and small files. Every method may be called from many threads."""

    url: str

    def view(self, path: str) -> memoryview | None:
        """All bytes at `path` without a copy, or None where the place cannot do that.

        The view stays readable after the thing at `path` was deleted.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes at `path` from `start` to `end`; one round trip.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def read_into(self, path: str, start: int, buffers: Sequence[memoryview]) -> None:
        """Fill the buffers, one behind the other, with the bytes at `path` from `start` on.

        Raises:
            FileNotFoundError: nothing is there.
            StorageError: there are not so many bytes.
        """
        ...

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """Write the parts as one whole: a reader sees the old bytes or the new ones.

        Args:
            path: where.
            parts: what, one behind the other.
            durable: whether it must survive a loss of power once this returns, or only the
                death of the process.
        """
        ...

    def list(self, prefix: str) -> list[Stored]:
        """All that lies in the folder `prefix` and below it, sorted by path."""
        ...

    def delete(self, path: str, *, durable: bool = False) -> None:
        """Remove what is at `path`, if anything is.

        Args:
            path: where.
            durable: whether it must stay away after a loss of power once this returns.
        """
        ...

    def move(self, path: str, to: str) -> None:
        """Let what is at `path` lie at `to` instead, durably and at once, where nothing is yet.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def delete_folder(self, prefix: str) -> None:
        """Remove all that lies in the folder `prefix` and below it."""
        ...

    def sweep(self, folders: Iterable[str]) -> None:
        """Remove what writers left half-written more than a day ago.

        Args:
            folders: where to look, deep, and beside them. What else lies in the place is others'.
        """
        ...

    def stamp(self, prefix: str) -> object:
        """A token that differs after something directly in the folder `prefix` came or went."""
        ...

    def open_log(self, path: str, *, create: bool = False) -> AppendLog:
        """The log at `path`.

        Raises:
            FileNotFoundError: it is not there and `create` is false.
        """
        ...

    def open_draft(self, path: str) -> StagedPack:
        """A new draft at `path`, of which this process is the living writer until it closes it."""
        ...

    def adopt_draft(self, path: str) -> StagedPack | None:
        """The draft at `path` if its writer is gone; None while that writer lives.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def is_claimed(self, path: str) -> bool:
        """Whether the writer of the draft at `path` lives; takes no more than to read it.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def read_draft(self, path: str) -> StagedPack:
        """The draft at `path` for reading alone, whoever writes it.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def lock(
        self, name: str, *, shared: bool = False, wait: bool = True
    ) -> AbstractContextManager[bool]:
        """Hold a lock of this name against all other processes and threads.

        Args:
            name: which lock.
            shared: hold it together with others who share it.
            wait: wait until it is free; otherwise the context gives False where it is taken.

        Where a place has no locks this does nothing: no promise of the engine rests on a lock
        alone, except that `gc` and `repack` must not run there beside writers.
        """
        ...


def look_at(storage: Storage, path: str, start: int = 0, end: int | None = None) -> memoryview:
    """The bytes at `path` from `start` to `end`, without a copy where the place can do that.

    Raises:
        FileNotFoundError: nothing is there.
    """
    view = storage.view(path)
    return storage.read(path, start, end) if view is None else view[start:end]
