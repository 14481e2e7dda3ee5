"""The range reader: reads of packs that are near each other become few requests.

A read fetches a window of up to 8 MiB. The bytes that were fetched and not read never exceed twice
those that were read, so windows grow while they are used.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from versioned_zarr.fork_local import ForkSafeLock
from versioned_zarr.storage.object_store import ObjectStore

_LONGEST_BYTES: Final = 8 << 20
_KEPT_BYTES: Final = 128 << 20


@dataclass(eq=False)
class _Window:
    """A range of a pack that is fetched by one request."""

    path: str
    start: int
    end: int
    done: threading.Event = field(default_factory=threading.Event)
    data: memoryview | None = None
    error: BaseException | None = None


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
        with self._guard:
            window = self._covering(path, start, end)
            is_mine = window is None
            if window is None:
                window = self._begin(path, start, end)
            self._read_bytes += end - start
        if is_mine:
            self._fetch(window)
        else:
            window.done.wait()
        if window.error is not None and not is_mine:
            return self._storage.read(path, start, end)  # it may have been interrupted
        if window.error is not None:
            raise window.error
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
            if window.path == path and window.start <= start and end <= window.end:
                return window
        return None

    def _begin(self, path: str, start: int, end: int) -> _Window:
        """A new window, longer than what is read if earlier ones were used."""
        unread = self._fetched_bytes - self._read_bytes
        ahead = min(_LONGEST_BYTES, max(0, 2 * self._read_bytes - unread))
        window = _Window(path, start, max(end, start + ahead))
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
        except BaseException as error:
            window.error = error
            with self._guard:
                self._drop(window)
            raise
        finally:
            window.done.set()
