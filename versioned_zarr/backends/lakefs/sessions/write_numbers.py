"""The write numbers of a session: which writes of each process this one knows of.

A process numbers its writes, and each object on the session's branch tells the write that put it
there. So who writes over another's value can be told whether it knew of that; no clock is asked.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from versioned_zarr.backends.lakefs.sessions.session_branch import SessionWrite


class WriteNumbers:
    """See the module. Not thread-safe: the session holds a lock.

    Attributes:
        writer: the number of this process.
    """

    def __init__(self) -> None:
        self.writer = secrets.randbits(32)
        self._last = 0
        self._seen: dict[int, int] = {}

    def after_fork(self) -> None:
        """In a forked child: be a process of its own, that knows what its parent knew."""
        self._seen[self.writer] = self._last
        self.writer, self._last = secrets.randbits(32), 0

    def next(self) -> SessionWrite:
        """The next write of this process."""
        self._last += 1
        return SessionWrite(self.writer, self._last)

    def saw(self, write: SessionWrite) -> None:
        """Told of a write that this process has looked at."""
        self._seen[write.writer] = max(write.number, self._seen.get(write.writer, 0))

    def known(self) -> Mapping[int, int]:
        """Up to which write of each process this one knows all."""
        return {**self._seen, self.writer: self._last}
