"""The storage protocol: what a place must offer to hold a repository and its sessions.

A backend for a plain folder or for memory implements `Storage`, which is three capabilities and a
little more; everything above it is the same for all of them. Code asks for the smallest of them
that it needs. The contract suite `versioned_zarr.testing.StorageContract` says in code what each
method promises.
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
    look_at,
)
from versioned_zarr.storage.session_storage import AppendLog, SessionStorage, StagedPack

__all__ = [
    "AppendLog",
    "Bytes",
    "Documents",
    "FilePart",
    "Locks",
    "ObjectStore",
    "PackStorage",
    "SessionStorage",
    "StagedPack",
    "Storage",
    "Stored",
    "look_at",
]


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


class PackStorage(ObjectStore, Locks, Protocol):
    """A place for packs: an object store with locks that tells cheaply when something changed."""

    def stamp(self, prefix: str) -> object:
        """A token that differs after something directly in the folder `prefix` came or went."""
        ...


class Storage(PackStorage, SessionStorage, Protocol):
    """A place for a whole repository: packs, refs, sessions."""

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
