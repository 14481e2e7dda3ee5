"""Totals of a tree: the number of values and bytes, computed from its directories.

A tree of forty directories can hold 2^40 keys if each links to the next one twice. So count first
before iterating over all keys of an untrusted tree.
"""

from __future__ import annotations

from typing import NamedTuple

from versioned_zarr.errors import CorruptBlockError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.tree.keys import MAX_PARTS
from versioned_zarr.tree.lookup import Trees


class Totals(NamedTuple):
    """The totals of a tree.

    Attributes:
        keys: the number of keys.
        folders: the number of directories below it, counted wherever they are linked.
        size_bytes: the total size of the values, as in the links to them.
        levels: the number of parts of the longest key.
    """

    keys: int
    folders: int
    size_bytes: int
    levels: int


def totals(trees: Trees, root: Cid) -> Totals:
    """Compute the totals of a tree. O(distinct directories) in time, reads and memory.

    Raises:
        CorruptBlockError: it is nested deeper than any key.
    """
    return _Count(trees).of(root, 1)


class _Count:
    """The totals computed so far, by directory."""

    def __init__(self, trees: Trees) -> None:
        self._trees = trees
        self._known: dict[Cid, Totals] = {}

    def of(self, cid: Cid, level: int) -> Totals:
        found = self._known.get(cid)
        if found is None:
            _check_level(cid, level)
            found = self._known[cid] = self._counted(cid, level)
        _check_level(cid, level + found.levels - 1)
        return found

    def _counted(self, cid: Cid, level: int) -> Totals:
        keys = folders = size_bytes = levels = 0
        for link in self._trees.directory(cid):
            if self._trees.is_directory(link):
                below = self.of(link.cid, level + 1)
                keys += below.keys
                folders += 1 + below.folders
                size_bytes += below.size_bytes
                levels = max(levels, below.levels + 1)
            else:
                keys += 1
                size_bytes += self._trees.size(link)
                levels = max(levels, 1)
        return Totals(keys, folders, size_bytes, levels)


def _check_level(cid: Cid, level: int) -> None:
    if level > MAX_PARTS:
        text = cids.to_text(cid)
        raise CorruptBlockError(
            f"directory {text} is more than {MAX_PARTS} deep in its tree", cid=text
        )
