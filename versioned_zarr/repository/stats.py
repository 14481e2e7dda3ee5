"""How much a repository holds, and how much of it its branches and tags share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from versioned_zarr.blocks.catalogue import PACKS
from versioned_zarr.blocks.packed import PackedStore
from versioned_zarr.history import walk
from versioned_zarr.history.refs import HEADS, TAGS
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.repository.revisions import known_commits
from versioned_zarr.repository.stores import Stores


@dataclass(frozen=True)
class RefStats:
    """One branch's or tag's snapshot.

    Attributes:
        name: the branch or tag.
        values: how many keys its tree holds.
        size_bytes: the length of all its values.
        own_bytes: the length of the values that no other branch or tag holds.
    """

    name: str
    values: int
    size_bytes: int
    own_bytes: int


@dataclass(frozen=True)
class Stats:
    """A repository in numbers.

    Attributes:
        packs: how many packs there are; 0 where a server keeps the blocks.
        stored_bytes: their length.
        commits: how many commits the refs and their logs reach.
        values: how many different values the refs hold now.
        size_bytes: the length of those, each counted once.
        refs: each branch and tag.
    """

    packs: int
    stored_bytes: int
    commits: int
    values: int
    size_bytes: int
    refs: tuple[RefStats, ...]

    @property
    def shared_bytes(self) -> int:
        """How much longer the snapshots of all refs would be, each kept by itself."""
        return sum(ref.size_bytes for ref in self.refs) - self.size_bytes

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain JSON data."""
        return {**asdict(self), "shared_bytes": self.shared_bytes}

    def __str__(self) -> str:
        lines = [
            f"{self.packs} packs, {self.stored_bytes:,} bytes stored; {self.commits} commits",
            (
                f"{self.values} values, {self.size_bytes:,} bytes; "
                f"{self.shared_bytes:,} bytes saved by sharing"
            ),
        ]
        for ref in self.refs:
            lines.append(
                f"  {ref.name}: {ref.values} keys, {ref.size_bytes:,} bytes, "
                f"{ref.own_bytes:,} of them its own"
            )
        return "\n".join(lines)


def measure(stores: Stores) -> Stats:
    """See `Repository.stats`. O(keys of all refs)."""
    is_packed = isinstance(stores.blocks, PackedStore)
    listed = stores.storage.list(PACKS) if is_packed else []
    packs = [item for item in listed if item.path.endswith(".car")]
    names = [(kind, name) for kind in (HEADS, TAGS) for name in stores.refs.names(kind)]
    holders: dict[Cid, set[int]] = {}
    sizes: dict[Cid, int] = {}
    counted: list[tuple[str, int, int]] = []
    for number, (kind, name) in enumerate(names):
        entry = stores.refs.read(kind, name)
        if entry is None or entry.commit is None:
            continue
        tree = from_text(stores.commit(to_text(entry.commit)).tree)
        values = total = 0
        for _, link in stores.trees.walk(tree):
            size = sizes.get(link.cid)
            if size is None:
                size = sizes[link.cid] = stores.trees.size(link)
            holders.setdefault(link.cid, set()).add(number)
            values += 1
            total += size
        counted.append((name, values, total))
    own = [0] * len(names)
    for cid, numbers in holders.items():
        if len(numbers) == 1:
            own[next(iter(numbers))] += sizes[cid]
    return Stats(
        packs=len(packs),
        stored_bytes=sum(pack.size for pack in packs),
        commits=sum(1 for _ in walk.log(known_commits(stores), stores.commit)),
        values=len(sizes),
        size_bytes=sum(sizes.values()),
        refs=tuple(
            RefStats(name, values, total, own[number])
            for number, (name, values, total) in enumerate(counted)
        ),
    )
