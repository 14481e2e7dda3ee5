"""The session log protocol: where a repository stores the writes of its stored sessions.

A session is a head, a log of batches for each of its writers, numbered notes about its commits, and
a mark that ends it. Everything is created once and never changed. docs/design/stored-sessions.md
describes the protocol.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from versioned_zarr.blocks.protocol import Block
from versioned_zarr.ipld.cid import Cid


class BatchName(NamedTuple):
    """The name of a batch: the number of its writer, and its number among the batches of that."""

    writer: int
    number: int


class SessionListing(NamedTuple):
    """What is stored of a session.

    Attributes:
        batches: the size in bytes of each batch.
        notes: the number of notes.
        is_ended: whether it was committed for good, discarded or deleted.
        modified_s: when a batch was last stored, in seconds since 1970; 0 if there is none.
    """

    batches: Mapping[BatchName, int]
    notes: int
    is_ended: bool
    modified_s: float


class SessionLog(Protocol):
    """Stores the sessions of a repository. Thread-safe; many machines may use it.

    All methods but `get` and `forget` cost one round trip each, unless stated otherwise. They raise
    StorageError if the store fails, and ReadOnlyError if it denies the request.

    Attributes:
        url: the URL of the repository, for errors.
    """

    url: str

    def ids(self) -> list[str]:
        """The sessions that have not ended, sorted."""
        ...

    def begin(self, session: str, head: bytes) -> bool:
        """Store the head of a session; returns False, and does nothing, if it is there."""
        ...

    def head(self, session: str) -> bytes:
        """The head of a session.

        Raises:
            FileNotFoundError: there is no such session.
        """
        ...

    def look(self, session: str) -> SessionListing:
        """What is stored of a session at this moment."""
        ...

    def is_ended(self, session: str) -> bool:
        """Whether a session has ended."""
        ...

    def append(
        self, session: str, name: BatchName, document: bytes, blocks: Sequence[Block]
    ) -> None:
        """Store a batch with the blocks of its values, durably.

        Raises:
            FileExistsError: there is a batch with this name.
            StorageError: it may have been stored, or may be stored later.
        """
        ...

    def read(self, session: str, name: BatchName) -> bytes:
        """The document of a batch; one or two round trips.

        Raises:
            FileNotFoundError: there is no such batch.
            CorruptError: it is damaged.
        """
        ...

    def read_all(
        self, session: str, names: Collection[BatchName]
    ) -> Iterable[tuple[BatchName, bytes]]:
        """The documents of several batches, in any order; in parallel, and fewer than one each.

        Raises:
            FileNotFoundError: one of them does not exist.
            CorruptError: one of them is damaged.
        """
        ...

    def get(self, cid: Cid) -> memoryview | None:
        """A block of a batch that was appended or read here; None if it is in no such batch."""
        ...

    def add_note(self, session: str, number: int, note: bytes) -> None:
        """Store a note.

        Raises:
            FileExistsError: there is a note with this number.
        """
        ...

    def note(self, session: str, number: int) -> bytes:
        """A note.

        Raises:
            FileNotFoundError: there is no such note.
        """
        ...

    def publish(self, session: str, names: Iterable[BatchName]) -> None:
        """Make the blocks of batches part of the repository, before a commit of them is published.

        Args:
            session: the session.
            names: the batches, each of which was appended or read here.

        Raises:
            SessionClosedError: the session has ended.
        """
        ...

    def end(self, session: str) -> None:
        """Mark a session as ended. Its batches are removed by gc, unless commits need them."""
        ...

    def forget(self, session: str) -> None:
        """Release what is in memory for a session; it is read again if it is needed."""
        ...

    def forget_batches(self, session: str, names: Iterable[BatchName]) -> None:
        """Release what is in memory for some batches, which a commit contains."""
        ...
