"""Zip export: writes a snapshot to a zip file that Zarr implementations read as a store."""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from versioned_zarr._hooks import shows_progress
from versioned_zarr.engine.hierarchy.zarr_nodes import DOCUMENTS, split
from versioned_zarr.engine.progress import OnProgress, Progress
from versioned_zarr.errors import StorageError, VersionedZarrError
from versioned_zarr.interfaces.files.export_target import CRATE, crate_of
from versioned_zarr.interfaces.files.target_folder import check_free
from versioned_zarr.interfaces.files.zarr_export import (
    MAX_KEYS,
    check_bytes,
    check_count,
    verified_pieces,
)
from versioned_zarr.repository.citation import Citation
from versioned_zarr.repository.snapshot import Snapshot

_EARLIEST = (1980, 1, 1, 0, 0, 0)
_ENTRY_BYTES = 200


@shows_progress("exporting")
def to_zip(
    snapshot: Snapshot,
    path: str | os.PathLike[str],
    *,
    crate: bool | Citation = False,
    progress: OnProgress | None = None,
    max_keys: int = MAX_KEYS,
    max_bytes: int | None = None,
) -> None:
    """Write all values of a snapshot to a zip file, without compression.

    The same snapshot always gives the same bytes. The documents come first, that of the root at the
    very beginning, so that a reader of the file over a network finds the structure at once. The
    file appears under its name when it is complete; if it exists, it is replaced.

    Args:
        snapshot: the snapshot.
        path: the file, such as `climate.zarr.zip`.
        crate: as for `to_folder`.
        progress: called as values are written.
        max_keys: as for `to_folder`.
        max_bytes: as for `to_folder`.

    Raises:
        InvalidInputError: the export would exceed `max_keys` or `max_bytes`.
        CorruptBlockError: a block is damaged.
        StorageFullError: there is not enough space for the values.
        StorageError: the file cannot be written.
    """
    target = os.fspath(path)
    counted = check_count(snapshot, max_keys)
    check_bytes(snapshot, counted, max_bytes)
    if max_bytes is None:
        check_free(target, counted.size_bytes + _ENTRY_BYTES * counted.keys)
    temporary = f"{target}.{secrets.token_hex(8)}.part"
    try:
        try:
            with open(temporary, "xb") as opened, zipfile.ZipFile(opened, "w") as file:
                _write_values(snapshot, file, crate, progress)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.remove(temporary)
            raise
    except VersionedZarrError:
        raise
    except OSError as error:
        raise StorageError(f"cannot write {target!r}: {error}", where=target) from error


def _write_values(
    snapshot: Snapshot,
    file: zipfile.ZipFile,
    crate: bool | Citation,
    progress: OnProgress | None,
) -> None:
    report = progress or (lambda progress: None)
    links = dict(snapshot._links())
    sizes = {key: snapshot._size_of(link) for key, link in links.items()}
    done = Progress("keys", 0, len(links), 0, sum(sizes.values()))
    report(done)
    if crate:
        links.pop(CRATE, None)
    for key in sorted(links, key=_place):
        _write(file, key, sizes[key], verified_pieces(snapshot, links[key].cid, sizes[key]))
        done = replace(done, done=done.done + 1, done_bytes=done.done_bytes + sizes[key])
        report(done)
    if crate:
        data = crate_of(snapshot, crate)
        _write(file, CRATE, len(data), [memoryview(data)])


def _place(key: str) -> tuple[bool, int, str]:
    """Documents first, those of higher nodes before those of lower ones."""
    is_document = split(key)[1] in DOCUMENTS
    return not is_document, key.count("/") if is_document else 0, key


def _write(file: zipfile.ZipFile, key: str, size_bytes: int, pieces: Iterable[memoryview]) -> None:
    entry = zipfile.ZipInfo(key, _EARLIEST)
    entry.create_system = 3  # Unix, wherever it is written
    entry.external_attr = 0o100644 << 16
    entry.file_size = size_bytes
    with file.open(entry, "w") as opened:
        for piece in pieces:
            opened.write(piece)
