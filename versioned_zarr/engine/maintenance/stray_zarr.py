"""Stray Zarr: documents of plain Zarr in the folder of a repository, where no branch has them.

`dataset.to_zarr("climate.vz", mode="a")` writes them beside the packs, and nothing else notices.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from versioned_zarr.errors import ReadOnlyError, StorageError
from versioned_zarr.storage.object_store import ObjectStore

ROOT_DOCUMENTS: Final = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
OWN_NAMES: Final = frozenset(
    {
        "condemned",
        "create.json",
        "index",
        "locks",
        "packs",
        "partial.json",
        "refs",
        "remotes.json",
        "sessions",
        "versioned-zarr.json",
    }
)
"""The names of a repository's own files and folders."""


def stray_documents(storage: ObjectStore) -> tuple[str, ...]:
    """The documents at the root of a storage; a read of each of five names."""
    found = []
    for name in ROOT_DOCUMENTS:
        with suppress(FileNotFoundError, StorageError, ReadOnlyError):
            storage.read(name, 0, 1)
            found.append(name)
    return tuple(found)


def about_strays(url: str, names: Sequence[str]) -> str:
    """What to say about them."""
    return (
        f"{', '.join(names)} in the folder of the repository {url!r}: plain Zarr was written "
        "there and not to a session, so no branch has it; write to repo.session(…). To "
        f"import it into a branch: vz.import_zarr(repo, {url.removeprefix('file://')!r}, …); then "
        "delete these files and the arrays beside them"
    )
