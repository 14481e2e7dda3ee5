"""The conditional store protocol: an object store that creates a name only if it is absent.

That is all that many machines need to share a repository: no locks, no appends, no renames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from versioned_zarr.storage.object_store import ObjectStore, Stored


class ConditionalStore(ObjectStore, Protocol):
    """An `ObjectStore` with creation if absent, shared by many machines. Thread-safe.

    `read`, `create` and, after `renew`, the lists show all that any machine has written before.

    Attributes:
        can_list: whether it can list objects; otherwise it is read-only.
    """

    can_list: bool

    def create(self, path: str, data: bytes) -> None:
        """Write an object that does not exist; readers see all of it or nothing.

        Raises:
            FileExistsError: it exists, or another writer is creating it.
            StorageError: the outcome may be unknown.
        """
        ...

    def first(
        self, prefix: str, counts: Callable[[str], bool] = lambda path: True
    ) -> Stored | None:
        """The first object in a folder, in the order of the paths.

        Args:
            prefix: the folder.
            counts: whether a path counts; if none of the first ones does, any is returned.
        """
        ...

    def named(self, folder: str, beginning: str) -> Sequence[Stored]:
        """The objects directly in a folder whose names begin with some text, sorted."""
        ...

    def folders(self, prefix: str) -> Sequence[str]:
        """The names of the folders in a folder, sorted."""
        ...

    def renew(self, prefix: str) -> bool:
        """Let the next lists of a folder show what any machine had written in it before this call.

        Needs the permission to write, unless lists are never old.

        Returns:
            Whether there was something to do. Then a name that a list does not show may still be
            looked up as missing.
        """
        ...

    def check_process(self) -> None:
        """Refuse a wait that would never end, because this process was forked.

        Raises:
            StorageError: a forked child cannot use the store.
        """
        ...
