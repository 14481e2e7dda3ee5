"""Stats: the size of a repository, and how much its branches and tags share."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from versioned_zarr.blocks.protocol import CountedPacks
from versioned_zarr.engine.context import RepositoryContext
from versioned_zarr.engine.revisions import reached_commits
from versioned_zarr.errors import VersionedZarrError
from versioned_zarr.history.refs import HEADS, TAGS
from versioned_zarr.ipld.cid import Cid, from_text, to_text
from versioned_zarr.terminal_text import counted


@dataclass(frozen=True)
class RefStats:
    """The snapshot of one branch or tag.

    Attributes:
        name: the branch or tag.
        values: the number of keys in its tree.
        size_bytes: the total size of its values.
        own_bytes: the total size of the values that no other branch or tag has.
    """

    name: str
    values: int
    size_bytes: int
    own_bytes: int


@dataclass(frozen=True)
class Stats:
    """Statistics of a repository.

    Attributes:
        packs: the number of packs; 0 if a server stores the blocks.
        stored_bytes: the total size of the packs in bytes.
        commits: the number of commits that the refs and their logs reach.
        values: the number of distinct values in the current commits of all refs.
        size_bytes: the total size of those values in bytes, each counted once.
        refs: each branch and tag.
        problems: refs that could not be read and are not counted.
    """

    packs: int
    stored_bytes: int
    commits: int
    values: int
    size_bytes: int
    refs: tuple[RefStats, ...]
    problems: tuple[str, ...] = ()

    @property
    def shared_bytes(self) -> int:
        """The number of bytes saved compared with storing the snapshot of each ref separately."""
        return sum(ref.size_bytes for ref in self.refs) - self.size_bytes

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain JSON data."""
        return {**asdict(self), "shared_bytes": self.shared_bytes}

    def __str__(self) -> str:
        lines = [
            (
                f"{counted(self.packs, 'pack')}, {counted(self.stored_bytes, 'byte')} stored; "
                f"{counted(self.commits, 'commit')}"
            ),
            (
                f"{counted(self.values, 'value')}, {counted(self.size_bytes, 'byte')}; "
                f"{counted(self.shared_bytes, 'byte')} saved by sharing"
            ),
        ]
        for ref in self.refs:
            lines.append(
                f"  {ref.name}: {counted(ref.values, 'key')}, {counted(ref.size_bytes, 'byte')}, "
                f"{ref.own_bytes:,} of them unshared"
            )
        return "\n".join([*lines, *(f"  not counted: {problem}" for problem in self.problems)])


def measure(stores: RepositoryContext) -> Stats:
    """See `Repository.stats`. O(keys of all refs)."""
    packs = stores.blocks.packs() if isinstance(stores.blocks, CountedPacks) else {}
    names = [(kind, name) for kind in (HEADS, TAGS) for name in stores.refs.names(kind)]
    holders: dict[Cid, set[int]] = {}
    sizes: dict[Cid, int] = {}
    counted: list[tuple[str, int, int]] = []
    problems = [str(it) for kind in (HEADS, TAGS) for it in stores.refs.broken(kind).values()]
    for kind, name in names:
        try:
            found = _values_of(stores, kind, name, sizes)
        except VersionedZarrError as error:
            problems.append(f"{name}: {error}")
            continue
        if found is not None:
            for cid in found:
                holders.setdefault(cid, set()).add(len(counted))
            total = sum(sizes[cid] * count for cid, count in found.items())
            counted.append((name, sum(found.values()), total))
    own = [0] * len(counted)
    for cid, numbers in holders.items():
        if len(numbers) == 1:
            own[next(iter(numbers))] += sizes[cid]
    return Stats(
        packs=len(packs),
        stored_bytes=sum(packs.values()),
        commits=sum(1 for _ in reached_commits(stores)),
        values=len(holders),
        size_bytes=sum(sizes[cid] for cid in holders),
        refs=tuple(
            RefStats(name, values, total, own[number])
            for number, (name, values, total) in enumerate(counted)
        ),
        problems=tuple(problems),
    )


def _values_of(
    stores: RepositoryContext, kind: str, name: str, sizes: dict[Cid, int]
) -> Counter[Cid] | None:
    """The count of each value in the tree of a ref, or None if it is gone; records value sizes."""
    entry = stores.refs.read(kind, name)
    if entry is None or entry.commit is None:
        return None
    found: Counter[Cid] = Counter()
    for _, link in stores.trees.walk(from_text(stores.commit(to_text(entry.commit)).tree)):
        if link.cid not in sizes:
            sizes[link.cid] = stores.trees.size(link)
        found[link.cid] += 1
    return found
