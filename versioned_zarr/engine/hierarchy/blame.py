"""Blame: for each stored chunk of an array, the commit that last changed it.

One walk over the history, newest first. Where the CID of the array's folder is the same in a commit
and a parent, nothing is compared; otherwise only the chunks that differ. Moves are followed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from versioned_zarr import _hooks
from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNode, join, number_in_grid
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.terminal_text import counted, escaped_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MAX_CHUNKS: Final = 1 << 28


class Blame:
    """The commit that last changed each stored chunk (shard, if sharded) of an array.

    Attributes:
        path: the path of the array.
        grid_shape: the number of stored chunks along each dimension.
        commits: the commits that last changed some chunk, newest first.
        dimension_names: the names of the dimensions; `axis N` for those without one.
        table: the number of a commit in `commits` for each position in the chunk grid, dtype int32;
            -1 where there is no chunk.
    """

    def __init__(self, node: ZarrNode, commits: list[Commit], table: NDArray[np.int32]) -> None:
        self.path, self.commits, self.table = node.path, commits, table
        self.dimension_names = node.dimension_names
        self.grid_shape = table.shape

    def __getitem__(self, coordinates: tuple[int, ...] | int) -> Commit | None:
        """The commit that last changed the chunk at a position in the grid; None if it is missing.

        Raises:
            IndexError: the position is outside the grid.
        """
        number = int(self.table[coordinates])
        return self.commits[number] if number >= 0 else None

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], Commit]]:
        """Each chunk and its commit, in row-major order."""
        for coordinates in np.argwhere(self.table >= 0):
            at = tuple(map(int, coordinates))
            yield at, self.commits[int(self.table[at])]

    def __len__(self) -> int:
        return int(np.count_nonzero(self.table >= 0))

    @property
    def counts(self) -> list[tuple[Commit, int]]:
        """The number of chunks that each commit changed last, newest commit first."""
        counts = Counter(self.table[self.table >= 0].tolist())
        return [(commit, counts[number]) for number, commit in enumerate(self.commits)]

    def plot(self) -> Figure:
        """A map of the chunk grid with the commit that last changed each chunk.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        return _hooks.interfaces.plot_blame(self)

    def to_dict(self) -> dict[str, Any]:
        """The commits and the table as plain JSON data."""
        return {
            "path": self.path,
            "grid_shape": list(self.grid_shape),
            "commits": [{**commit.to_dict(), "chunks": count} for commit, count in self.counts],
            "table": self.table.tolist(),
        }

    def __str__(self) -> str:
        """One line for each commit, with the chunks that it changed last."""
        lines = [
            f"{commit.cid[:16]} {commit.time:%Y-%m-%d %H:%M} {commit.author}: "
            f"{counted(count, 'chunk')}{_where(self.table == number)}  {commit.summary}"
            for number, (commit, count) in enumerate(self.counts)
        ]
        return "\n".join(map(escaped_line, lines)) or f"no chunks in {self.path or '/'}"

    def __repr__(self) -> str:
        chunks, commits = counted(len(self), "chunk"), counted(len(self.commits), "commit")
        return f"<Blame of {self.path or '/'}: {chunks}, {commits}>"


def _where(mask: NDArray[np.bool_]) -> str:
    """The smallest box of the grid that contains the chunks."""
    places = np.argwhere(mask)
    if not mask.ndim or not len(places):
        return ""
    ends = zip(places.min(axis=0).tolist(), places.max(axis=0).tolist(), strict=True)
    return (
        " in ["
        + ", ".join(f"{low}" if low == high else f"{low}:{high + 1}" for low, high in ends)
        + "]"
    )


class ArrayHistory(Protocol):
    """An array in the versions of a repository."""

    def parents(self, commit: Commit) -> Sequence[Commit]:
        """The parents of a commit."""
        ...

    def content(self, commit: Commit, path: str) -> Cid | None:
        """The CID of the folder at a path in a commit; None if there is none."""
        ...

    def earlier_path(self, parent: Commit, commit: Commit, path: str) -> str | None:
        """The path in a parent of what is at a path in a commit; None if it is not there."""
        ...

    def changed(self, old: Cid, new: Cid) -> Iterable[str]:
        """The keys that differ between two folders, relative to them."""
        ...


@dataclass
class _Asked:
    """The chunks of which a commit and its ancestors are asked, by row-major number."""

    mask: NDArray[np.bool_]
    count: int

    def take(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Remove chunks; returns those that were there."""
        found = numbers[self.mask[numbers]]
        self.mask[found] = False
        self.count -= len(found)
        return found


def blame_of(
    node: ZarrNode, keys: Iterable[str], commits: Iterable[Commit], history: ArrayHistory
) -> Blame:
    """The blame of an array.

    Args:
        node: the array in the newest commit.
        keys: its keys there, relative to it.
        commits: that commit and its ancestors, each before its parents.
        history: the array in them.

    Raises:
        InvalidInputError: the chunk grid has more than 268 million positions.
    """
    grid = node.grid_shape or ()
    size = math.prod(grid)
    if size > _MAX_CHUNKS:
        raise InvalidInputError(
            f"{node.path!r} has a grid of {size:,} chunks; blame has a table of it, with at most "
            f"{_MAX_CHUNKS:,}"
        )
    numbers = _Numbers(node, grid)
    first = numbers.of(keys)
    mask = np.zeros(size, bool)
    mask[first] = True
    table = np.full(size, -1, np.int32)
    blamed: list[Commit] = []
    walk = _Walk(numbers, history)
    start = {node.path: _Asked(mask, len(first))}
    for commit in commits:
        here, start = start or walk.asked.pop(commit.cid, {}), {}
        own = [walk.ask_parents(asked, commit, path) for path, asked in here.items() if asked.count]
        if sum(map(len, own)):
            table[np.concatenate(own)] = len(blamed)
            blamed.append(commit)
        if not walk.asked:
            break
    return Blame(node, blamed, table.reshape(grid))


class _Walk:
    """A walk over the history, and what its commits are still asked.

    Args:
        numbers: the numbers of chunks.
        history: see `blame_of`.

    Attributes:
        asked: the chunks by commit, and by the path that the array has there.
    """

    def __init__(self, numbers: _Numbers, history: ArrayHistory) -> None:
        self._numbers, self._history = numbers, history
        self.asked: dict[str, dict[str, _Asked]] = {}

    def ask_parents(self, here: _Asked, commit: Commit, path: str) -> NDArray[np.int64]:
        """Ask the parents of a commit about the chunks that they have; returns the others."""
        history = self._history
        there = history.content(commit, path)
        assert there is not None
        left = []
        for parent in history.parents(commit):
            earlier = history.earlier_path(parent, commit, path)
            content = None if earlier is None else history.content(parent, earlier)
            if earlier is None or content is None:
                continue
            if content == there:
                self._ask(parent.cid, earlier, here)
                return np.zeros(0, np.int64)
            left.append((parent, earlier, content))
        while left:
            parent, earlier, content = left.pop(0)
            differing = here.take(self._numbers.of(history.changed(content, there)))
            self._ask(parent.cid, earlier, here)
            if not left:
                return differing
            mask = np.zeros(len(here.mask), bool)
            mask[differing] = True
            here = _Asked(mask, len(differing))
        return np.flatnonzero(here.mask)

    def _ask(self, cid: str, path: str, more: _Asked) -> None:
        if not more.count:
            return
        by_path = self.asked.setdefault(cid, {})
        found = by_path.get(path)
        if found is None:
            by_path[path] = more
        else:
            mask = found.mask | more.mask
            by_path[path] = _Asked(mask, int(np.count_nonzero(mask)))


class _Numbers:
    """The row-major numbers of chunks by their keys, which are relative to the array."""

    def __init__(self, node: ZarrNode, grid: tuple[int, ...]) -> None:
        self._node, self._grid = node, grid

    def of(self, keys: Iterable[str]) -> NDArray[np.int64]:
        """The numbers of the chunks among some keys; others are skipped."""
        found = [number for key in keys if (number := self._number(key)) is not None]
        return np.array(found, np.int64)

    def _number(self, key: str) -> int | None:
        coordinates = self._node.coordinates(join(self._node.path, key))
        if coordinates is None or len(coordinates) != len(self._grid):
            return None
        return number_in_grid(coordinates, self._grid)
