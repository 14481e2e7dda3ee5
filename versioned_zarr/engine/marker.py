"""The marker: the file that makes a folder a repository, with its format and hash function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from versioned_zarr.errors import FormatError, RepositoryNotFoundError, StorageError
from versioned_zarr.storage.checked_line import checked_line

FORMAT = 2
MARKER = "versioned-zarr.json"


FOLDER, OBJECTS, SHARED = "folder", "objects", "shared"
"""The layouts: in a folder of one machine, of objects, and of objects in a shared folder."""
_OF_LAYOUT = {
    FOLDER: "a repository in a folder, not in a shared one; open it by its path alone",
    OBJECTS: "a repository of objects that obstore wrote; pass the store instead of the path",
    SHARED: "a repository in a shared folder; open it by its path alone",
}


def encode_marker(hash_name: str, identity: str | None = None, *, is_shared: bool = False) -> bytes:
    """Encode the marker of a repository.

    Args:
        hash_name: the hash function.
        identity: distinguishes it from a repository that is created at the same URL later; None
            if the backend does that.
        is_shared: whether it is in a shared folder.
    """
    document: dict[str, Any] = {"format": FORMAT, "hash": hash_name}
    if identity is not None:
        document["id"] = identity
    if is_shared:
        document["shared"] = True
    text = json.dumps(document, sort_keys=True).encode("ascii")
    return checked_line(text)


def hash_name_in(marker: bytes) -> str:
    """The name of the hash function in a marker that this version wrote."""
    return str(json.loads(marker[: marker.rindex(b"}") + 1])["hash"])


def identity_in(marker: bytes) -> str | None:
    """The identity in a marker; None if it has none or cannot be read."""
    try:
        found = json.loads(marker[: marker.rindex(b"}") + 1]).get("id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def layout_in(marker: bytes) -> str | None:
    """The layout of a repository by its marker; None if this version cannot say."""
    try:
        document = json.loads(marker[: marker.rindex(b"}") + 1])
        if document["format"] != FORMAT:
            return None
        if "shared" in document:
            return SHARED
        return FOLDER if document.get("id") is None else OBJECTS
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def check_layout(url: str, marker: bytes, *layouts: str) -> None:
    """Make sure that a marker is of one of these layouts; damaged markers are let through.

    Raises:
        FormatError: it is of another one.
    """
    found = layout_in(marker)
    if found is not None and found not in layouts:
        raise FormatError(f"{url!r} is {_OF_LAYOUT[found]}", url=url, found=FORMAT)


def read_marker(url: str, read: Callable[[], bytes]) -> dict[str, Any]:
    """The content of a marker: its `format`, its `hash`, and perhaps its `id` and `shared`.

    Args:
        url: the repository.
        read: returns the marker's bytes, or raises FileNotFoundError.

    Raises:
        RepositoryNotFoundError: there is no marker.
        FormatError: it is damaged, or in a format that this version does not support.
    """
    try:
        data = read()
    except (FileNotFoundError, StorageError) as error:
        is_file = isinstance(error.__cause__, NotADirectoryError)  # it or a parent folder is a file
        if isinstance(error, StorageError) and not is_file:
            raise
        raise RepositoryNotFoundError(
            f"no repository at {url!r}; vz.create({_short(url)!r}) creates one", url=url
        ) from None
    try:
        document = json.loads(data[: data.rindex(b"}") + 1])
        found, hash_name = document["format"], document["hash"]
    except (ValueError, KeyError, TypeError):
        document, found, hash_name = {}, None, "sha2-256"
    if isinstance(found, int) and found > FORMAT:
        raise FormatError(
            f"{url!r} has format {found}, but this version reads formats up to {FORMAT}; "
            "upgrade versioned-zarr to open it",
            url=url,
            found=found,
        )
    if found == 1:
        raise FormatError(
            f"{url!r} has format 1, of versions before the first release, and this version reads "
            f"format {FORMAT}; export its data with the version that wrote it, then import them",
            url=url,
            found=found,
        )
    is_shared = document.get("shared") is True
    if found != FORMAT or data != encode_marker(hash_name, document.get("id"), is_shared=is_shared):
        raise FormatError(
            f"the marker {MARKER} of {url!r} is damaged; it should look like "
            f"{encode_marker('sha2-256')!r}",
            url=url,
            found=found,
        )
    return dict(document)


def _short(url: str) -> str:
    return str(Path(unquote(urlsplit(url).path))) if url.startswith("file:") else url
