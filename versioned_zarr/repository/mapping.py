"""Snapshots and sessions as mappings from keys to bytes, for zarr v2 and other libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Protocol, TypeVar, overload

import numpy as np

from versioned_zarr.errors import KeyNotFoundError, ReadOnlyError
from versioned_zarr.tree.keys import check_text

_T = TypeVar("_T")


class HasUrl(Protocol):
    """A repository, or an equivalent."""

    @property
    def url(self) -> str:
        """Its URL."""
        ...


class Values(Protocol):
    """Values by key: a snapshot or a session."""

    @property
    def repository(self) -> HasUrl:
        """Their repository."""
        ...

    def _find(self, key: str) -> object | None:
        """The link to the value of a key, or None."""
        ...

    def read(self, key: str) -> memoryview:
        """The bytes of a value."""
        ...

    def keys(self) -> Iterator[str]:
        """All keys."""
        ...

    def list_dir(self, path: str = "") -> list[str]:
        """The names directly in a folder, sorted."""
        ...


class WritableValues(Values, Protocol):
    """Values that can be written: a session."""

    def write(self, key: str, value: bytes | memoryview) -> None:
        """Write a value under a key."""
        ...

    def delete(self, key: str) -> bool:
        """Delete a key; returns whether it existed."""
        ...

    def clear(self, path: str = "") -> None:
        """Delete all keys in a folder and below it."""
        ...


class SnapshotMapping(Mapping[str, bytes]):
    """The values of a snapshot, a Mapping by key.

    Args:
        view: the snapshot.
    """

    def __init__(self, view: Values) -> None:
        self._view = view

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._view!r})"

    def __getitem__(self, key: str) -> bytes:
        return bytes(self._view.read(_checked(key)))

    @overload
    def get(self, key: str, default: None = None, /) -> bytes | None: ...

    @overload
    def get(self, key: str, default: bytes | _T, /) -> bytes | _T: ...

    def get(self, key: str, default: bytes | _T | None = None, /) -> bytes | _T | None:
        """The value of a key, or the default if the key is missing; damage raises an error."""
        try:
            return self[key]
        except KeyNotFoundError:
            return default

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._view._find(key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._view.keys())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, key: str, value: object) -> None:
        """Raise ReadOnlyError; zarr v2 requires this method even of mappings that it only reads."""
        raise _read_only(self._view)

    def __delitem__(self, key: str) -> None:
        """Raise ReadOnlyError; like `__setitem__`."""
        raise _read_only(self._view)

    def listdir(self, path: str = "") -> list[str]:
        """The names directly in a folder; zarr v2 calls it by this name."""
        check_text(path)
        return self._view.list_dir(path.strip("/"))


class SessionMapping(SnapshotMapping, MutableMapping[str, bytes]):
    """The values of a session, a MutableMapping by key; writes survive the death of the process.

    Args:
        view: the session.
    """

    def __init__(self, view: WritableValues) -> None:
        super().__init__(view)
        self._session = view

    def __setitem__(self, key: str, value: object) -> None:
        self._session.write(key, _flat(value))

    def __delitem__(self, key: str) -> None:
        if not self._session.delete(_checked(key)):
            raise KeyNotFoundError(f"no value under {key!r} in {self._session!r}", key=key)

    def clear(self) -> None:
        """Delete all keys, with one record in the journal."""
        self._session.clear()

    def rmdir(self, path: str = "") -> None:
        """Delete all keys in a folder; zarr v2 calls it by this name."""
        check_text(path)
        self._session.clear(path.strip("/"))


def _read_only(view: Values) -> ReadOnlyError:
    return ReadOnlyError(
        "a snapshot never changes; open a session to write: repo.session('main')",
        url=view.repository.url,
    )


def _checked(key: str) -> str:
    if not isinstance(key, str):
        raise KeyNotFoundError(f"a key must be a string, not {type(key).__name__}", key=str(key))
    return key


def _flat(value: object) -> bytes | memoryview:
    """The bytes of a chunk of any type; arrays of times export no buffer.

    Raises:
        TypeError: it is not bytes-like.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(
                "an array of Python objects has no byte representation; encode it first"
            )
        return np.ascontiguousarray(value).view("u1").reshape(-1).data if value.size else b""
    try:
        return memoryview(value).cast("B")  # type: ignore[arg-type]  # it says so if it cannot
    except TypeError as error:
        raise TypeError(f"a value must be bytes, not {type(value).__name__}") from error
