"""Non-blocking reads: whether the current thread may wait for a network."""

from __future__ import annotations

import threading

from versioned_zarr.blocks.protocol import WouldBlockError


class NonBlocking:
    """See the module. Thread-safe."""

    def __init__(self) -> None:
        self._nearby = threading.local()

    def asked(self) -> NonBlocking:
        """While entered, as a context manager, `check` on this thread raises."""
        return self

    def __enter__(self) -> None:
        self._nearby.is_asked = True

    def __exit__(self, *_: object) -> None:
        self._nearby.is_asked = False

    @property
    def is_asked(self) -> bool:
        """Whether this thread asked not to wait."""
        return getattr(self._nearby, "is_asked", False)

    def check(self) -> None:
        """Raise WouldBlockError if this thread asked not to wait."""
        if self.is_asked:
            raise WouldBlockError
