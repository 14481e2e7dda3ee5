"""The object store protocol: bytes by path, written whole, read by ranges, listed and deleted.

Paths are relative, with `/` between the parts. These five methods are all that packs, index files
and small documents need of a place.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview
"""Anything that holds bytes one after the other and can be written without a copy."""


class FilePart(ABC):
    """Bytes of an open file, for who can let the system send them without a copy."""

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
    """One thing in a storage: its path, its size in bytes, when it was last written (Unix s)."""

    path: str
    size: int
    modified_s: float


class ObjectStore(Protocol):
    """A place for packs and small files. Every method may be called from many threads."""

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

        Args:
            path: where.
            start: the first byte; if negative, so many bytes before the last are read, or all.
            end: the byte behind the last; None for all.

        Raises:
            FileNotFoundError: nothing is there.
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


def look_at(storage: ObjectStore, path: str, start: int = 0, end: int | None = None) -> memoryview:
    """The bytes at `path` from `start` to `end`, without a copy where the place can do that.

    Raises:
        FileNotFoundError: nothing is there.
    """
    view = storage.view(path)
    return storage.read(path, start, end) if view is None else view[start:end]
