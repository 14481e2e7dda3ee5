"""Sources of an import: keys and values of a folder, or of a URL that fsspec supports."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import fsspec
from fsspec.archive import AbstractArchiveFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.zip import ZipFileSystem

from versioned_zarr.engine.hierarchy.zarr_nodes import NODE_DOCUMENTS, split
from versioned_zarr.engine.maintenance.stray_zarr import OWN_NAMES
from versioned_zarr.engine.marker import MARKER
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.errors import (
    InvalidInputError,
    NotFoundError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.interfaces.files.folder_cid import files_below
from versioned_zarr.interfaces.files.source_formats import advice
from versioned_zarr.urls import split_url, without_user

CHANGES: tuple[str, ...] = (
    "mtime", "created", "ino", "modified", "last_modified", "LastModified", "ETag", "etag",
    "md5", "md5Hash", "contentHash", "generation", "checksum", "version_id", "VersionId",
)  # fmt: skip
"""The fields of fsspec file info that change when a file changes."""
LISTED_AT_ONCE = 1000
"""The number of files between two progress reports."""
_ONE_CONNECTION = frozenset({"ftp", "ftps", "git"})
_WEB = ("http://", "https://")
_WITHOUT_USER = re.compile(
    r"(?:(?:zip|tar|libarchive|simplecache|filecache|blockcache)(?:://[^:@]*)?::|vzarr://.*?::)*",
    re.DOTALL,
)
"""Links of a URL chain that cannot contain a user; text before an `@` in them is a ref."""


class Source(NamedTuple):
    """A source, listed.

    Attributes:
        name: its name in messages, without a user or password.
        full_name: its unique name.
        path_of: returns the path of the file with the value of a key.
        sizes: the size of each key's value in bytes; 0 if unknown.
        state: a text that changes when a file changes; empty if unknown.
        files: its fsspec file system.
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
        """Whether only one thread may read, because there is a single file or connection."""
        files: Any = self.files
        while files is not None:
            names = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
            if isinstance(files, AbstractArchiveFileSystem) or names & _ONE_CONNECTION:
                return True
            files = getattr(files, "fs", None)
        return False

    def only(self, keys: Iterable[str]) -> Source:
        """The same source with some of its keys, which can be pickled."""
        sizes = {key: self.sizes[key] for key in keys}
        paths = {key: self.path_of(key) for key in sizes}
        return self._replace(path_of=paths.__getitem__, sizes=sizes)

    def read(self, key: str) -> bytes:
        """Read the value of a key.

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
    """List a plain Zarr hierarchy.

    Args:
        where: a folder, a zip file or a URL.
        options: for fsspec.
        progress: called with the number of keys found as the total.

    Raises:
        InvalidInputError: there is no Zarr hierarchy, or no package for such URLs.
        NotFoundError: a file named by a URL does not exist.
        StorageError: the source cannot be opened or listed.
    """
    found = list_source(where, options, progress)
    if not any(document in found.sizes for document in NODE_DOCUMENTS):
        raise InvalidInputError(advice(found.name))
    return found


def list_source(
    where: str | os.PathLike[str],
    options: Mapping[str, Any],
    progress: OnProgress | None = None,
) -> Source:
    """List a source of any format.

    An existing folder or zip file is used as such, even if its name looks like a URL.

    Args:
        where: a folder, a zip file or a URL.
        options: for fsspec.
        progress: called with the number of keys found as the total.

    Raises:
        InvalidInputError: there is no package for such URLs.
        NotFoundError: a file named by a URL does not exist.
        StorageError: the source cannot be opened or listed.
    """
    tell = progress or (lambda progress: None)
    text = os.fspath(where)
    is_here = isinstance(where, os.PathLike) or os.path.exists(text)
    if is_here and zipfile.is_zipfile(text):
        found = _listed_zip(text)
    elif is_here:
        root = os.path.abspath(text)
        sizes, state = _list_local(root, text, tell)
        found = Source(text, root, _beside(root), sizes, state, LocalFileSystem(), has_user=False)
    else:
        url = f"zip://::{text}" if _is_url_of_zip(text) else text
        name = _shown(text)
        files, root = _file_system(url, name, options)
        found = _listed(files, root, name, has_user=name != text)
    tell(Progress("keys", 0, len(found.sizes)))
    return found


def _listed(files: Any, root: str, name: str, *, has_user: bool) -> Source:
    """The files below a path of a file system; of an archive, those of the hierarchy in it."""
    found = _list(files, root, name, has_user=has_user)
    paths = {_key(path, root): path for path in found if not _is_another_page(path, root)}
    if isinstance(files, AbstractArchiveFileSystem):
        paths = _of_hierarchy(paths)
    sizes = {key: int(found[path].get("size") or 0) for key, path in paths.items()}
    return Source(name, name, paths.__getitem__, sizes, _state(found), files, has_user)


def _listed_zip(path: str) -> Source:
    """The hierarchy in a local zip file. Entries have no state that fsspec tells; the file has."""
    it = os.stat(path)
    with zipfile.ZipFile(path) as file:
        names = (name for name in file.namelist() if name[:1] == "/" or ".." in name.split("/"))
        outside = next(names, None)
    if outside is not None:
        raise InvalidInputError(
            f"{path!r} is not imported: the name of its entry {outside!r} leads out of the archive"
        )
    found = _listed(ZipFileSystem(os.path.abspath(path)), "", path, has_user=False)
    state = _hash(f"{it.st_size} {it.st_mtime_ns} {it.st_ctime_ns} {it.st_ino}")
    return found._replace(full_name=os.path.abspath(path), state=state if CHANGES else "")


def _is_url_of_zip(text: str) -> bool:
    if "://" not in text or "::" in text:
        return False
    path = split_url(text).path
    return path.lower().endswith((".zip", ".ozx"))


def _of_hierarchy(paths: dict[str, str]) -> dict[str, str]:
    """The files of the hierarchy in an archive, by their keys in it.

    Its root is the highest folder with a document of a node, such as `old.zarr` in an archive of
    that folder. If two folders are the highest, it is the root of the archive.
    """
    tops = {split(key)[0] for key in paths if split(key)[1] in NODE_DOCUMENTS}
    least = min((top.count("/") + bool(top) for top in tops), default=0)
    highest = [top for top in tops if top.count("/") + bool(top) == least]
    if len(highest) != 1 or not highest[0]:
        return paths
    start = f"{highest[0]}/"
    return {key.removeprefix(start): path for key, path in paths.items() if key.startswith(start)}


def _beside(root: str) -> Callable[[str], str]:
    start = f"{root.rstrip('/')}/"
    return lambda key: start + key


def _shown(text: str) -> str:
    """A URL, or a chain of them, without a user."""
    found = _WITHOUT_USER.match(text)
    end = found.end() if found else 0
    return text[:end] + without_user(text[end:])


def _file_system(text: str, name: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The fsspec file system of a source, and its path there."""
    try:
        files, root = fsspec.core.url_to_fs(text, **options)
        return files, str(root)
    except (VersionedZarrError, TypeError):
        raise
    except (ValueError, ImportError) as error:
        raise InvalidInputError(f"cannot read {name!r}: {without_user(str(error))}") from error
    except Exception as error:  # noqa: BLE001 - file systems raise any error
        failure = error
    if isinstance(failure, FileNotFoundError):
        raise NotFoundError(f"cannot open {name!r}: no such file; check its name")
    raise _failure(f"cannot open {name!r}", name, failure, "", has_user=name != text)


def _list_local(root: str, name: str, tell: OnProgress) -> tuple[dict[str, int], str]:
    """The sizes of the files in a folder by key, and its state, as in `Source.state`."""
    sizes: dict[str, int] = {}
    told: list[str] = []
    if not os.path.isdir(root):
        return sizes, ""
    # Plain Zarr that was written past a repository, into its folder.
    own = OWN_NAMES if os.path.exists(os.path.join(root, MARKER)) else frozenset[str]()
    try:
        for key, it in files_below(root):
            if key.partition("/")[0] in own:
                continue
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
        files.ls(root, detail=False)  # reports errors that `find` would treat as an empty folder
        found: dict[str, dict[str, Any]] = files.find(root, detail=True)
        return found
    except VersionedZarrError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except Exception as error:  # noqa: BLE001 - file systems raise any error
        failure = error
    raise _failure(f"cannot list {name!r}", name, failure, "", has_user=has_user)


def _key(path: str, root: str) -> str:
    """The key of a file in a source; the path of a URL is encoded, in one of several ways.

    In an archive that was created inside the folder, names begin with `./`.
    """
    if not path.startswith(_WEB):
        return path[len(root.rstrip("/")) :].lstrip("/").removeprefix("./")
    below = path.partition("://")[2][len(root.partition("://")[2].rstrip("/")) :]
    return unquote(posixpath.normpath(below.lstrip("/")))


def _is_another_page(path: str, root: str) -> bool:
    """Whether a link on a web page does not lead to a file below: to another sort order, or up."""
    if not path.startswith(_WEB):
        return False
    return "?" in path or "#" in path or _key(path, root).split("/")[0] in (".", "..")


def _state(found: dict[str, dict[str, Any]]) -> str:
    """A hash of the file metadata; empty if a file has none."""
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
    """Our error for an error of the file system, which may show the user in a URL."""
    if has_user:
        return StorageError(f"{what}: {type(error).__name__}{what_to_do}", where=where)
    said = str(error) or type(error).__name__
    failure = StorageError(f"{what}: {said}{what_to_do}", where=where)
    failure.__cause__ = error
    return failure
