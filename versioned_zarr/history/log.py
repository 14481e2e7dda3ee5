"""A log: a sequence of commits, and the history as a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from operator import index
from typing import overload

from versioned_zarr import _hooks
from versioned_zarr.history.commit_object import Commit

Names = Mapping[str, Sequence[str]]
"""The branches and tags at commits, by the commits' CIDs."""


class Log(_hooks.HintsAtNames, _hooks.ShownAtPrompt, Iterator[Commit]):
    """An iterator over commits, newest first, lazy. Returned by `Repository.log`.

    As an iterator, it can be consumed only once. Indexing, slicing and `len` do not consume it:
    `log[0]`, `log[:5]`; they read the history as far as they need, once. Displaying it, with
    `print` or in a notebook, does not consume it either.

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
        self._read: list[Commit] = []
        self._position = 0

    def __next__(self) -> Commit:
        try:
            commit = self[self._position]
        except IndexError:
            raise StopIteration from None
        self._position += 1
        return commit

    def __bool__(self) -> bool:
        return bool(self._until(1))

    def __len__(self) -> int:
        return len(self._until(None))

    @overload
    def __getitem__(self, at: int) -> Commit: ...

    @overload
    def __getitem__(self, at: slice) -> list[Commit]: ...

    def __getitem__(self, at: int | slice) -> Commit | list[Commit]:
        if not isinstance(at, slice):
            return self._until(index(at) + 1 if index(at) >= 0 else None)[at]
        is_from_start = at.stop is not None and min(at.stop, at.start or 0) >= 0
        return self._until(at.stop if is_from_start else None)[at]

    def _until(self, count: int | None) -> list[Commit]:
        """The commits, of which at least `count` have been read if there are as many."""
        missing = None if count is None else max(0, count - len(self._read))
        self._read += islice(self._commits, missing)
        return self._read

    def _name(self) -> str:
        return f"<Log of {self.title}>" if self.title else "<Log>"


def standing_at(branches: Mapping[str, Commit], tags: Mapping[str, Commit]) -> dict[str, list[str]]:
    """The names of the branches and tags at each commit, by its CID."""
    names: dict[str, list[str]] = {}
    for name, commit in branches.items():
        names.setdefault(commit.cid, []).append(name)
    for name, commit in tags.items():
        names.setdefault(commit.cid, []).append(f"tag: {name}")
    return names
