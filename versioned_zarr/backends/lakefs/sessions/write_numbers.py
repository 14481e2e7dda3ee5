"""The write numbers of a session: the writes of each process that this one has seen.

A process numbers its writes, and each object on the session's branch has the number of its write.
This shows whether a process that overwrites a value had seen it, without a clock.
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
        """In a forked child: become another process, which has seen what its parent had seen."""
        self._seen[self.writer] = self._last
        self.writer, self._last = secrets.randbits(32), 0

    def next(self) -> SessionWrite:
        """The next write of this process."""
        self._last += 1
        return SessionWrite(self.writer, self._last)

    def saw(self, write: SessionWrite) -> None:
        """Record a write that this process has seen."""
        self._seen[write.writer] = max(write.number, self._seen.get(write.writer, 0))

    def known(self) -> Mapping[int, int]:
        """The last write of each process up to which this one has seen all."""
        return {**self._seen, self.writer: self._last}
