"""Whether who reads a block is willing to wait for a network, thread by thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from versioned_zarr.blocks.store import NotNearError


class Nearness:
    """See the module. Thread-safe."""

    def __init__(self) -> None:
        self._nearby = threading.local()

    @contextmanager
    def asked(self) -> Iterator[None]:
        """While held, `check` on this thread raises."""
        self._nearby.is_asked = True
        try:
            yield
        finally:
            self._nearby.is_asked = False

    @property
    def is_asked(self) -> bool:
        """Whether this thread asked not to wait."""
        return getattr(self._nearby, "is_asked", False)

    def check(self) -> None:
        """Raise NotNearError if this thread asked not to wait."""
        if self.is_asked:
            raise NotNearError
