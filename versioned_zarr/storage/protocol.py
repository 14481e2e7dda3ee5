"""The storage protocol: what a storage must provide for a repository and its sessions.

A backend for a plain folder or for memory implements `Storage`, which combines three smaller
protocols; everything above it is shared by all of them. Code uses the smallest protocol that it
needs. The contract suite `versioned_zarr.testing.StorageContract` specifies each method in code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from versioned_zarr.storage.locks import Locks
from versioned_zarr.storage.object_store import (
    Bytes,
    FilePart,
    ObjectStore,
    Stored,
    view_or_read,
)
from versioned_zarr.storage.session_storage import (
    AppendLog,
    LinkableDraft,
    SessionStorage,
    StagedPack,
)

__all__ = [
    "AppendLog",
    "Bytes",
    "Documents",
    "FilePart",
    "LinkableDraft",
    "Locks",
    "ObjectStore",
    "PackStorage",
    "SessionStorage",
    "StagedPack",
    "Storage",
    "Stored",
    "view_or_read",
]


class Documents(Protocol):
    """Small files that belong to a repository as a whole and are shared by all machines."""

    url: str

    def read(self, path: str) -> memoryview:
        """The bytes at `path`.

        Raises:
            FileNotFoundError: `path` does not exist.
        """
        ...

    def put(self, path: str, parts: Sequence[Bytes]) -> None:
        """Write the parts atomically and durably, replacing the old content."""
        ...


class PackStorage(ObjectStore, Locks, Protocol):
    """A storage of packs: an object store with locks, and with a cheap way to detect changes."""

    def stamp(self, prefix: str) -> object:
        """A token that changes when an entry directly in the folder `prefix` comes or goes."""
        ...


class Storage(PackStorage, SessionStorage, Protocol):
    """A storage of a whole repository: packs, refs, sessions."""

    def move(self, path: str, to: str) -> None:
        """Let what is at `path` lie at `to` instead, durably and at once, where nothing is yet.

        Raises:
            FileNotFoundError: nothing is there.
        """
        ...

    def delete_folder(self, prefix: str) -> None:
        """Remove the folder `prefix` with everything below it."""
        ...

    def sweep(self, folders: Iterable[str]) -> None:
        """Remove incomplete files that writers left more than a day ago.

        Args:
            folders: where to look, at any depth, and beside them. Everything else is left alone.
        """
        ...
