"""Snapshots and sessions as mappings from keys to bytes, for zarr v2 and everything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping

import numpy as np

from versioned_zarr.errors import KeyNotFoundError
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot


class SnapshotMapping(Mapping[str, bytes]):
    """The values of a snapshot by key.

    Args:
        view: the snapshot.
    """

    def __init__(self, view: Snapshot) -> None:
        self._view: Snapshot | Session = view

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._view!r})"

    def __getitem__(self, key: str) -> bytes:
        return bytes(self._view.read(_checked(key)))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._view.find(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self._view.keys())

    def listdir(self, path: str = "") -> list[str]:
        """The names directly in a folder; zarr v2 asks for it by this name."""
        return self._view.list_dir(path.strip("/"))


class SessionMapping(SnapshotMapping, MutableMapping[str, bytes]):
    """The values of a session by key; what is set survives the death of the process.

    Args:
        view: the session.
    """

    def __init__(self, view: Session) -> None:
        self._view = self._session = view

    def __setitem__(self, key: str, value: bytes | bytearray | memoryview) -> None:
        self._session.write(key, _flat(value))

    def __delitem__(self, key: str) -> None:
        if not self._session.delete(_checked(key)):
            raise KeyNotFoundError(f"no value under {key!r} in {self._session!r}", key=key)

    def clear(self) -> None:
        """Take all keys away; one record in the journal."""
        self._session.clear()

    def rmdir(self, path: str = "") -> None:
        """Take away all in a folder; zarr v2 asks for it by this name."""
        self._session.clear(path.strip("/"))


def _checked(key: str) -> str:
    if not isinstance(key, str):
        raise KeyNotFoundError(f"keys are text, not {type(key).__name__}", key=str(key))
    return key


def _flat(value: bytes | bytearray | memoryview) -> bytes | memoryview:
    """The bytes of whatever a chunk may come as; arrays of times export no buffer."""
    try:
        return memoryview(value).cast("B")
    except (TypeError, ValueError, BufferError):
        return np.ascontiguousarray(value).tobytes()
