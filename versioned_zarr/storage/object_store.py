"""The object store protocol: bytes by path, written whole, read by ranges, listed and deleted.

Paths are relative, with `/` between the parts. Packs, index files and small documents need only
these six methods.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Any contiguous bytes-like object that can be written without a copy."""


class FilePart:
    """A range of an open file, which the operating system can send without a copy.

    Args:
        fd: the file descriptor; owned by this part, which closes it when it is no longer used.
        start: the first byte.
        end: the byte after the last.
    """

    __slots__ = ("end", "fd", "start")

    def __init__(self, fd: int, start: int, end: int) -> None:
        self.fd, self.start, self.end = fd, start, end

    def __len__(self) -> int:
        return self.end - self.start

    def __del__(self) -> None:
        os.close(self.fd)


class Stored(NamedTuple):
    """An entry of a storage: its path, its size in bytes, when it was last written (Unix s)."""

    path: str
    size: int
    modified_s: float


class ObjectStore(Protocol):
    """A storage of packs and small files. All methods are thread-safe."""

    url: str

    def view(self, path: str) -> memoryview | None:
        """All bytes at `path` without a copy, or None if the storage does not support that.

        The view remains readable after `path` is deleted.

        Raises:
            FileNotFoundError: `path` does not exist.
        """
        ...

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes at `path` from `start` to `end`; one round trip.

        Args:
            path: the path to read.
            start: the first byte; if negative, counted from the end, at most the whole file.
            end: the byte after the last; None for the end.

        Raises:
            FileNotFoundError: `path` does not exist.
        """
        ...

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """Write the parts atomically: a reader sees the old bytes or the new ones.

        Args:
            path: the path to write.
            parts: the bytes, in order.
            durable: whether the bytes must survive a power loss once this returns, or only the
                death of the process.
        """
        ...

    def list(self, prefix: str) -> list[Stored]:
        """All entries in the folder `prefix` and below it, sorted by path."""
        ...

    def delete(self, path: str, *, durable: bool = False) -> None:
        """Delete `path`, if it exists.

        Args:
            path: the path to delete.
            durable: whether the deletion must survive a power loss once this returns.
        """
        ...

    def move(self, path: str, to: str) -> None:
        """Rename `path` to `to`, durably and atomically; `to` must not exist yet.

        Raises:
            FileNotFoundError: `path` does not exist.
        """
        ...


def view_or_read(
    storage: ObjectStore, path: str, start: int = 0, end: int | None = None
) -> memoryview:
    """The bytes at `path` from `start` to `end`, without a copy if the storage supports that.

    Raises:
        FileNotFoundError: `path` does not exist.
    """
    view = storage.view(path)
    return storage.read(path, start, end) if view is None else view[start:end]
