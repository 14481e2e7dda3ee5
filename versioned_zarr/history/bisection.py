"""Bisection: finds the first bad commit among those between a good and a bad one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from versioned_zarr.history.commit_object import Commit


def first_bad(commits: Iterable[Commit], bad: str, is_good: Callable[[Commit], bool]) -> Commit:
    """The commit that is bad and of which all parents are good; about log2(n) tests.

    Args:
        commits: the commits that the bad one reaches and the good one does not, each before its
            parents.
        bad: the CID of the bad one, which is not tested.
        is_good: tests a commit.
    """
    left = {commit.cid: commit for commit in commits}
    while len(left) > 1:
        ordered = [cid for cid in left if cid != bad]
        middle = ordered[len(ordered) // 2]
        reached = _reached(middle, left)
        if is_good(left[middle]):
            left = {cid: commit for cid, commit in left.items() if cid not in reached}
        else:
            left = {cid: commit for cid, commit in left.items() if cid in reached}
            bad = middle
    return left[bad]


def _reached(start: str, among: dict[str, Commit]) -> set[str]:
    """The commits among some that one of them reaches, itself included."""
    found = {start}
    waiting = [start]
    while waiting:
        for parent in among[waiting.pop()].parents:
            if parent in among and parent not in found:
                found.add(parent)
                waiting.append(parent)
    return found
