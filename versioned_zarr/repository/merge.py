"""placeholder"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.ipld.dag_pb import Link
from versioned_zarr.tree.lookup import Trees
from versioned_zarr.tree.merge import merge_keys

Resolve = Any


@dataclass(frozen=True)
class Conflict:
    path: str
    kind: str
    base: Any
    ours: Any
    theirs: Any
    field: str | None = None


@dataclass
class Merged:
    changes: list[tuple[str, Link | bytes | None]]
    conflicts: list[Conflict]


def merge_trees(trees: Trees, *, base: Cid, ours: Cid, theirs: Cid, read: Callable[[Link], bytes], resolve: Resolve = None) -> Merged:
    m = merge_keys(trees, base, ours, theirs)
    t = lambda l: None if l is None else to_text(l.cid)
    return Merged(list(m.take), [Conflict(c.key, "changed by both", t(c.base), t(c.ours), t(c.theirs)) for c in m.conflicts])
