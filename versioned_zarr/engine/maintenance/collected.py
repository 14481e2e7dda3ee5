"""What gc and repack remove, and who removes it if the engine does not."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.terminal_text import counted


@dataclass(frozen=True)
class Collected:
    """The result of `gc` or `repack`, or of a dry run.

    Attributes:
        removed_blocks: the number of removed blocks.
        removed_bytes: the number of bytes by which the packs shrank.
        removed_packs: the number of removed packs.
        written_packs: the number of new packs that replace them.
        removed_sessions: the number of removed sessions of dead processes without uncommitted
            writes.
        problems: refs and sessions that could not be read. What they reach is unknown, so all
            commits were kept.
    """

    removed_blocks: int = 0
    removed_bytes: int = 0
    removed_packs: int = 0
    written_packs: int = 0
    removed_sessions: int = 0
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What was removed, or would be: blocks, bytes and packs; and why all commits were kept."""
        parts = [counted(self.removed_blocks, "block"), counted(self.removed_bytes, "byte")]
        if self.removed_packs:
            parts.append(f"{counted(self.removed_packs, 'pack')} replaced by {self.written_packs}")
        kept = (f"all commits were kept, because {problem}" for problem in self.problems)
        return "\n".join([", ".join(parts), *kept])

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain JSON data."""
        return {**self.__dict__, "problems": list(self.problems)}


class WholeValue(NamedTuple):
    """A value that should be contiguous.

    Attributes:
        leaves: its leaves, in order.
        sizes: their sizes in bytes.
        pack: the pack in which they are contiguous; None if they are not.
    """

    leaves: tuple[Cid, ...]
    sizes: tuple[int, ...]
    pack: str | None


class Marks(Protocol):
    """Marks what must be kept; see `Collector`."""

    cutoff: datetime | None
    """What is younger, by the clock of the store, may be spared; None to spare nothing."""

    def mark(self, *, everything: bool) -> tuple[Collection[bytes], tuple[str, ...]]:
        """The digests of the blocks that must be kept, and the problems, such as a damaged ref.

        If there are problems, more must be kept than was found.

        Args:
            everything: whether old entries of reflogs count too, unless they were forgotten.
        """
        ...

    def forget(self) -> None:
        """Drop the old entries of reflogs."""
        ...


class Collector(Protocol):
    """Collects blocks concurrently with writers on other machines, without locks."""

    def collect(
        self, marks: Marks, *, dry_run: bool, progress: OnProgress | None = None
    ) -> Collected:
        """Remove what is not marked."""
        ...

    def repack(self, whole: Sequence[WholeValue], progress: OnProgress | None = None) -> Collected:
        """Combine small packs, and make values contiguous if they are not."""
        ...
