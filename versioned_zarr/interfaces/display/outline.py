"""The outline of a snapshot: its nodes, for display as text and HTML."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNode, join, node_at

if TYPE_CHECKING:
    from versioned_zarr.repository.snapshot import Snapshot

LIMIT = 40
"""The maximum number of displayed nodes."""
_LOOKED_AT = 1000
_DOCUMENT_BYTES = 64 << 20
_DIMENSIONS, _DIGITS = 32, 40


def nodes_of(snapshot: Snapshot) -> Iterator[ZarrNode]:
    """The nodes of a snapshot, each before those below it.

    Ignores the chunks of arrays, all but 1000 paths, and documents over 64 MiB.
    """

    def read(key: str) -> bytes | None:
        size = snapshot.size(key)
        return None if size is None or size > _DOCUMENT_BYTES else bytes(snapshot.read(key))

    waiting, looked_at = [""], 0
    while waiting and looked_at < _LOOKED_AT:
        path = waiting.pop()
        looked_at += 1
        node = node_at(path, read)
        if node is None:
            continue
        yield node
        if not node.is_array:
            waiting += [join(path, name) for name in reversed(snapshot.list_dir(path))]


def times(shape: object) -> str:
    """A shape or chunk shape as text of bounded length; empty if it is not a list."""
    if not isinstance(shape, list):
        return ""
    shown = [text if len(text := str(size)) <= _DIGITS else "…" for size in shape[:_DIMENSIONS]]
    more = ["…"] if len(shape) > _DIMENSIONS else []
    return " \N{MULTIPLICATION SIGN} ".join(shown + more)


def named_shape(node: ZarrNode) -> str:
    """The shape of an array with the names of its dimensions, as text of bounded length."""
    shape = node.fields.get("shape")
    names = node.dimension_names
    if not isinstance(shape, list) or all(name.startswith("axis ") for name in names):
        return times(shape)
    shown = [
        f"{name[:_DIGITS]} {text if len(text := str(size)) <= _DIGITS else '…'}"
        for name, size in zip(names[:_DIMENSIONS], shape, strict=False)
    ]
    more = ["…"] if len(shape) > _DIMENSIONS else []
    return ", ".join(shown + more)
