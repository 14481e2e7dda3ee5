"""The session reader: reads a session, independent of where the session stores its writes.

Subclasses locate pending values and read the writes of other processes.
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
    """Reads a session. Thread-safe.

    Args:
        blocks: the block store of committed values.
        trees: reads trees.
        head: the session.
    """

    def __init__(self, blocks: BlockStore, trees: Trees, head: SessionHead) -> None:
        self.blocks, self.trees, self.head = blocks, trees, head

    @abstractmethod
    def find(self, key: str) -> PendingWrite | Link | None:
        """The value of a key: pending, committed, or None."""

    @abstractmethod
    def _fresh(self) -> AbstractContextManager[TreeBuilder[PendingWrite]]:
        """The contents of the session as one tree, refreshed, and locked meanwhile."""

    @abstractmethod
    def _pending_bytes(self, found: PendingWrite, start: int, end: int | None) -> memoryview | None:
        """The bytes of a pending value; None if the block store has it."""

    def read(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        """The bytes of a value or of a range of it, clamped as slices are.

        Raises:
            KeyNotFoundError: the key has no value.
        """
        found = self.find(key)
        if found is None:
            raise KeyNotFoundError(f"no value under {key!r} in session {self.head.id}", key=key)
        return self.read_found(found, start, end)

    def read_found(
        self, found: PendingWrite | Link, start: int = 0, end: int | None = None
    ) -> memoryview:
        """The bytes of a value that `find` or `walk` returned."""
        if isinstance(found, PendingWrite):
            data = self._pending_bytes(found, start, end)
            if data is not None:
                return data
        return read_stored(self.blocks, found.cid, start, end)

    def walk(self, prefix: str = "") -> Iterator[tuple[str, PendingWrite | Link]]:
        """All values in and below a folder, sorted; a snapshot of the current state."""
        with self._fresh() as tree:
            return iter(list(tree.walk(prefix)))

    def list_dir(self, path: str) -> list[str]:
        """The names directly in a folder."""
        with self._fresh() as tree:
            return tree.list_dir(path)

    def is_empty(self, path: str) -> bool:
        """Whether a folder contains no value."""
        with self._fresh() as tree:
            return tree.is_empty(path)

    def size(self, found: PendingWrite | Link) -> int:
        """The length in bytes of a value."""
        return found.size if isinstance(found, PendingWrite) else self.trees.size(found)

    def values_at(self, path: str, found: Link) -> list[tuple[str, Link]]:
        """The keys that a stored value or directory has at a path, each with its value."""
        if not self.trees.is_directory(found):
            return [(path, found)]
        start = f"{path}/" if path else ""
        return [(start + key, link) for key, link in self.trees.walk(found.cid)]

    def linked(self, path: str) -> tuple[Link | None, list[tuple[str, PendingWrite | Link | None]]]:
        """What is stored of a folder, and the keys in it that differ; see `TreeBuilder.linked`."""
        with self._fresh() as tree:
            directory, differing = tree.linked(path)
        return None if directory is None else self.trees.subtree(directory, ""), differing

    def changed(self) -> list[tuple[str, PendingWrite | Link | None]]:
        """Every changed key with its value, a link where it was copied; None if it was deleted."""
        with self._fresh() as tree:
            return list(tree.changed())
