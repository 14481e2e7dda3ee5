"""The damage trace: which keys and commits need blocks that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.ipld import cid as cids
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.tree.lookup import BlockSource


@dataclass
class DamageTrace:
    """The keys and the commits (CIDs as text) that are affected by one unreadable block."""

    keys: set[str] = field(default_factory=set)
    commits: set[str] = field(default_factory=set)


def trace(
    source: BlockSource, commits: Iterable[Cid], reached: set[bytes]
) -> dict[Cid, DamageTrace]:
    """The unreadable blocks below some commits and their ancestors, with the effects of each.

    O(all blocks), each read once; nodes above an unreadable block once per commit.

    Args:
        source: returns intact blocks, and raises BlockNotFoundError for all others.
        commits: where to begin.
        reached: receives the digests of all blocks that are reached.
    """
    tracer = _Tracer(source, reached)
    stack, seen = list(commits), set()
    while stack:
        commit = stack.pop()
        if commit not in seen:
            seen.add(commit)
            stack += tracer.commit(commit)
    return tracer.found


class _Tracer:
    def __init__(self, source: BlockSource, reached: set[bytes]) -> None:
        self._source = source
        self._reached = reached
        self._clean: set[Cid] = set()
        self.found: dict[Cid, DamageTrace] = {}

    def commit(self, commit: Cid) -> list[Cid]:
        """Trace one commit; returns its parents."""
        node = self._node(commit, "", commit)
        if node is None:
            return []
        parents: list[Cid] = []
        for link in node.links:
            if link.name == "parents":
                folder = self._node(link.cid, "", commit)
                linked = [] if folder is None else folder.links
                parents = [parent.cid for parent in linked if not cids.is_foreign(parent.cid)]
            else:
                self._trace(link.cid, "", commit)
        return parents

    def _node(self, cid: Cid, path: str, commit: Cid) -> unixfs.UnixFsNode | None:
        self._reached.add(cid[-32:])
        try:
            return unixfs.decode(self._source.get(cid))
        except (BlockNotFoundError, CorruptBlockError):
            self._blame(cid, f"{path}/*".lstrip("/"), commit)
            return None

    def _blame(self, cid: Cid, key: str, commit: Cid) -> None:
        impact = self.found.setdefault(cid, DamageTrace())
        impact.keys.add(key)
        impact.commits.add(to_text(commit))

    def _trace(self, cid: Cid, path: str, commit: Cid) -> bool:
        """Trace the subtree at a path; returns whether all of it can be read."""
        if cid in self._clean:
            return True
        self._reached.add(cid[-32:])
        if cids.is_raw(cid):
            return self._trace_leaf(cid, path, commit)
        node = self._node(cid, path, commit)
        if node is None:
            return False
        clean = True
        for link in node.links:
            clean &= self._trace(link.cid, _below(path, node.kind, link.name), commit)
        if clean:
            self._clean.add(cid)
        return clean

    def _trace_leaf(self, cid: Cid, path: str, commit: Cid) -> bool:
        try:
            self._source.get(cid)
        except (BlockNotFoundError, CorruptBlockError):
            self._blame(cid, path or "commit.json", commit)
            return False
        self._clean.add(cid)
        return True


def _below(path: str, kind: unixfs.UnixFsType, name: str) -> str:
    """The path of a child of a node; leaves and shards have the path of their node."""
    if kind is unixfs.UnixFsType.HAMT:
        name = name[2:]
    elif kind is not unixfs.UnixFsType.DIRECTORY:
        name = ""
    return f"{path}/{name}".strip("/") if name else path
