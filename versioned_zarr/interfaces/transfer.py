"""Plain Zarr in and out: from a folder or URL, to a folder. Bytes are never decoded."""

from __future__ import annotations

import hashlib
import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import fsspec

from versioned_zarr.blocks.values import ReadsValues, read_value
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidCidError,
    InvalidInputError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.history.commit import Commit
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.hierarchy import NODE_DOCUMENTS, join
from versioned_zarr.repository.protocol import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.urls import without_user

LARGE_BYTES = 1_000_000_000
_WORKERS = 8


class LargeTransferWarning(UserWarning):
    """More than 1 GB is about to be copied."""


@dataclass
class Progress:
    """How far a transfer is.

    Attributes:
        keys: how many keys are done.
        keys_total: how many there are.
        size_bytes: how many bytes are done.
        size_bytes_total: how many there are.
    """

    keys: int
    keys_total: int
    size_bytes: int
    size_bytes_total: int


OnProgress = Callable[[Progress], None]


def import_zarr(
    repository: Repository,
    source: str | os.PathLike[str],
    *,
    branch: str = "main",
    path: str = "",
    message: str | None = None,
    overwrite: bool = False,
    workers: int = _WORKERS,
    storage_options: dict[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Commit:
    """Commit a copy of a plain Zarr hierarchy, key by key.

    At most `workers` values are in memory at once. An import that was interrupted, or whose
    process died, goes on where it stopped when it is called again with the same source, branch
    and path. What was copied is copied again if a file of the source has changed since, or if the
    source does not tell (as a web server does not).

    Args:
        repository: where to.
        source: a folder, or a URL that fsspec knows, of Zarr v2 or v3.
        branch: the branch to commit to.
        path: the group in the repository that it shall become; the root by default.
        message: why; by default the source's name.
        overwrite: replace what lies at `path`.
        workers: how many values are copied at once.
        storage_options: for fsspec.
        on_progress: called as values arrive, from the calling thread.

    Raises:
        InvalidInputError: there is no Zarr at `source`.
        AlreadyExistsError: `path` is not empty, and `overwrite` is false.
        StorageError: the source cannot be read; the session is kept and can go on.
    """
    place = os.fspath(source)
    text = place if os.path.exists(place) else without_user(place)
    file_system, root = _file_system(place, text, storage_options or {})
    values, state = _list_source(file_system, root, text)
    total = sum(values.values())
    if total > LARGE_BYTES:
        warnings.warn(
            f"importing {len(values)} keys, {total / 1e9:.1f} GB, from {text}",
            LargeTransferWarning,
            stacklevel=2,
        )
    path = path.strip("/")
    whole = os.path.abspath(place) if os.path.exists(place) else text
    purpose = f"import {whole} into /{path} as of "
    session = _session_for(repository, purpose, state, branch, path, overwrite)
    with session:
        found = dict(session.sizes(path))
        keys = {join(path, name): name for name in values}
        for key in found.keys() - keys.keys():
            session.delete(key)  # an earlier attempt copied it, and it is gone
        done = found if state and session.working.head.purpose == purpose + state else {}
        waiting = [key for key, name in keys.items() if done.get(key) != values[name]]

        def copy(key: str) -> int:
            data = _fetch(file_system, f"{root.rstrip('/')}/{keys[key]}", text)
            session.write(key, data)
            return len(data)

        finished = sum(values[name] for key, name in keys.items() if done.get(key) == values[name])
        start = Progress(len(keys) - len(waiting), len(keys), finished, total)
        _run(waiting, copy, workers, start, on_progress)
        return session.commit(message or f"Import {text}")


def _file_system(place: str, text: str, options: dict[str, Any]) -> tuple[Any, str]:
    """The file system of fsspec that a source lies in, and its path there."""
    try:
        file_system, root = fsspec.core.url_to_fs(place, **options)
    except (ValueError, ImportError) as error:
        raise InvalidInputError(f"cannot read {text!r}: {without_user(str(error))}") from error
    return file_system, root


def _list_source(file_system: Any, root: str, text: str) -> tuple[dict[str, int], str]:
    """The keys of a source with the lengths of their values, and a hash of what is told of them.

    The hash is another one when a file has changed; it is empty if that is not told.
    """
    found, failure = None, Exception()
    try:
        found = file_system.find(root, detail=True)
    except (OSError, ValueError) as error:  # of a URL that cannot be read, among them
        failure = error
    if found is None:
        raise _failure(f"cannot list {text!r}", root, failure, "")
    start = len(root.rstrip("/")) + 1
    values = {path[start:]: int(info["size"] or 0) for path, info in found.items()}
    if not any(name in values for name in NODE_DOCUMENTS):
        raise InvalidInputError(
            f"no Zarr at {text!r}: there is no {', '.join(NODE_DOCUMENTS)}; "
            "give the folder that holds one of them"
        )
    told = [
        [
            path,
            info["size"],
            [f"{name}={info[name]}" for name in _CHANGES if info.get(name) is not None],
        ]
        for path, info in sorted(found.items())
    ]
    if not all(changes for _, _, changes in told):
        return values, ""
    return values, hashlib.sha256(repr(told).encode()).hexdigest()[:16]


_CHANGES = (
    "mtime", "created", "ino", "modified", "last_modified", "LastModified", "ETag", "etag",
    "md5", "md5Hash", "contentHash", "generation", "checksum", "version_id", "VersionId",
)  # fmt: skip
"""What file systems of fsspec tell of a file that changes with it."""


def _fetch(file_system: Any, path: str, text: str) -> bytes:
    try:
        return bytes(file_system.cat_file(path))
    except OSError as error:
        failure = error
    what = f"cannot read {without_user(path)!r} of {text!r}"
    raise _failure(what, path, failure, "; run the import again to go on")


def _failure(what: str, path: str, error: Exception, what_to_do: str) -> StorageError:
    """The error of ours for a file system's own, which tells the user in a URL, if there is one."""
    shown = without_user(path)
    if shown != path:
        return StorageError(f"{what}: {type(error).__name__}{what_to_do}", where=shown)
    failure = StorageError(f"{what}: {error}{what_to_do}", where=path)
    failure.__cause__ = error
    return failure


def _session_for(
    repository: Repository, purpose: str, state: str, branch: str, path: str, overwrite: bool
) -> Session:
    """The session that an earlier attempt left, or a new one on an empty place."""
    for info in repository.sessions():
        if info.purpose.startswith(purpose) and (info.branch, info.is_alive) == (branch, False):
            return repository.resume(info.id)
    session = repository.session(branch, purpose=purpose + state)
    if not session.is_empty(path):
        if not overwrite:
            raise AlreadyExistsError(
                f"{path or 'the root'!r} of branch {branch!r} is not empty; choose another path, "
                "or say overwrite",
                name=path,
            )
        session.clear(path)
    return session


def to_folder(
    snapshot: Snapshot,
    path: str | os.PathLike[str],
    *,
    workers: int = _WORKERS,
    on_progress: OnProgress | None = None,
) -> None:
    """Write all values of a snapshot as the files of a plain Zarr folder.

    Every block is verified against its CID on the way out. Each file appears whole. Called
    again after an interruption, it writes only what is not there yet with the right content.

    Args:
        snapshot: what to write.
        path: the folder; made if it is not there.
        workers: how many values are written at once.
        on_progress: called as values are written, from the calling thread.

    Raises:
        AlreadyExistsError: the folder holds files that the snapshot does not.
        CorruptBlockError: a block is damaged.
        StorageError: a file cannot be written.
    """
    folder = Path(path)
    links = dict(snapshot.links())
    for file in _files(folder):
        if Path(file).name.startswith(_TEMPORARY):
            _remove_if_left(folder / file)
        elif file not in links:
            raise AlreadyExistsError(
                f"{str(folder)!r} holds {file!r}, which the snapshot does not; "
                "export to an empty folder",
                name=str(folder),
            )
    sizes = {key: snapshot.size_of(link) for key, link in links.items()}
    blocks = snapshot.repository.stores.blocks

    def verified(cid: Cid) -> memoryview:
        data = blocks.get(cid)
        cids.check(cid, data, "the repository")
        return data

    def read(cid: Cid) -> memoryview:
        if isinstance(blocks, ReadsValues):
            return blocks.read_value(cid)
        return read_value(verified, cid)

    def write(key: str) -> int:
        target = folder / key
        if not _holds(target, links[key], sizes[key]):
            _write_file(target, read(links[key].cid))
        return sizes[key]

    total = sum(sizes.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _run(list(links), write, workers, Progress(0, len(links), 0, total), on_progress)
    except VersionedZarrError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {str(folder)!r}: {error}", where=str(folder)) from error


def _files(folder: Path) -> Iterator[str]:
    for parent, _, names in os.walk(folder):
        for name in names:
            yield Path(parent, name).relative_to(folder).as_posix()


_TEMPORARY = ".vz-export-"
"""How files begin that are not whole; the number of the process that writes them follows."""


def _remove_if_left(file: Path) -> None:
    """Remove a file that an export was writing when it was killed."""
    try:
        os.kill(int(file.name.split("-")[2]), 0)
    except (ProcessLookupError, ValueError):
        file.unlink(missing_ok=True)
    except OSError:  # it lives, and is another user's
        pass


def _holds(target: Path, link: Link, size: int) -> bool:
    """Whether a file is there and has the content of a value."""
    with suppress(FileNotFoundError, InvalidCidError):  # of a CID that is never made here
        if target.stat().st_size == size:
            data = memoryview(target.read_bytes())
            return unixfs.build_file(data, cids.hash_of(link.cid)).cid == link.cid
    return False


def _write_file(target: Path, data: memoryview) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}")
    try:
        temporary.write_bytes(data)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _run(
    keys: list[str],
    work: Callable[[str], int],
    workers: int,
    progress: Progress,
    on_progress: OnProgress | None,
) -> None:
    """Do the work for all keys, few at a time; stops at the first failure, or when interrupted.

    The caller waits on a queue that holds no lock in Python: an interrupt within
    `concurrent.futures.wait` can leave a lock behind that the workers then wait for, for ever.
    """
    report = on_progress or (lambda progress: None)
    report(progress)
    left = iter(keys)
    results: SimpleQueue[int | BaseException] = SimpleQueue()
    is_stopped = False

    def run() -> None:
        for key in left:
            if is_stopped:
                return
            try:
                results.put(work(key))
            except BaseException as error:  # noqa: BLE001 - the caller raises it
                results.put(error)
                return

    threads = [Thread(target=run, name=f"copy-{i}") for i in range(max(1, workers))]
    try:
        for thread in threads:
            thread.start()
        for _ in keys:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            progress.size_bytes += result
            progress.keys += 1
            report(progress)
    finally:
        is_stopped = True
        for thread in threads:
            if thread.ident is not None:
                thread.join()
