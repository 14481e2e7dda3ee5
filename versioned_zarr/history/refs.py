"""Refs: branches and tags that change by compare-and-swap, each with a log of its updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

from versioned_zarr.blocks.protocol import StagedBlocksCollectedError
from versioned_zarr.errors import (
    AlreadyExistsError,
    BranchMovedError,
    CorruptRefError,
    OutcomeUnknownError,
    RefNotFoundError,
    VersionedZarrError,
)
from versioned_zarr.ipld.cid import Cid, to_text
from versioned_zarr.terminal_text import escaped_line, local_time

T = TypeVar("T")
_ATTEMPTS: Final = 12
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
HEADS, TAGS, REMOTES = "heads", "tags", "remotes"
KINDS = (HEADS, TAGS, REMOTES)
TAKEN_BACK = "taken back"
"""The beginning of the reason of a move that undoes the preceding one, which failed."""


@dataclass(frozen=True, repr=False)
class RefEntry:
    """One move of a ref, an entry of its reflog.

    Attributes:
        number: the number of earlier moves; below 0 for a move that the backend knows of although
            it was made before the log began.
        commit: the CID of the new commit, as bytes; None if the ref was deleted.
        time: the time of the move, UTC.
        why: what moved it, such as `commit: message`.
    """

    number: int
    commit: Cid | None
    time: datetime
    why: str

    @property
    def cid(self) -> str | None:
        """The CID of the new commit, as text; None if the ref was deleted."""
        return None if self.commit is None else to_text(self.commit)

    def __str__(self) -> str:
        """The move as `vz reflog` prints it, without the name of the branch."""
        return escaped_line(f"{self.cid or 'deleted'}  {local_time(self.time)}  {self.why}")

    def __repr__(self) -> str:
        return f"<RefEntry {self.number}: {self}>"


class RefStore(Protocol):
    """The store of branches (`heads`), tags, and remote branches (`remotes`)."""

    def read(self, kind: str, name: str) -> RefEntry | None:
        """The current entry of a ref; None if it does not exist."""
        ...

    def names(self, kind: str, *, deleted: bool = False) -> list[str]:
        """The names of the refs of a kind that can be read, sorted.

        Args:
            kind: the kind of the refs.
            deleted: include refs that were deleted or cannot be read.
        """
        ...

    def swap(self, kind: str, name: str, expect: Cid | None, new: Cid | None, why: str) -> RefEntry:
        """Move a ref by compare-and-swap; None means that it does not exist.

        Durable when it returns. Of several concurrent calls, one wins.

        Raises:
            BranchMovedError: it is not at the expected commit; nothing was changed.
            OutcomeUnknownError: it may have been moved, but not durably.
        """
        ...

    def rename(self, kind: str, old: str, new: str, why: str) -> None:
        """Rename a ref atomically, whatever its current commit.

        Raises:
            RefNotFoundError: there is no ref with the old name.
            AlreadyExistsError: there is a ref with the new name.
        """
        ...

    def remove(self, kind: str, name: str, why: str) -> None:
        """Delete a ref, whatever its current commit, even if it cannot be read."""
        ...

    def settle(self, kind: str, name: str) -> None:
        """Return once the position of a ref would survive a power loss."""
        ...

    def broken(self, kind: str) -> dict[str, CorruptRefError]:
        """The refs that cannot be read, which `names` omits, with their errors."""
        ...

    def history(self, kind: str, name: str, *, readable: bool = False) -> Iterator[RefEntry]:
        """The moves of a ref, newest first, including deleted refs.

        Args:
            kind: the kind of the ref.
            name: the ref.
            readable: omit damaged moves instead of raising.

        Raises:
            CorruptRefError: a move is damaged.
        """
        ...

    def forget(self, kind: str, name: str, before: datetime) -> None:
        """Drop moves that were followed by another move before this time."""
        ...

    def lock(self, kind: str, name: str) -> AbstractContextManager[bool]:
        """Prevent others from moving a ref, if the backend can; `swap` is safe without it."""
        ...


def went_to(history: Iterable[RefEntry], commit: Cid) -> bool:
    """Whether a ref moved to a commit, and that move was not undone.

    Args:
        history: the moves of the ref, newest first.
        commit: the commit.
    """
    is_taken_back = False
    for entry in history:
        if entry.commit == commit and not is_taken_back:
            return True
        is_taken_back = entry.why.startswith(TAKEN_BACK)
    return False


def times_left(entries: Iterable[RefEntry]) -> Iterator[tuple[RefEntry, datetime | None]]:
    """Each move, newest first, with the time of the move that followed it; None for the last.

    The time of a move is never before that of an earlier move, whatever the clock said.
    """
    moves = list(entries)
    latest = datetime.min.replace(tzinfo=UTC)
    times = []
    for entry in reversed(moves):
        latest = max(latest, entry.time)
        times.append(latest)
    times.reverse()
    return zip(moves, [None, *times], strict=False)


def again_if_collected(act: Callable[[], T], *, stores: bool) -> T:
    """Move refs; again if a gc took blocks that they were to reach, or is about to.

    Args:
        act: moves them.
        stores: whether it stores blocks before, so that blocks which are gone are then there.

    Raises:
        StagedBlocksCollectedError: they were taken each time, or are gone.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return act()
        except StagedBlocksCollectedError as error:
            if not (stores or error.is_condemned):
                raise
            pause_if_condemned(error, attempt)
    return act()


def pause_if_condemned(error: StagedBlocksCollectedError, attempt: int) -> None:
    """Give a gc time to spare the blocks that it has condemned, if they are there."""
    if error.is_condemned and attempt >= 0:
        time.sleep(min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt))


def create_or_explain(refs: RefStore, kind: str, name: str, commit: Cid, why: str) -> RefEntry:
    """Create a ref that must not exist.

    Raises:
        AlreadyExistsError: it exists.
    """
    try:
        return refs.swap(kind, name, None, commit, why)
    except BranchMovedError as error:
        what = "branch" if kind == HEADS else "tag"
        said = f": {error.__cause__}" if isinstance(error.__cause__, AlreadyExistsError) else ""
        raise AlreadyExistsError(f"{what} {name!r} already exists{said}", name=name) from error


def rename_by_moves(refs: RefStore, kind: str, old: str, new: str, why: str) -> None:
    """Rename a ref by two moves; follows concurrent moves of the old name.

    Raises:
        RefNotFoundError: there is no ref with the old name.
        AlreadyExistsError: there is a ref with the new name.
    """
    at = _commit_of(refs, kind, old)
    create_or_explain(refs, kind, new, at, why)
    try:
        while True:
            try:
                refs.swap(kind, old, at, None, why)
                return
            except BranchMovedError:
                now = _commit_of(refs, kind, old)
                refs.swap(kind, new, at, now, why)
                at = now
    except OutcomeUnknownError:
        raise  # the old name may be gone: then the new one is the only one
    except BaseException:
        with suppress(VersionedZarrError):
            if _commit_of(refs, kind, old) == at:
                refs.swap(kind, new, at, None, f"{why}, which failed")
        raise


def _commit_of(refs: RefStore, kind: str, name: str) -> Cid:
    entry = refs.read(kind, name)
    if entry is None or entry.commit is None:
        raise RefNotFoundError(f"{name!r} not found", ref=name)
    return entry.commit
