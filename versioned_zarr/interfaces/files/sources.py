"""Sources of an import: keys and values of a folder, or of a URL that fsspec supports."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import fsspec
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.local import LocalFileSystem

from versioned_zarr.engine.hierarchy.zarr_nodes import NODE_DOCUMENTS
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.errors import (
    InvalidInputError,
    NotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.interfaces.files.folder_cid import files_below
from versioned_zarr.urls import without_user

CHANGES: tuple[str, ...] = (
    "mtime", "created", "ino", "modified", "last_modified", "LastModified", "ETag", "etag",
    "md5", "md5Hash", "contentHash", "generation", "checksum", "version_id", "VersionId",
)  # fmt: skip
"""What file systems of fsspec tell of a file that changes with it."""
LISTED_AT_ONCE = 1000
"""After how many files it is told again how many there are."""
_ONE_CONNECTION = frozenset({"ftp", "ftps", "git"})
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
        path_of: returns the path of the file that holds the value of a key.
        sizes: the length of each key's value, in bytes; 0 where that is not told.
        state: another text when a file has changed; empty if that is not told.
        files: the file system of fsspec that it lies in.
        has_user: whether errors of the file system may show a user or password.
    """

    name: str
    full_name: str
    path_of: Callable[[str], str]
    sizes: dict[str, int]
    state: str
    files: Any
    has_user: bool

    @property
    def is_read_by_one(self) -> bool:
        """Whether threads must not read at once, as one file or connection is behind it."""
        files: Any = self.files
        while files is not None:
            names = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
            if isinstance(files, AbstractArchiveFileSystem) or names & _ONE_CONNECTION:
                return True
            files = getattr(files, "fs", None)
        return False

    def read(self, key: str) -> bytes:
        """The value of a key.

        Raises:
            StorageError: it cannot be read.
        """
        try:
            return bytes(self.files.cat_file(self.path_of(key)))
        except Exception as error:
            if isinstance(error, VersionedZarrError) and not isinstance(error, OSError):
                raise
            failure = error
        what = f"cannot read {key!r} of {self.name!r}"
        what_to_do = "; run the import again to resume it"
        raise _failure(what, self.name, failure, what_to_do, has_user=self.has_user)


def open_source(
    where: str | os.PathLike[str],
    options: Mapping[str, Any],
    progress: OnProgress | None = None,
) -> Source:
    """List a source.

    A folder that is there is that folder, whatever URL its name looks like.

    Args:
        where: a folder or URL.
        options: for fsspec.
        progress: called with the number of keys that were found, of which none is done yet.

    Raises:
        InvalidInputError: there is no Zarr, or no package for such URLs.
        NotFoundError: a file that a URL names is not there.
        StorageError: the source cannot be opened or listed.
    """
    tell = progress or (lambda progress: None)
    text = os.fspath(where)
    if isinstance(where, os.PathLike) or os.path.exists(text):
        name, full_name = text, os.path.abspath(text)
        files, root = LocalFileSystem(), full_name
    else:
        name = full_name = _shown(text)
        files, root = _file_system(text, name, options)
    has_user = name != text
    if isinstance(files, LocalFileSystem):
        sizes, state = _list_local(root, name, tell)
        path_of = _beside(root)
    else:
        found = _list(files, root, name, has_user=has_user)
        paths = {_key(path, root): path for path in found if not _is_another_page(path, root)}
        sizes = {key: int(found[path].get("size") or 0) for key, path in paths.items()}
        state, path_of = _state(found), paths.__getitem__
    tell(Progress("keys", 0, len(sizes)))
    if not any(document in sizes for document in NODE_DOCUMENTS):
        raise InvalidInputError(
            f"no Zarr at {name!r}: there is no {', '.join(NODE_DOCUMENTS)}; "
            "give a folder that contains one of them"
        )
    return Source(name, full_name, path_of, sizes, state, files, has_user)


def _beside(root: str) -> Callable[[str], str]:
    start = f"{root.rstrip('/')}/"
    return lambda key: start + key


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
        raise NotFoundError(f"cannot open {name!r}: no such file; check its name")
    raise _failure(f"cannot open {name!r}", name, failure, "", has_user=name != text)


def _list_local(root: str, name: str, tell: OnProgress) -> tuple[dict[str, int], str]:
    """The lengths of the files in a folder by their keys, and its state, as `Source.state`."""
    sizes: dict[str, int] = {}
    told: list[str] = []
    if not os.path.isdir(root):
        return sizes, ""
    try:
        for key, it in files_below(root):
            sizes[key] = it.st_size
            told.append(f"{key}\0{it.st_size} {it.st_mtime_ns} {it.st_ctime_ns} {it.st_ino}\n")
            if not len(sizes) % LISTED_AT_ONCE:
                tell(Progress("keys", 0, len(sizes)))
    except VersionedZarrError:
        raise
    except OSError as error:
        failure = error
    else:
        return sizes, _hash("".join(sorted(told))) if CHANGES else ""
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
    """What a file is called in a source; a URL's path is encoded, and written in several ways.

    In an archive that was made within the folder, names begin with `./`.
    """
    if not path.startswith(_WEB):
        return path[len(root.rstrip("/")) :].lstrip("/").removeprefix("./")
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
    return _hash(repr(told))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]


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
