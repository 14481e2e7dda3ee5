"""The session reader: how a session is read, wherever it keeps what was written into it.

It does not know where that is, nor what others have written since: a session says both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager

from versioned_zarr.blocks.file_reader import read_stored
from versioned_zarr.blocks.protocol import BlockStore
from versioned_zarr.engine.sessions.change_set import PendingWrite
from versioned_zarr.engine.sessions.journal import SessionHead
from versioned_zarr.errors import KeyNotFoundError
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.tree_builder import TreeBuilder


class SessionReader(ABC):
    """What every session is read by. Thread-safe.

    Args:
        blocks: where committed values are.
        trees: reads trees.
        head: the session.
    """

    def __init__(self, blocks: BlockStore, trees: Trees, head: SessionHead) -> None:
        self.blocks, self.trees, self.head = blocks, trees, head

    @abstractmethod
    def find(self, key: str) -> PendingWrite | Link | None:
        """What lies under a key: something pending, something committed, or nothing."""

    @abstractmethod
    def _fresh(self) -> AbstractContextManager[TreeBuilder[PendingWrite]]:
        """All that the session holds as one tree, brought up to date and held still meanwhile."""

    @abstractmethod
    def _pending_bytes(self, found: PendingWrite, start: int, end: int | None) -> memoryview | None:
        """The bytes of a value where the session keeps it; None if it is among the blocks."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value or a range of them, clamped as slices are.

        Raises:
            KeyNotFoundError: there is no value under this key.
        """
        found = self.find(key)
        if found is None:
            raise KeyNotFoundError(f"no value under {key!r} in session {self.head.id}", key=key)
        return self.read_found(found, start, end)

    def read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """The bytes of what `find` or `walk` gave."""
        if isinstance(found, PendingWrite):
            data = self._pending_bytes(found, start, end)
            if data is not None:
                return data
        return read_stored(self.blocks, found.cid, start, end)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, PendingWrite | Link]]:
        """All values in a folder and below it, sorted; a view of this moment."""
        with self._fresh() as tree:
            return iter(list(tree.walk(prefix)))

    def list_dir(self, path: str) -> list[str]:
        """The names directly in a folder."""
        with self._fresh() as tree:
            return tree.list_dir(path)

    def is_empty(self, path: str) -> bool:
        """Whether no value lies in a folder."""
        with self._fresh() as tree:
            return tree.is_empty(path)

    def size(self, found: PendingWrite | Link) -> int:
        """The length in bytes of a value."""
        return found.size if isinstance(found, PendingWrite) else self.trees.size(found)

    def changed(self) -> list[tuple[str, PendingWrite | None]]:
        """Every key that was touched: what it holds now, or None if it was deleted."""
        with self._fresh() as tree:
            return list(tree.changed())
