"""Node paths: where groups and arrays can be created."""

from __future__ import annotations

from versioned_zarr.engine.hierarchy.zarr_nodes import DOCUMENTS
from versioned_zarr.errors import InvalidKeyError
from versioned_zarr.tree.keys import check_key


def check_path(path: str) -> None:
    """Make sure that a node can be created at a path.

    Raises:
        InvalidKeyError: no key can lie below it, or a part of it is the name of a document.
    """
    check_key(path)
    name = next((each for each in path.split("/") if each in DOCUMENTS), None)
    if name is not None:
        raise InvalidKeyError(
            f"{path!r} cannot be a group or array: {name!r} is the name of a document of Zarr",
            key=path,
        )
