"""Zarr export: writes a snapshot to a folder without decoding chunks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from versioned_zarr._hooks import shows_progress
from versioned_zarr.blocks.file_reader import FileReader, check_room, get_verified, read_pieces
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.errors import (
    InvalidCidError,
    InvalidInputError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.interfaces.files.export_target import CRATE, check_files, crate_of
from versioned_zarr.interfaces.files.parallel_copy import WORKERS, run_all
from versioned_zarr.interfaces.files.target_folder import TargetFolder, check_free
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.citation import Citation
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.tree.totals import Totals, totals

MAX_KEYS = 10_000_000
"""The default maximum number of keys and folders of an export."""


@dataclass(frozen=True)
class Exported:
    """What an export did to a folder.

    Attributes:
        written: the number of files written.
        unchanged: the number of files that were there with the same content.
        deleted: the number of files deleted.
        written_bytes: the size of the files written.
    """

    written: int
    unchanged: int
    deleted: int
    written_bytes: int

    def __str__(self) -> str:
        return f"{self.written} written, {self.unchanged} unchanged, {self.deleted} deleted"


@shows_progress("exporting")
def to_folder(
    snapshot: Snapshot,
    path: str | os.PathLike[str],
    *,
    update: bool = False,
    crate: bool | Citation = False,
    workers: int = WORKERS,
    progress: OnProgress | None = None,
    max_keys: int = MAX_KEYS,
    max_bytes: int | None = None,
) -> Exported:
    """Write all values of a snapshot as the files of a plain Zarr folder.

    Every block is verified against its CID. Each file is written atomically. If it is called again
    after an interruption, it writes only files that are missing or different. It never writes
    through a symbolic link in the folder.

    A tree from another source can have more keys than fit on any disk, in a few blocks. So keys are
    counted first, which reads each directory once.

    Args:
        snapshot: the snapshot.
        path: the folder; created if it does not exist.
        update: the folder may hold other Zarr data, such as an earlier export. Afterwards it holds
            the snapshot: what the snapshot does not have is deleted. A folder with files that are
            no part of a Zarr hierarchy is refused.
        crate: also write `ro-crate-metadata.json`, which describes the data; see
            `Citation.ro_crate`. Give a citation to describe it otherwise. The folder then has
            another CID than the snapshot.
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
    check_bytes(snapshot, counted, max_bytes)
    if max_bytes is None and not os.path.exists(folder):
        check_free(folder, counted.size_bytes)
    try:
        with TargetFolder(folder) as target:
            links = dict(snapshot._links())
            sizes = {key: snapshot._size_of(link) for key, link in links.items()}
            there = dict(target.files())
            gone = check_files(folder, there, sizes, update=update, crate=bool(crate))
            if max_bytes is None:
                there_bytes = sum(min(size, sizes.get(key, size)) for key, size in there.items())
                check_free(folder, counted.size_bytes - there_bytes)
            for file in gone:
                target.remove(file)
            written = _write_all(snapshot, target, links, sizes, workers, progress)
            if crate:
                target.write(CRATE, [memoryview(crate_of(snapshot, crate))])
    except VersionedZarrError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {folder!r}: {error}", where=folder) from error
    written_bytes = sum(sizes[key] for key in written)
    return Exported(len(written), len(links) - len(written), len(gone), written_bytes)


def check_bytes(snapshot: Snapshot, counted: Totals, max_bytes: int | None) -> None:
    """Check the total size of the values of a snapshot.

    Raises:
        InvalidInputError: it is more than `max_bytes`.
    """
    if max_bytes is not None and counted.size_bytes > max_bytes:
        raise InvalidInputError(
            f"the values of tree {snapshot.cid} are {_number(counted.size_bytes)} bytes long, more "
            f"than {max_bytes:,}; to write them anyway, pass "
            f"max_bytes={_number(counted.size_bytes, '')}"
        )


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


def _write_all(
    snapshot: Snapshot,
    target: TargetFolder,
    links: Mapping[str, Link],
    sizes: Mapping[str, int],
    workers: int,
    progress: OnProgress | None,
) -> list[str]:
    """Write the values that are missing or different; returns their keys."""
    written: list[str] = []

    def write(key: str) -> int:
        if not _holds(target, key, links[key], sizes[key]):
            target.write(key, verified_pieces(snapshot, links[key].cid, sizes[key]))
            written.append(key)
        return sizes[key]

    start = Progress("keys", 0, len(links), 0, sum(sizes.values()))
    run_all(list(links), write, workers, start, progress)
    return written


def verified_pieces(snapshot: Snapshot, cid: Cid, size_bytes: int) -> Iterable[memoryview]:
    """The bytes of a value, each block verified against its CID."""
    blocks = snapshot.repository._stores.blocks
    if isinstance(blocks, FileReader):
        check_room(size_bytes)
        return (blocks.read_value(cid),)
    return read_pieces(partial(get_verified, blocks, where="the repository"), cid)


def _holds(target: TargetFolder, key: str, link: Link, size_bytes: int) -> bool:
    """Whether a file exists with the content of a value."""
    data = target.read(key, size_bytes)
    with suppress(InvalidCidError):  # a CID that this package never creates
        return data is not None and (
            unixfs.build_file(data, cids.hash_of(link.cid)).cid == link.cid
        )
    return False
