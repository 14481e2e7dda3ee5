"""A log: a sequence of commits, and the history as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from versioned_zarr import _hooks
from versioned_zarr.history.commit_object import Commit

Names = Mapping[str, Sequence[str]]
"""The branches and tags at commits, by the commits' CIDs."""


class Log(_hooks.Shown, Iterator[Commit]):
    """An iterator over commits, newest first, lazy. Returned by `Repository.log`.

    As an iterator, it can be consumed only once. Displaying it, with `print` or in a notebook,
    walks the history again and does not consume it.

    Args:
        walk: starts a walk.
        title: the title to display.
        names: returns the branches and tags; called only when the log is displayed.
        is_linear: whether commits were omitted (the log of a path), so that no lines between
            parents and children can be drawn.
    """

    def __init__(
        self,
        walk: Callable[[], Iterator[Commit]],
        *,
        title: str = "",
        names: Callable[[], Names] = dict,
        is_linear: bool = False,
    ) -> None:
        self.title = title
        self.is_linear = is_linear
        self.walk = walk
        self.names = names
        self._commits = walk()

    def __next__(self) -> Commit:
        return next(self._commits)

    def __repr__(self) -> str:
        return f"<Log of {self.title}>" if self.title else "<Log>"


def standing_at(branches: Mapping[str, Commit], tags: Mapping[str, Commit]) -> dict[str, list[str]]:
    """The names of the branches and tags at each commit, by its CID."""
    names: dict[str, list[str]] = {}
    for name, commit in branches.items():
        names.setdefault(commit.cid, []).append(name)
    for name, commit in tags.items():
        names.setdefault(commit.cid, []).append(f"tag: {name}")
    return names
