"""placeholder"""

from __future__ import annotations

from typing import Any


class Diff:
    def __init__(self, changes: Any, **kw: Any) -> None:
        self.keys = list(changes)

    @property
    def is_empty(self) -> bool:
        return not self.keys
