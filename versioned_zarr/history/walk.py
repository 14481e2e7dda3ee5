"""Walking the history: logs, ancestors, and the best common ancestors of two commits."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator

from versioned_zarr.errors import BlockNotFoundError
from versioned_zarr.history.commit import Commit

Reader = Callable[[str], Commit]
"""Gives the commit of a CID in text."""


def log(starts: Iterable[str], read: Reader) -> Iterator[Commit]:
    """All commits reachable from the starts, the newest first, each once; lazily."""
    queue: list[tuple[float, int, Commit]] = []
    seen: set[str] = set()

    def enter(cid: str) -> None:
        if cid not in seen:
            seen.add(cid)
            commit = read(cid)
            heapq.heappush(queue, (-commit.time.timestamp(), len(seen), commit))

    for start in starts:
        enter(start)
    while queue:
        commit = heapq.heappop(queue)[2]
        yield commit
        for parent in commit.parents:
            enter(parent)


def log_of_path(
    start: str, read: Reader, subtree: Callable[[Commit], object | None]
) -> Iterator[Commit]:
    """The commits that changed one subtree, the newest first; lazily.

    A merge that took the subtree as one parent had it is not listed, and only that parent is
    followed: git's default simplification of history.

    Args:
        start: the commit to begin at.
        read: gives commits.
        subtree: gives what names the subtree's content in a commit (its CID), None if absent.
    """
    queue: list[tuple[float, int, Commit]] = []
    seen: set[str] = set()

    def enter(commit: Commit) -> None:
        if commit.cid not in seen:
            seen.add(commit.cid)
            heapq.heappush(queue, (-commit.time.timestamp(), len(seen), commit))

    enter(read(start))
    while queue:
        commit = heapq.heappop(queue)[2]
        content = subtree(commit)
        parents = [read(parent) for parent in commit.parents]
        same = next((parent for parent in parents if subtree(parent) == content), None)
        if same is not None:
            enter(same)
            continue
        if parents or content is not None:
            yield commit
        for parent in parents:
            enter(parent)


def first_parents(start: str, read: Reader) -> Iterator[Commit]:
    """A branch's own past: the commit, its first parent, and so on; lazily."""
    commit = read(start)
    yield commit
    while commit.parents:
        commit = read(commit.parents[0])
        yield commit


def is_ancestor(ancestor: str, of: str, read: Reader) -> bool:
    """Whether one commit is reachable from another, or is it."""
    return ancestor in merge_bases(ancestor, of, read)


def merge_bases(ours: str, theirs: str, read: Reader) -> list[str]:
    """The common ancestors of two commits that are not ancestors of other common ancestors.

    Looks at the commits that only one side has, and a little further; more than one result
    means that the branches were merged criss-cross. Sorted, the newest first.
    """
    if ours == theirs:
        return [ours]
    candidates = _common(ours, theirs, read)
    if len(candidates) < 2:
        return candidates
    # Clocks may lie, so the order by time may let through an ancestor of another candidate.
    independent = []
    for candidate in candidates:
        others = [other for other in candidates if other != candidate]
        if not any(candidate in _common(candidate, other, read) for other in others):
            independent.append(candidate)
    return independent


def beyond(starts: Iterable[str], known: Iterable[str], read: Reader) -> list[str]:
    """The commits reachable from the starts and not from the known ones, the newest first.

    Looks at those commits, and a little further. Where clocks lied, known ones may be among them.

    Args:
        starts: where to begin.
        known: where to stop; one that cannot be read is taken to have no past.
        read: gives commits.
    """
    colours: dict[str, int] = {}
    queue: list[tuple[float, str]] = []
    order: list[str] = []

    def paint(cid: str, colour: int) -> None:
        before = colours.get(cid, 0)
        if before | colour != before:
            colours[cid] = before | colour
            try:
                heapq.heappush(queue, (-read(cid).time.timestamp(), cid))
            except BlockNotFoundError:
                if colour & _OURS:
                    raise

    for cid in known:
        paint(cid, _THEIRS)
    for cid in starts:
        paint(cid, _OURS)
    while any(colours[cid] == _OURS for _, cid in queue):
        _, cid = heapq.heappop(queue)
        order.append(cid)
        for parent in read(cid).parents:
            paint(parent, colours[cid])
    return [cid for cid in dict.fromkeys(order) if colours[cid] == _OURS]


_OURS, _THEIRS, _STALE = 1, 2, 4


def _common(ours: str, theirs: str, read: Reader) -> list[str]:
    """Paint both pasts, newest first, until only what lies below common ancestors is left."""
    colours: dict[str, int] = {}
    queue: list[tuple[float, str]] = []
    found: list[str] = []

    def paint(cid: str, colour: int) -> None:
        if colours.get(cid, 0) | colour != colours.get(cid, 0):
            colours[cid] = colours.get(cid, 0) | colour
            heapq.heappush(queue, (-read(cid).time.timestamp(), cid))

    paint(ours, _OURS)
    paint(theirs, _THEIRS)
    while any(not colours[cid] & _STALE for _, cid in queue):
        _, cid = heapq.heappop(queue)
        colour = colours[cid]
        if colour & (_OURS | _THEIRS) == _OURS | _THEIRS:
            if not colour & _STALE and cid not in found:
                found.append(cid)
            colour |= _STALE
        for parent in read(cid).parents:
            paint(parent, colour)
    return [cid for cid in found if not colours[cid] & _STALE]
