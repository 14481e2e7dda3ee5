"""The marker: the file that says that a folder is a repository, of which format and hash."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from versioned_zarr.errors import FormatError, RepositoryNotFoundError, StorageError

FORMAT = 1
MARKER = "versioned-zarr.json"


def encode_marker(hash_name: str) -> bytes:
    """The marker of a repository with this hash function."""
    text = json.dumps({"format": FORMAT, "hash": hash_name}, sort_keys=True).encode("ascii")
    return b"%s %08x\n" % (text, zlib.crc32(text))


def read_marker(url: str, read: Callable[[], bytes]) -> dict[str, Any]:
    """What the marker of a repository says: its `format` and its `hash`.

    Args:
        url: the repository.
        read: gives the marker's bytes, or raises FileNotFoundError.

    Raises:
        RepositoryNotFoundError: there is no marker.
        FormatError: it is damaged, or of a format that this version does not read.
    """
    try:
        data = read()
    except (FileNotFoundError, StorageError) as error:
        is_file = isinstance(error.__cause__, NotADirectoryError)  # or something above it is
        if isinstance(error, StorageError) and not is_file:
            raise
        raise RepositoryNotFoundError(
            f"no repository at {url!r}; vz.create({_short(url)!r}) makes one", url=url
        ) from None
    try:
        document = json.loads(data[: data.rindex(b"}") + 1])
        found, hash_name = document["format"], document["hash"]
    except (ValueError, KeyError, TypeError):
        document, found, hash_name = {}, None, "sha2-256"
    if isinstance(found, int) and found > FORMAT:
        raise FormatError(
            f"{url!r} has format {found}, and this version reads up to {FORMAT}; "
            "upgrade versioned-zarr to open it",
            url=url,
            found=found,
        )
    if found != FORMAT or data != encode_marker(hash_name):
        raise FormatError(
            f"the marker {MARKER} of {url!r} is damaged; it should read "
            f"{encode_marker('sha2-256')!r} or the like",
            url=url,
            found=found,
        )
    return dict(document)


def _short(url: str) -> str:
    return str(Path(unquote(urlsplit(url).path))) if url.startswith("file:") else url
