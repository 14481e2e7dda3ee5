"""The range reader: reads of packs that are near each other become few requests.

A read fetches a window of up to 8 MiB. The bytes that were fetched and not read never exceed twice
those that were read, so windows grow while they are used. A small block is fetched with the 4 KiB
before it, where the rest of a commit is.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

from versioned_zarr.blocks.remote.singleflight import Flight, FlightOwner
from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.storage.object_store import ObjectStore

_LONGEST_BYTES: Final = 8 << 20
_KEPT_BYTES: Final = 128 << 20
_BEFORE_BYTES: Final = 4 << 10


class _Window(Flight):
    """A range of a pack that is fetched by one request.

    Args:
        owner: of the call that fetches it.
        path: the pack.
        start: the first byte.
        end: the byte after the last.
    """

    data: memoryview | None = None

    def __init__(self, owner: FlightOwner, path: str, start: int, end: int) -> None:
        super().__init__(owner)
        self.path, self.start, self.end = path, start, end
        self._process = os.getpid()

    def is_there(self) -> bool:
        """Whether it was fetched, or may still be; not by a parent that forked this process."""
        return self.data is not None or (not self.is_left and self._process == os.getpid())


class RangeReader:
    """See the module. Thread-safe.

    Args:
        storage: the objects.
    """

    def __init__(self, storage: ObjectStore) -> None:
        self._storage = storage
        self._guard = ForkSafeLock()
        self._windows: OrderedDict[tuple[str, int], _Window] = OrderedDict()
        self._kept_bytes = 0
        self._read_bytes = self._fetched_bytes = 0

    def read(self, path: str, start: int, end: int) -> memoryview:
        """The bytes of an object between two offsets; fewer if it ends before.

        Raises:
            FileNotFoundError: the object does not exist.
            StorageError: the store failed.
        """
        if end <= start:
            return memoryview(b"")
        owner = FlightOwner()
        with self._guard:
            window = self._covering(path, start, end)
            is_mine = window is None
            if window is None:
                before = min(start, _BEFORE_BYTES) if end - start <= _BEFORE_BYTES else 0
                window = self._begin(owner, path, start - before, end)
            self._read_bytes += end - start
        if is_mine:
            self._fetch(window)
        elif not window.wait() or window.data is None:  # it failed, or was interrupted
            return self._storage.read(path, start, end)
        assert window.data is not None
        return window.data[start - window.start : end - window.start]

    def peek(self, path: str, start: int, end: int) -> memoryview | None:
        """The bytes of an object between two offsets if they were fetched; does not block."""
        with self._guard:
            window = self._covering(path, start, end)
            if window is None or window.data is None:
                return None
            self._read_bytes += end - start
        return window.data[start - window.start : end - window.start]

    def _covering(self, path: str, start: int, end: int) -> _Window | None:
        for window in reversed(self._windows.values()):
            covers = window.path == path and window.start <= start and end <= window.end
            if covers and window.is_there():
                return window
        return None

    def _begin(self, owner: FlightOwner, path: str, start: int, end: int) -> _Window:
        """A new window, longer than what is read if earlier ones were used."""
        unread = self._fetched_bytes - self._read_bytes
        ahead = min(_LONGEST_BYTES, max(0, 2 * self._read_bytes - unread))
        window = _Window(owner, path, start, max(end, start + ahead))
        self._drop(self._windows.get((path, start)))
        self._windows[path, start] = window
        self._fetched_bytes += window.end - start
        self._kept_bytes += window.end - start
        while self._kept_bytes > _KEPT_BYTES and len(self._windows) > 1:
            self._drop(next(iter(self._windows.values())))
        return window

    def _drop(self, window: _Window | None) -> None:
        if window is not None and self._windows.get((window.path, window.start)) is window:
            del self._windows[window.path, window.start]
            self._kept_bytes -= window.end - window.start

    def _fetch(self, window: _Window) -> None:
        try:
            window.data = self._storage.read(window.path, window.start, window.end)
        finally:
            window.is_left = True
            if window.data is None:
                with self._guard:
                    self._drop(window)
            window.land()
