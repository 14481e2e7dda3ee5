"""Progress: reports how much of a long operation is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Progress:
    """The progress of a long operation.

    Attributes:
        unit: what is counted: "bytes", "keys" or "blocks".
        done: the number done.
        total: the total number, as far as known; it can grow. None if unknown.
        done_bytes: the number of bytes done.
        total_bytes: the total number of bytes; it can grow. None if unknown.
    """

    unit: str
    done: int
    total: int | None = None
    done_bytes: int = 0
    total_bytes: int | None = None


OnProgress: TypeAlias = Callable[[Progress], None]
"""The type of all `progress` arguments: a function that is called as an operation proceeds."""


def of_bytes(done: int, total: int) -> Progress:
    """The progress of an operation that counts bytes alone."""
    return Progress("bytes", done, total, done, total)


class Steps:
    """Counts the progress towards a total.

    Args:
        total_bytes: the total number of bytes.
        tell: called at the beginning and after each step; may be None.
    """

    def __init__(self, total_bytes: int, tell: OnProgress | None) -> None:
        self._total, self._done, self._tell = total_bytes, 0, tell
        self.add(0)

    def add(self, size_bytes: int) -> None:
        """Add to the number of bytes done."""
        self._done += size_bytes
        if self._tell is not None:
            self._tell(of_bytes(self._done, self._total))
