"""Export target: what an export may replace and delete in a folder, and what it adds to it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from versioned_zarr.engine.hierarchy.zarr_nodes import DOCUMENTS, NODE_DOCUMENTS
from versioned_zarr.engine.marker import MARKER
from versioned_zarr.errors import AlreadyExistsError
from versioned_zarr.repository.citation import Citation
from versioned_zarr.repository.snapshot import Snapshot

CRATE: Final = "ro-crate-metadata.json"
_ZARR_FILE: Final = re.compile(
    rf"(?:.*/)?(?:{'|'.join(map(re.escape, DOCUMENTS))}|c|(?:c[/.])?\d+(?:[/.]\d+)*)"
)
"""A document, or a chunk with any of the usual encodings of keys."""


def check_files(
    folder: str, there: Mapping[str, int], keys: Mapping[str, int], *, update: bool, crate: bool
) -> list[str]:
    """The files in a folder that an export has to delete.

    Args:
        folder: the folder.
        there: its files and their sizes.
        keys: the keys of the export and their sizes.
        update: whether other Zarr data may be there.
        crate: whether a description of the data will be written.

    Raises:
        AlreadyExistsError: there are files that the export may not delete.
    """
    others = [file for file in there if file not in keys and not (crate and file == CRATE)]
    if others and not update:
        raise AlreadyExistsError(
            f"{folder!r} contains {others[0]!r}, which the snapshot does not; "
            "export to an empty folder, or pass update=True to delete what the snapshot does not "
            "have",
            name=folder,
        )
    if others and (MARKER in there or not any(name in there for name in NODE_DOCUMENTS)):
        kind = "a repository" if MARKER in there else "no Zarr hierarchy"
        raise AlreadyExistsError(
            f"{folder!r} is {kind}; an export updates only a Zarr hierarchy", name=folder
        )
    for file in others:
        if file != CRATE and not _ZARR_FILE.fullmatch(file):
            raise AlreadyExistsError(
                f"{folder!r} contains {file!r}, which is no part of a Zarr hierarchy; move it "
                "elsewhere, or export to another folder",
                name=folder,
            )
    return others


def crate_of(snapshot: Snapshot, crate: bool | Citation) -> bytes:
    """The description of an export, as the bytes of an RO-Crate metadata file."""
    citation = crate if isinstance(crate, Citation) else snapshot.cite()
    return json.dumps(citation.ro_crate, indent=2, ensure_ascii=False).encode() + b"\n"
