"""Plain Zarr out, to a folder, and what `importing` has for the way in. Bytes are never decoded."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from versioned_zarr.blocks.values import ReadsValues, get_verified, read_value
from versioned_zarr.errors import (
    AlreadyExistsError,
    InvalidCidError,
    StorageError,
    VersionedZarrError,
)
from versioned_zarr.interfaces.copying import WORKERS, OnProgress, Progress, run_all
from versioned_zarr.interfaces.importing import LargeTransferWarning, import_zarr
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.repository.snapshot import Snapshot

__all__ = ["LargeTransferWarning", "OnProgress", "Progress", "import_zarr", "to_folder"]


def to_folder(
    snapshot: Snapshot,
    path: str | os.PathLike[str],
    *,
    workers: int = WORKERS,
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

    def read(cid: Cid) -> memoryview:
        if isinstance(blocks, ReadsValues):
            return blocks.read_value(cid)
        return read_value(partial(get_verified, blocks, where="the repository"), cid)

    def write(key: str) -> int:
        target = folder / key
        if not _holds(target, links[key], sizes[key]):
            _write_file(target, read(links[key].cid))
        return sizes[key]

    total = sum(sizes.values())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        run_all(list(links), write, workers, Progress(0, len(links), 0, total), on_progress)
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
