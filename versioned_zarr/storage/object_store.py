"""The object store protocol: bytes by path, written whole, read by ranges, listed and deleted.

Paths are relative, with `/` between the parts. Packs, index files and small documents need only
these five methods.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Any contiguous bytes-like object that can be written without a copy."""


class FilePart(ABC):
    """A range of an open file, which the operating system can send without a copy."""

    __slots__ = ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, offset: int, size: int) -> bytes:
        """So many bytes from `offset` of the part on; fewer at its end, or at that of the file."""

    @abstractmethod
    def send(self, sock: socket.socket, offset: int, timeout_s: float | None) -> int:
        """Let the system send some bytes from `offset` of the part on.

        Args:
            sock: takes them.
            offset: the first of them.
            timeout_s: how long to wait until some can be sent; None for ever.

        Returns:
            How many were sent; 0 at the end of the file.

        Raises:
            BlockingIOError: none can be sent after all; to be tried again.
            TimeoutError: it took too long.
        """


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


def view_or_read(
    storage: ObjectStore, path: str, start: int = 0, end: int | None = None
) -> memoryview:
    """The bytes at `path` from `start` to `end`, without a copy if the storage supports that.

    Raises:
        FileNotFoundError: `path` does not exist.
    """
    view = storage.view(path)
    return storage.read(path, start, end) if view is None else view[start:end]
