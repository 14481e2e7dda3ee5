"""Array import: writes arrays, part by part, into one session, and commits it.

A part is one chunk of an array of the repository. Which parts there are and how they are read is
the business of each format.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import zarr
from zarr.storage import MemoryStore

from versioned_zarr.engine.hierarchy.zarr_nodes import V3, Region, join
from versioned_zarr.engine.progress import Progress
from versioned_zarr.errors import NothingToCommitError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.files.import_session import session_for, warn_if_large
from versioned_zarr.interfaces.files.parallel_copy import run_all
from versioned_zarr.interfaces.imports.import_request import ImportRequest
from versioned_zarr.repository.session import Session

_SMALL_BYTES: Final = 64 << 10
_GOOD_BYTES: Final = 1 << 20
_LARGE_BYTES: Final = 16 << 20


class ArrayPart(NamedTuple):
    """A chunk to write.

    Attributes:
        array: the path of its array below the path of the import.
        region: its place in the array.
        size_bytes: its size in memory.
        read: returns its values.
    """

    array: str
    region: Region
    size_bytes: int
    read: Callable[[], np.ndarray[Any, Any]]


class ArraySource(NamedTuple):
    """Arrays to import.

    Attributes:
        name: the source in messages.
        full_name: its unique name.
        state: a text that changes with the content of the source; empty if unknown.
        documents: the documents of the groups and arrays by their keys, below the import's path.
        parts: the chunks by their keys, likewise.
    """

    name: str
    full_name: str
    state: str
    documents: Mapping[str, bytes]
    parts: Mapping[str, ArrayPart]


def import_arrays(request: ImportRequest, source: ArraySource) -> Commit:
    """Write arrays into a session of the branch, or resume an earlier attempt, and commit it.

    Chunks that an earlier attempt wrote are not read again if the source is known to be the same.
    """
    total = sum(part.size_bytes for part in source.parts.values())
    warn_if_large(total, f"{len(source.parts)} chunks", source.name)
    purpose = f"import {source.full_name} into /{request.path} as of "
    session = session_for(
        request.repository,
        purpose,
        source.state,
        request.into,
        request.path,
        overwrite=request.overwrite,
    )
    with session:
        is_same = source.state and session._working.head.purpose == purpose + source.state
        held = _written(session, request.path, source) if is_same else set()
        if not held:
            session.clear(request.path)
        for key, data in source.documents.items():
            session.write(join(request.path, key), data)
        _write_parts(session, request, source.parts, held, total)
        try:
            return session.commit(request.message or f"Import {source.name}")
        except NothingToCommitError:
            session.discard()
            raise


def _written(session: Session, path: str, source: ArraySource) -> set[str]:
    """The parts that an earlier attempt wrote; none if its arrays had other documents."""
    changed = {key for key, found in session._working.changed() if found is not None}
    for key, data in source.documents.items():
        where = join(path, key)
        if where in changed and bytes(session.read(where)) != data:
            return set()
    return {key for key in source.parts if join(path, key) in changed}


def _write_parts(
    session: Session,
    request: ImportRequest,
    parts: Mapping[str, ArrayPart],
    held: set[str],
    total: int,
) -> None:
    arrays: dict[str, zarr.Array[Any]] = {}
    for part in parts.values():
        if part.array not in arrays:
            path = join(request.path, part.array).strip("/")
            found = zarr.open_array(session.store, path=path, mode="r+")
            arrays[part.array] = found

    def write(key: str) -> int:
        part = parts[key]
        arrays[part.array][part.region] = part.read()
        return part.size_bytes

    waiting = [key for key in parts if key not in held]
    done = sum(parts[key].size_bytes for key in held)
    start = Progress("keys", len(held), len(parts), done, total)
    run_all(waiting, write, request.workers, start, request.progress)


def documents_of(store: Mapping[str, Any]) -> dict[str, bytes]:
    """The documents of format 3 in the dict of a `MemoryStore`."""
    return {key: data.to_bytes() for key, data in store.items() if key.split("/")[-1] == V3}


def new_documents() -> tuple[MemoryStore, dict[str, Any]]:
    """A store in memory for the documents of new nodes, and its dict."""
    held: dict[str, Any] = {}
    return MemoryStore(held), held


def chunk_key(array: str, numbers: Iterable[int]) -> str:
    """The key of a chunk with the default encoding of keys of Zarr v3."""
    return join(array, "/".join(["c", *map(str, numbers)]))


def grid_of(shape: Iterable[int], chunk: Iterable[int]) -> tuple[int, ...]:
    """The number of chunks along each dimension."""
    return tuple(-(-size // step) for size, step in zip(shape, chunk, strict=True))


def chunk_shape(
    shape: tuple[int, ...], item_bytes: int, own: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The shape of the chunks of a new array.

    Chunks that the source has are kept; small ones are combined along the first dimensions, up to
    1 MiB. Without them, the first dimensions are divided until a chunk has at most 16 MiB.

    >>> chunk_shape((1000, 180, 360), 4, (1, 180, 360))
    (1, 180, 360)
    >>> chunk_shape((365000,), 8, (1,))
    (131072,)
    >>> chunk_shape((1000, 180, 360), 4, None)
    (64, 180, 360)
    """
    if own is not None:
        return _combined(shape, item_bytes, own)
    chunk = [max(1, size) for size in shape]
    for axis in range(len(chunk)):
        size = item_bytes * int(np.prod(chunk, dtype=object))
        if size <= _LARGE_BYTES:
            break
        chunk[axis] = max(1, chunk[axis] * _LARGE_BYTES // size)
    return tuple(chunk)


def _combined(shape: tuple[int, ...], item_bytes: int, own: tuple[int, ...]) -> tuple[int, ...]:
    chunk = [max(1, min(step, size)) for step, size in zip(own, shape, strict=True)]
    if item_bytes * int(np.prod(chunk, dtype=object)) >= _SMALL_BYTES:
        return tuple(chunk)
    for axis in range(len(chunk)):
        times = _GOOD_BYTES // (item_bytes * int(np.prod(chunk, dtype=object)))
        most = -(-max(1, shape[axis]) // chunk[axis])
        chunk[axis] = max(1, min(chunk[axis] * max(1, min(times, most)), shape[axis]))
    return tuple(chunk)


def state_of_file(path: str) -> str:
    """A text that changes when a local file does."""
    it = os.stat(path)
    text = f"{it.st_size} {it.st_mtime_ns} {it.st_ctime_ns} {it.st_ino}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
