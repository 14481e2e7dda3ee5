"""Session storage: append-only logs, and staged packs with one living writer each.

For storage that has them: a folder, memory. The journal of a session is such a log, and its values
are in staged packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from versioned_zarr.storage.object_store import Bytes, FilePart


class AppendLog(Protocol):
    """A sequence of records to which many processes append, in one order that all of them see.

    A position is the number of bytes before it. A record is complete in the log once `append`
    returns, even if the process dies right after; records are never mixed. One thread uses an open
    log at a time, and a forked child opens its own.
    """

    def append(self, record: bytes) -> int:
        """Append a record; returns the position after it.

        Raises:
            StorageError: the record was not appended; the log may contain the beginning of it.
        """
        ...

    def end(self) -> int:
        """The position after the last record; cheap enough to call before every read."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """The bytes from one position to another."""
        ...

    def is_removed(self) -> bool:
        """Whether the log was deleted, so that appended records are lost."""
        ...

    def sync(self) -> None:
        """Return once everything appended so far would survive a power loss."""
        ...

    def close(self) -> None:
        """Close the log."""
        ...


class StagedPack(Protocol):
    """A pack that one process is writing: blocks are appended, read back, and published at the end.

    Written bytes survive the death of the process and, once published, a power loss.
    """

    path: str

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        """Write the parts in order, beginning at byte `offset`.

        Raises:
            StorageFullError: no space is left; earlier bytes are unchanged.
        """
        ...

    def read(self, start: int, end: int) -> memoryview:
        """The bytes from `start` to `end`."""
        ...

    def part(self, start: int, end: int) -> Bytes | FilePart:
        """Like `read`, for sending; the bytes must have been written."""
        ...

    def size(self) -> int:
        """The size in bytes, including reserved space."""
        ...

    def start_writeback(self) -> None:
        """Start writing to the disk, without waiting for it."""
        ...

    def publish(self, path: str, size: int, *, durable: bool = True) -> None:
        """Truncate the draft to `size` bytes and publish it atomically at `path`.

        Args:
            path: the path of the pack.
            size: the length in bytes.
            durable: as for `Storage.put`.
        """
        ...

    def close(self) -> None:
        """Close the draft and stop being its living writer; the bytes are kept."""
        ...


@runtime_checkable
class LinkableDraft(StagedPack, Protocol):
    """A staged pack in a file that can have another name on its file system."""

    def link(self, path: str) -> bool:
        """Give the file another name; says whether that was possible."""
        ...

    def finish(self, size: int) -> None:
        """Truncate the draft to `size` bytes and make it durable."""
        ...


class SessionStorage(Protocol):
    """A storage of sessions. Thread-safe."""

    def open_log(self, path: str, *, create: bool = False) -> AppendLog:
        """The log at `path`.

        Raises:
            FileNotFoundError: it does not exist and `create` is false.
        """
        ...

    def open_draft(self, path: str) -> StagedPack:
        """Create a draft at `path`; this process is its living writer until it closes it."""
        ...

    def adopt_draft(self, path: str) -> StagedPack | None:
        """The draft at `path` if its writer is dead; None while the writer lives.

        Raises:
            FileNotFoundError: the draft does not exist.
        """
        ...

    def is_claimed(self, path: str) -> bool:
        """Whether the writer of the draft at `path` lives; needs only read permission.

        Raises:
            FileNotFoundError: the draft does not exist.
        """
        ...

    def read_draft(self, path: str) -> StagedPack:
        """The draft at `path` for reading only, whoever writes it.

        Raises:
            FileNotFoundError: the draft does not exist.
        """
        ...
