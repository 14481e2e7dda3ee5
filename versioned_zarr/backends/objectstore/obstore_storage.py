"""Objects through obstore: reads by range, atomic writes, and writes of names that must be new.

Every call is one request, but for `list`, which is one for each 1000 objects. obstore retries
what is safe to repeat.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import obstore
from obstore import exceptions

from versioned_zarr.errors import ReadOnlyError, StorageError
from versioned_zarr.storage.object_store import Bytes, Stored

_T = TypeVar("_T")
_PROCESSES: Final[dict[str, int]] = {}
"""The first process that used obstore, among this one and its parents."""
_MULTIPART_BYTES: Final = 64 << 20
"""Objects up to this size are written by one request."""


class ObstoreStorage:
    """An `ObjectStore` without views, in one bucket below one prefix. Thread-safe.

    Args:
        store: any store of obstore, with the prefix.
        url: the URL that errors show; it contains no credentials.
        can_list: whether the store can list objects; otherwise it is read-only.
    """

    def __init__(self, store: Any, url: str, *, can_list: bool = True) -> None:
        self._store, self.url, self.can_list = store, url, can_list

    def __repr__(self) -> str:
        return f"ObstoreStorage({self.url!r})"

    def view(self, path: str) -> memoryview | None:
        """See `ObjectStore.view`: there is none."""
        del path
        return None

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `ObjectStore.read`; a negative `start` reads the end of the object."""
        if end is not None and end <= start:
            return memoryview(b"")
        if end is not None:
            return self._call(path, lambda: _read_only(self._range(path, start, end)))
        options: Any = None
        if start:
            options = {"range": {"suffix": -start} if start < 0 else {"offset": start}}
        found = self._call(path, lambda: obstore.get(self._store, path, options=options).bytes())
        return _read_only(found)

    def _range(self, path: str, start: int, end: int) -> Any:
        return obstore.get_range(self._store, path, start=start, end=end)

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """See `ObjectStore.put`; objects of more than 64 MiB are sent in parts."""
        del durable  # an object store has stored what it acknowledges
        self._check_writable()
        size_bytes = sum(map(len, parts))
        is_long = size_bytes > _MULTIPART_BYTES
        body: Any = iter([bytes(part) for part in parts]) if is_long else b"".join(parts)
        self._call(path, lambda: obstore.put(self._store, path, body, use_multipart=is_long))

    def create(self, path: str, data: bytes) -> None:
        """Write an object that does not exist.

        Raises:
            FileExistsError: it exists, or another writer is creating it.
            StorageError: the outcome may be unknown.
        """
        self._check_writable()
        try:
            with self._named_errors(path):
                obstore.put(self._store, path, data, mode="create", use_multipart=False)
        except exceptions.AlreadyExistsError as error:
            raise FileExistsError(path) from error

    def check_process(self) -> None:
        """Refuse what would never return in this process; called before a wait for another thread.

        Raises:
            StorageError: a parent of this process used obstore.
        """
        _check_not_forked(self.url)

    def _check_writable(self) -> None:
        if not self.can_list:
            raise ReadOnlyError(f"{self.url!r} is a web server, which is read-only", url=self.url)

    def list(self, prefix: str) -> list[Stored]:
        """See `ObjectStore.list`; empty if the store cannot list."""
        if not self.can_list:
            return []
        return sorted(self._listed(prefix))

    def first(self, prefix: str) -> Stored | None:
        """The first object in a folder, in the order of the paths; one request."""

        def first() -> Any:
            # The first page is in order on every store that lists in pages.
            page = next(iter(obstore.list(self._store, prefix, chunk_size=1000)), [])
            return min(page, key=lambda each: each["path"], default=None)

        found = self._call(prefix, first)
        return None if found is None else _stored(found)

    def folders(self, prefix: str) -> Sequence[str]:
        """The names of the folders in a folder, sorted."""
        found = self._call(prefix, lambda: obstore.list_with_delimiter(self._store, prefix))
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"])

    def _listed(self, prefix: str) -> Iterator[Stored]:
        def pages() -> Sequence[Any]:
            return [each for page in obstore.list(self._store, prefix or None) for each in page]

        return map(_stored, self._call(prefix, pages))

    def delete(self, path: str, *, durable: bool = False) -> None:
        """See `ObjectStore.delete`."""
        del durable
        self._check_writable()
        try:
            self._call(path, lambda: obstore.delete(self._store, path))
        except FileNotFoundError:
            return

    def _call(self, path: str, request: Callable[[], _T]) -> _T:
        with self._named_errors(path):
            return request()

    @contextmanager
    def _named_errors(self, path: str) -> Iterator[None]:
        """Raise the package's errors in place of obstore's.

        Raises:
            FileNotFoundError: the object does not exist.
            ReadOnlyError: the credentials do not allow the request.
            StorageError: the store failed, or cannot be reached.
        """
        self.check_process()
        try:
            yield
        except (FileNotFoundError, exceptions.AlreadyExistsError):
            raise
        except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
            raise ReadOnlyError(
                f"{self.url!r} denies access to {path!r}: {_first_line(error)}; check the "
                "credentials, and that they may read, write and list this prefix",
                url=self.url,
            ) from None
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise StorageError(
                f"{self.url!r} failed at {path!r}: {_first_line(error)}", where=self.url
            ) from None


def _check_not_forked(url: str) -> None:
    """Refuse what would never return: obstore's threads do not exist in a forked child.

    Raises:
        StorageError: a parent of this process used obstore.
    """
    process = os.getpid()
    if _PROCESSES.setdefault("first", process) != process:
        raise StorageError(
            f"{url!r} cannot be used in a process that was forked after its parent had used an "
            "object store; start processes with multiprocessing's 'spawn' or 'forkserver'",
            where=url,
        )


def _first_line(error: BaseException) -> str:
    """What an error of obstore says, without its debug output."""
    return str(error).partition("\n")[0].strip() or type(error).__name__


def _read_only(data: Any) -> memoryview:
    return memoryview(data).toreadonly()


def _stored(found: Any) -> Stored:
    return Stored(found["path"], found["size"], found["last_modified"].timestamp())
