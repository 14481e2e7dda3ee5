"""Progress: reports how much of a long operation is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with what is done and what there is to do, both in bytes; first with nothing done."""


class Steps:
    """Counts what is done towards a total.

    Args:
        total_bytes: all there is to do.
        tell: called at the beginning and after each step; None for nobody.
    """

    def __init__(self, total_bytes: int, tell: OnProgress | None) -> None:
        self._total, self._done, self._tell = total_bytes, 0, tell
        self.add(0)

    def add(self, size_bytes: int) -> None:
        """So much more is done."""
        self._done += size_bytes
        if self._tell is not None:
            self._tell(self._done, self._total)
