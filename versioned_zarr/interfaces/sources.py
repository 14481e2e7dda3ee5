"""What an import reads: the keys and values of a folder, or of a URL that fsspec knows."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from versioned_zarr.errors import (
    InvalidInputError,
    NotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.interfaces.folder import files_below
from versioned_zarr.repository.hierarchy import NODE_DOCUMENTS
from versioned_zarr.urls import without_user

CHANGES = (
    "mtime", "created", "ino", "modified", "last_modified", "LastModified", "ETag", "etag",
    "md5", "md5Hash", "contentHash", "generation", "checksum", "version_id", "VersionId",
)  # fmt: skip
"""What file systems of fsspec tell of a file that changes with it."""
_WEB = ("http://", "https://")
_WITHOUT_USER = re.compile(
    r"(?:(?:zip|tar|libarchive|simplecache|filecache|blockcache)(?:://[^:@]*)?::|vzarr://.*?::)*",
    re.DOTALL,
)
"""The parts of a chain of URLs that can name no user; what stands before an `@` in one is a ref."""


class Source(NamedTuple):
    """A plain Zarr hierarchy, listed.

    Attributes:
        name: what it is called in messages, without a user or password.
        full_name: what tells it from all others.
        places: where the value of each key lies.
        sizes: the length of each key's value, in bytes; 0 where that is not told.
        state: another text when a file has changed; empty if that is not told.
        files: the file system of fsspec that it lies in.
        has_user: whether errors of the file system may show a user or password.
    """

    name: str
    full_name: str
    places: dict[str, str]
    sizes: dict[str, int]
    state: str
    files: Any
    has_user: bool

    def read(self, key: str) -> bytes:
        """The value of a key.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return bytes(self.files.cat_file(self.places[key]))
        except Exception as error:
            if isinstance(error, VersionedZarrError) and not isinstance(error, OSError):
                raise
            failure = error
        what = f"cannot read {key!r} of {self.name!r}"
        what_to_do = "; run the import again to go on"
        raise _failure(what, self.name, failure, what_to_do, has_user=self.has_user)


def open_source(place: str | os.PathLike[str], options: Mapping[str, Any]) -> Source:
    """List a source.

    A folder that is there is that folder, whatever URL its name looks like.

    Args:
        place: a folder or URL.
        options: for fsspec.

    Raises:
        InvalidInputError: there is no Zarr, or no package for such URLs.
        NotFoundError: a file that a URL names is not there.
        StorageError: the source cannot be opened or listed.
    """
    text = os.fspath(place)
    if isinstance(place, os.PathLike) or os.path.exists(text):
        name, full_name = text, os.path.abspath(text)
        files, root = LocalFileSystem(), full_name
    else:
        name = full_name = _shown(text)
        files, root = _file_system(text, name, options)
    has_user = name != text
    if isinstance(files, LocalFileSystem):
        found = _list_local(Path(root), name)
        places = {Path(path).relative_to(root).as_posix(): path for path in found}
    else:
        found = _list(files, root, name, has_user=has_user)
        places = {_key(path, root): path for path in found if not _is_another_page(path, root)}
    if not any(document in places for document in NODE_DOCUMENTS):
        raise InvalidInputError(
            f"no Zarr at {name!r}: there is no {', '.join(NODE_DOCUMENTS)}; "
            "give the folder that holds one of them"
        )
    sizes = {key: int(found[path].get("size") or 0) for key, path in places.items()}
    return Source(name, full_name, places, sizes, _state(found), files, has_user)


def _shown(text: str) -> str:
    """A URL, or a chain of them, without a user."""
    found = _WITHOUT_USER.match(text)
    end = found.end() if found else 0
    return text[:end] + without_user(text[end:])


def _file_system(text: str, name: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of fsspec that a source lies in, and its path there."""
    try:
        files, root = fsspec.core.url_to_fs(text, **options)
        return files, str(root)
    except (VersionedZarrError, TypeError):
        raise
    except (ValueError, ImportError) as error:
        raise InvalidInputError(f"cannot read {name!r}: {without_user(str(error))}") from error
    except Exception as error:  # noqa: BLE001 - file systems raise what they like
        failure = error
    if isinstance(failure, FileNotFoundError):
        raise NotFoundError(f"cannot open {name!r}: the file is not there; check its name")
    raise _failure(f"cannot open {name!r}", name, failure, "", has_user=name != text)


def _list_local(root: Path, name: str) -> dict[str, dict[str, Any]]:
    if not root.is_dir():
        return {}
    try:
        return {
            str(path): {
                "size": it.st_size,
                "mtime": it.st_mtime_ns,
                "created": it.st_ctime_ns,
                "ino": it.st_ino,
            }
            for path, it in files_below(root)
        }
    except VersionedZarrError:
        raise
    except OSError as error:
        failure = error
    raise _failure(f"cannot list {name!r}", name, failure, "", has_user=False)


def _list(files: Any, root: str, name: str, *, has_user: bool) -> dict[str, dict[str, Any]]:
    try:
        files.ls(root, detail=False)  # tells of failures that `find` takes for an empty folder
        found: dict[str, dict[str, Any]] = files.find(root, detail=True)
        return found
    except VersionedZarrError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except Exception as error:  # noqa: BLE001 - file systems raise what they like
        failure = error
    raise _failure(f"cannot list {name!r}", name, failure, "", has_user=has_user)


def _key(path: str, root: str) -> str:
    """What a file is called in a source; a URL's path is encoded, and written in several ways."""
    if not path.startswith(_WEB):
        return path[len(root.rstrip("/")) :].lstrip("/")
    below = path.partition("://")[2][len(root.partition("://")[2].rstrip("/")) :]
    return unquote(posixpath.normpath(below.lstrip("/")))


def _is_another_page(path: str, root: str) -> bool:
    """Whether a link on a web page leads to no file below: to another view of a list, or up."""
    if not path.startswith(_WEB):
        return False
    return "?" in path or "#" in path or _key(path, root).split("/")[0] in (".", "..")


def _state(found: dict[str, dict[str, Any]]) -> str:
    """A hash of what is told of the files; empty if something is told of none of them."""
    told = [
        [
            path,
            info.get("size"),
            [f"{name}={info[name]}" for name in CHANGES if info.get(name) is not None],
        ]
        for path, info in sorted(found.items())
    ]
    if not all(changes for _, _, changes in told):
        return ""
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16]


def _failure(
    what: str, where: str, error: Exception, what_to_do: str, *, has_user: bool
) -> StorageError:
    """The error of ours for a file system's own, which may tell the user in a URL."""
    if has_user:
        return StorageError(f"{what}: {type(error).__name__}{what_to_do}", where=where)
    said = str(error) or type(error).__name__
    failure = StorageError(f"{what}: {said}{what_to_do}", where=where)
    failure.__cause__ = error
    return failure
