"""The walk of a history: logs, ancestors, and the merge bases of two commits.

Results do not depend on clocks. A walk needs to know whether a commit can descend from another that
it has not visited yet. The `depth` of a commit tells, because it exceeds the depths of all its
parents. A commit without a depth can descend from any commit, so walks visit all of those first.
Times order only unrelated commits.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from versioned_zarr.errors import BlockNotFoundError
from versioned_zarr.history.commit_object import Commit

Reader = Callable[[str], Commit]
"""Returns the commit of a CID in text."""

_OURS, _THEIRS, _STALE = 1, 2, 4
_UNKNOWN = -math.inf
"""The rank of a commit of unknown depth: before all others."""


def log(starts: Iterable[str], read: Reader) -> Iterator[Commit]:
    """All commits reachable from the starts, each once; lazy.

    Children come before their parents; otherwise the newest come first.
    """
    return _Ordered(starts, read, lambda commit: commit.parents).run()


def log_of_path(
    start: str,
    read: Reader,
    path: str,
    subtree: Callable[[Commit, str], object | None],
    moved_from: Callable[[Commit, Commit, str], str | None],
) -> Iterator[Commit]:
    """The commits that changed one subtree, ordered as in `log`, each once; lazy.

    If a merge has the same subtree as one of its parents, it is not listed, and only that parent is
    followed: git's default history simplification. Where the subtree was moved, the path that it
    had before is followed instead.

    Args:
        start: the commit to begin at.
        read: returns a commit by its CID.
        path: the path of the subtree there.
        subtree: returns the CID of a path in a commit, None if absent.
        moved_from: returns the path that a path of a commit had in a parent, where it is absent;
            None if it is new.
    """
    paths: dict[str, dict[str, None]] = {start: {path: None}}
    unchanged: set[str] = set()

    def parents(commit: Commit) -> Sequence[str]:
        followed: dict[str, None] = {}
        is_changed = False
        for at in paths.pop(commit.cid):
            content = subtree(commit, at)
            parents = [*map(read, commit.parents)]
            same = next((parent for parent in parents if subtree(parent, at) == content), None)
            is_changed |= same is None and bool(parents or content is not None)
            for parent in parents if same is None else [same]:
                is_new = content is not None and subtree(parent, at) is None
                before = moved_from(parent, commit, at) if is_new else None
                paths.setdefault(parent.cid, {})[at if before is None else before] = None
                followed[parent.cid] = None
        if not is_changed:
            unchanged.add(commit.cid)
        return [*followed]

    for commit in _Ordered([start], read, parents).run():
        if commit.cid not in unchanged:
            yield commit


class _Ordered:
    """Commits in topological order, and by time if they are unrelated.

    A commit is yielded after all its children. Its children are known once all commits that may
    descend from it are read: those of greater depth. So no others are read.

    Args:
        starts: where to begin.
        read: returns a commit by its CID.
        parents: returns the parents of a commit to follow.
    """

    def __init__(
        self, starts: Iterable[str], read: Reader, parents: Callable[[Commit], Sequence[str]]
    ) -> None:
        self._read, self._parents_of = read, parents
        self._parents: dict[str, Sequence[str]] = {}
        self._children: dict[str, int] = {}
        self._unseen: list[tuple[float, str]] = []
        self._ready: list[tuple[float, int, str]] = []
        self._starts = list(dict.fromkeys(starts))
        self._numbers = itertools.count()

    def run(self) -> Iterator[Commit]:
        for start in self._starts:
            self._children.setdefault(start, 0)
            heapq.heappush(self._unseen, (_rank(self._read(start)), start))
        self._offer(self._starts)
        while self._ready:
            cid = heapq.heappop(self._ready)[2]
            yield self._read(cid)
            parents = self._parents.pop(cid)
            for parent in parents:
                self._children[parent] -= 1
            self._offer(parents)

    def _offer(self, cids: Sequence[str]) -> None:
        """Queue those that have no children left."""
        for cid in cids:
            commit = self._read(cid)
            self._look_beyond(_rank(commit))
            if not self._children[cid] and cid in self._parents:
                self._children[cid] = -1  # already yielded
                order = -commit.time.timestamp(), next(self._numbers), cid
                heapq.heappush(self._ready, order)

    def _look_beyond(self, rank: float) -> None:
        """Count the children of all commits of this rank or of greater depth."""
        while self._unseen and self._unseen[0][0] <= rank:
            cid = heapq.heappop(self._unseen)[1]
            parents = tuple(dict.fromkeys(self._parents_of(self._read(cid))))
            self._parents[cid] = parents
            for parent in parents:
                if parent not in self._children:
                    self._children[parent] = 0
                    heapq.heappush(self._unseen, (_rank(self._read(parent)), parent))
                self._children[parent] += 1


def _rank(commit: Commit) -> float:
    """The rank, smallest first: commits of unknown depth, then by decreasing depth."""
    return -commit.depth if commit.depth else _UNKNOWN


def first_parents(start: str, read: Reader) -> Iterator[Commit]:
    """The commit, its first parent, and so on; lazy."""
    commit = read(start)
    yield commit
    while commit.parents:
        commit = read(commit.parents[0])
        yield commit


def is_ancestor(ancestor: str, of: str, read: Reader) -> bool:
    """Whether one commit is reachable from another, or is the same."""
    painted = _Painted(read, lambda colours: colours == _OURS)
    painted.add(of, _THEIRS)
    painted.add(ancestor, _OURS)
    return ancestor not in painted.only_ours()


def merge_bases(ours: str, theirs: str, read: Reader) -> list[str]:
    """The common ancestors of two commits that are not ancestors of other common ancestors.

    Reads the commits that only one side has, and a few more; there are several results after a
    criss-cross merge. Sorted, newest first.
    """
    if ours == theirs:
        return [ours]
    painted = _Painted(read, lambda colours: not colours & _STALE)
    painted.add(ours, _OURS)
    painted.add(theirs, _THEIRS)
    return sorted(painted.common(), key=lambda cid: (-read(cid).time.timestamp(), cid))


def beyond(starts: Iterable[str], known: Iterable[str], read: Reader) -> list[str]:
    """The commits reachable from the starts and not from the known ones, ordered as in `log`.

    Reads those commits, and a few more.

    Args:
        starts: where to begin.
        known: where to stop; if one cannot be read, its ancestors are unknown.
        read: returns a commit by its CID.
    """
    painted = _Painted(read, lambda colours: colours == _OURS)
    wanted = list(dict.fromkeys(starts))
    for cid in known:
        painted.add(cid, _THEIRS)
    for cid in wanted:
        painted.add(cid, _OURS)
    own = painted.only_ours()

    def parents(commit: Commit) -> Sequence[str]:
        return [cid for cid in commit.parents if cid in own]

    ordered = _Ordered([cid for cid in wanted if cid in own], read, parents)
    return [commit.cid for commit in ordered.run()]


class _Painted:
    """Commits with the sides that reach them, painted from the starts down.

    Commits that may descend from others come first, so that the colors of a commit are known when
    its turn comes. A commit without a depth is painted again if another one turns out to reach it.

    Args:
        read: returns a commit by its CID.
        matters: whether a commit with such colors has to be read.
    """

    def __init__(self, read: Reader, matters: Callable[[int], bool]) -> None:
        self._read, self._matters = read, matters
        self._colours: dict[str, int] = {}
        self._queue: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}
        self._open: set[str] = set()
        """The queued commits for which the walk continues."""

    def add(self, cid: str, colours: int) -> None:
        before = self._colours.get(cid, 0)
        if before | colours == before:
            return
        self._colours[cid] = before | colours
        rank = self._queued.get(cid)
        if rank is None:
            try:
                rank = self._queued[cid] = _rank(self._read(cid))
            except BlockNotFoundError:
                if colours & _OURS:
                    raise
                return
            heapq.heappush(self._queue, (rank, cid))
        if rank == _UNKNOWN or self._matters(self._colours[cid]):
            self._open.add(cid)
        else:
            self._open.discard(cid)

    def _each(self) -> Iterator[tuple[Commit, int]]:
        """The commits in order with their colors, as long as one matters."""
        while self._open:
            cid = heapq.heappop(self._queue)[1]
            del self._queued[cid]
            self._open.discard(cid)
            yield self._read(cid), self._colours[cid]

    def only_ours(self) -> set[str]:
        """The commits that only our side reaches."""
        for commit, colours in self._each():
            for parent in commit.parents:
                self.add(parent, colours)
        return {cid for cid, colours in self._colours.items() if colours == _OURS}

    def common(self) -> list[str]:
        """The common ancestors that no other common ancestor reaches."""
        both = _OURS | _THEIRS
        for commit, colours in self._each():
            below = colours | _STALE if colours & both == both else colours
            for parent in commit.parents:
                self.add(parent, below)
        return [cid for cid, colours in self._colours.items() if colours == both]
