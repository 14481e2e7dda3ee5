"""Session storage: append-only logs, and staged packs with one living writer each.

For places that have them: a folder, memory. The journal of a session is such a log, and what it
writes lies in staged packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from versioned_zarr.storage.object_store import Bytes, FilePart


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


class SessionStorage(Protocol):
    """A place for the sessions of its repositories. Thread-safe."""

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
