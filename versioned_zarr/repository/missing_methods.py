"""Missing chunks: the method of sessions and snapshots that finds what is not written yet."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import overload

from versioned_zarr.engine.hierarchy.missing_chunks import MissingChunks, find_missing
from versioned_zarr.errors import InvalidInputError, KeyNotFoundError
from versioned_zarr.tree.keys import check_text


class MissingMethods:
    """The method of `Session` and `Snapshot`; the class provides keys and values."""

    @abstractmethod
    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys in a folder and below it."""

    @abstractmethod
    def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview | None:
        """The bytes of a value; None for a missing key."""

    @overload
    def missing(self, path: str) -> MissingChunks: ...

    @overload
    def missing(self, path: None = None) -> dict[str, MissingChunks]: ...

    def missing(self, path: str | None = None) -> MissingChunks | dict[str, MissingChunks]:
        """The chunks of an array that have no value yet, to write only those.

        Iteration yields the region of each as slices of the array, in order; `len` is their number,
        and `keys` and `coordinates` are their keys and positions in the chunk grid. If the array is
        sharded, these are whole shards.

        zarr leaves out chunks that contain only the fill value (`write_empty_chunks=False`). They
        cannot be told from chunks that were never written, and count as missing.

        The keys are listed once, O(the keys in the array); no chunk is read.

        Args:
            path: the path of a Zarr array; "" for an array at the root. By default, all arrays.

        Returns:
            The missing chunks of the array; or by path, those of every array that lacks any.
            Arrays whose chunk grid is not regular are left out of these.

        Raises:
            KeyNotFoundError: there is nothing at this path.
            InvalidInputError: it is not an array, or its chunk grid is not regular.

        Example:
            >>> import versioned_zarr as vz, zarr
            >>> session = vz.create("memory://missing").session()
            >>> air = zarr.create_array(session, name="air", shape=(5,), chunks=(2,), dtype="i4")
            >>> air[2:4] = 1
            >>> list(session.missing("air"))
            [(slice(0, 2, None),), (slice(4, 5, None),)]
            >>> list(session.missing("air").keys), len(session.missing()["air"])
            (['air/c/0', 'air/c/2'], 2)
        """
        check_text(path or "")
        folder = (path or "").strip("/")
        found = self._chunks(folder)
        if path is None:
            return {array: chunks for array, chunks in found.items() if chunks}
        if folder in found:
            return found[folder]
        if next(iter(self.keys(folder)), None) is None:
            raise KeyNotFoundError(f"no array at {folder!r}: nothing is there", key=folder)
        inside = f"; arrays below it: {', '.join(map(repr, list(found)[:8]))}" if found else ""
        raise InvalidInputError(f"{folder!r} is no array with a regular chunk grid{inside}")

    def _chunks(self, folder: str = "") -> dict[str, MissingChunks]:
        """Every array in a folder with a regular chunk grid, also if no chunk is missing."""
        return find_missing(self.keys(folder), self._read_document)

    def _read_document(self, key: str) -> bytes | None:
        value = self.get(key)
        return None if value is None else bytes(value)
