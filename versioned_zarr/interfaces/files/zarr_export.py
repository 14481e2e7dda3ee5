"""Zarr export: writes a snapshot to a folder without decoding chunks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import partial

from versioned_zarr._hooks import shows_progress
from versioned_zarr.blocks.file_reader import FileReader, check_room, get_verified, read_pieces
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidCidError,
    InvalidInputError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.interfaces.files.parallel_copy import WORKERS, run_all
from versioned_zarr.interfaces.files.target_folder import TargetFolder, check_free
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.tree.totals import Totals, totals

MAX_KEYS = 10_000_000
"""The default maximum number of keys and folders of an export."""


@shows_progress("exporting")
def to_folder(
    snapshot: Snapshot,
    path: str | os.PathLike[str],
    *,
    workers: int = WORKERS,
    progress: OnProgress | None = None,
    max_keys: int = MAX_KEYS,
    max_bytes: int | None = None,
) -> None:
    """Write all values of a snapshot as the files of a plain Zarr folder.

    Every block is verified against its CID. Each file is written atomically. If it is called again
    after an interruption, it writes only files that are missing or different. It never writes
    through a symbolic link in the folder.

    A tree from another source can have more keys than fit on any disk, in a few blocks. So keys are
    counted first, which reads each directory once.

    Args:
        snapshot: the snapshot.
        path: the folder; created if it does not exist.
        workers: the number of values written in parallel.
        progress: called as values are written, from the calling thread.
        max_keys: the maximum number of keys and folders.
        max_bytes: the maximum total size of the values; by default the free disk space.

    Raises:
        AlreadyExistsError: the folder contains other files, or a symbolic link.
        InvalidInputError: the export would exceed `max_keys` or `max_bytes`.
        CorruptBlockError: a block is damaged.
        StorageFullError: there is not enough space for the values.
        StorageError: a file cannot be written.
    """
    folder = os.fspath(path)
    counted = check_count(snapshot, max_keys)
    if max_bytes is not None and counted.size_bytes > max_bytes:
        raise InvalidInputError(
            f"the values of tree {snapshot.cid} are {_number(counted.size_bytes)} bytes long, more "
            f"than {max_bytes:,}; to write them anyway, pass "
            f"max_bytes={_number(counted.size_bytes, '')}"
        )
    if max_bytes is None and not os.path.exists(folder):
        check_free(folder, counted.size_bytes)
    try:
        with TargetFolder(folder) as target:
            links = dict(snapshot._links())
            sizes = {key: snapshot._size_of(link) for key, link in links.items()}
            there_bytes = _size_of_what_is_there(target, sizes)
            if max_bytes is None:
                check_free(folder, counted.size_bytes - there_bytes)
            _write_all(snapshot, target, links, sizes, workers, progress)
    except VersionedZarrError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {folder!r}: {error}", where=folder) from error


def check_count(snapshot: Snapshot, max_keys: int) -> Totals:
    """Count the content of a snapshot; O(distinct directories), however many keys there are.

    Raises:
        InvalidInputError: there are more than `max_keys` keys and folders.
    """
    counted = totals(snapshot.repository._stores.trees, snapshot._tree)
    found = counted.keys + counted.folders
    if found > max_keys:
        raise InvalidInputError(
            f"tree {snapshot.cid} has {_number(found)} keys and folders, more than "
            f"{max_keys:,}; to process them anyway, pass max_keys={_number(found, '')}"
        )
    return counted


def _number(count: int, separator: str = ",") -> str:
    """A number in full, or its order of magnitude if it is long."""
    if count < 10**30:
        return f"{count:{separator}}"
    return f"1e{len(str(count)) if count < 10**4000 else 4000}"


def _size_of_what_is_there(target: TargetFolder, sizes: Mapping[str, int]) -> int:
    """The total size of existing files with the right size, which need no more space.

    Raises:
        AlreadyExistsError: there is a file that is not among the keys.
    """
    there_bytes = 0
    for file, size in target.files():
        if file not in sizes:
            raise AlreadyExistsError(
                f"{target.path!r} contains {file!r}, which the snapshot does not; "
                "export to an empty folder",
                name=target.path,
            )
        there_bytes += min(size, sizes[file])
    return there_bytes


def _write_all(
    snapshot: Snapshot,
    target: TargetFolder,
    links: Mapping[str, Link],
    sizes: Mapping[str, int],
    workers: int,
    progress: OnProgress | None,
) -> None:
    blocks = snapshot.repository._stores.blocks

    def read(cid: Cid, size_bytes: int) -> Iterable[memoryview]:
        if isinstance(blocks, FileReader):
            check_room(size_bytes)
            return (blocks.read_value(cid),)
        return read_pieces(partial(get_verified, blocks, where="the repository"), cid)

    def write(key: str) -> int:
        if not _holds(target, key, links[key], sizes[key]):
            target.write(key, read(links[key].cid, sizes[key]))
        return sizes[key]

    start = Progress("keys", 0, len(links), 0, sum(sizes.values()))
    run_all(list(links), write, workers, start, progress)


def _holds(target: TargetFolder, key: str, link: Link, size_bytes: int) -> bool:
    """Whether a file exists with the content of a value."""
    data = target.read(key, size_bytes)
    with suppress(InvalidCidError):  # a CID that this package never creates
        return data is not None and (
            unixfs.build_file(data, cids.hash_of(link.cid)).cid == link.cid
        )
    return False
