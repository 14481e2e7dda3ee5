"""Non-blocking reads: whether the current thread may wait for a network."""

from __future__ import annotations

import threading

from versioned_zarr.blocks.protocol import WouldBlockError


class NonBlocking:
    """See the module. Thread-safe."""

    def __init__(self) -> None:
        self._nearby = threading.local()

    def asked(self) -> NonBlocking:
        """A context in which `check` raises on this thread."""
        return self

    def __enter__(self) -> None:
        self._nearby.is_asked = True

    def __exit__(self, *_: object) -> None:
        self._nearby.is_asked = False

    @property
    def is_asked(self) -> bool:
        """Whether this thread is in such a context."""
        return getattr(self._nearby, "is_asked", False)

    def check(self) -> None:
        """Raise WouldBlockError if this thread must not wait."""
        if self.is_asked:
            raise WouldBlockError
