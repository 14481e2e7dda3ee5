"""Objects through obstore: reads by range, atomic writes, and writes of names that must be new.

Every call is one request, but for `list`, which is one for each 1000 objects. obstore retries
what is safe to repeat.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import obstore
from obstore import exceptions
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from versioned_zarr.errors import ReadOnlyError, StorageError
from versioned_zarr.storage.object_store import Bytes, Stored
from versioned_zarr.urls import split_url

_T = TypeVar("_T")
_PROCESSES: Final[dict[str, int]] = {}
"""The first process that used obstore, among this one and its parents."""
_MULTIPART_BYTES: Final = 64 << 20
"""Objects up to this size are written by one request."""
_ORDERED: Final = (AzureStore, GCSStore, MemoryStore, S3Store)
"""Stores whose lists are in the order of the paths."""
_DENIED: Final = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
_STATUS: Final = re.compile(r"non-2xx status code: (\d{3})")
_IN_BODY: Final = "AccessDenied"
_USER: Final = re.compile(r"//[^/\s]*@")
_NO_RANGE: Final = re.compile(r"non-2xx status code: 416|non-partial response|[Rr]ange")
"""What errors say, among others, if an object ends before the range that was asked for."""
_NO_BUCKET: Final = "create the bucket or container first, or correct the URL"
_PAUSES_S: Final = (0.1, 0.3, 1.0)
"""Between attempts to write an object while the store says that another operation is under way."""


class ObstoreStorage:
    """A `ConditionalStore` without views, in one bucket below one prefix. Thread-safe.

    Args:
        store: any store of obstore, with the prefix.
        url: the URL that errors show; it contains no credentials.
        can_list: whether the store can list objects; otherwise it is read-only.
    """

    def __init__(self, store: Any, url: str, *, can_list: bool = True) -> None:
        self._store, self.url, self.can_list = store, url, can_list
        # Directory buckets of S3 list in any order, as folders do.
        is_directory = split_url(url).netloc.endswith("--x-s3")
        self._is_ordered = isinstance(store, _ORDERED) and not is_directory

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
        options: Any = None
        if start:
            options = {"range": {"suffix": -start} if start < 0 else {"offset": start}}

        def get() -> Any:
            if end is not None:
                return obstore.get_range(self._store, path, start=start, end=end)
            return obstore.get(self._store, path, options=options).bytes()

        try:
            return _read_only(self._call(path, get))
        except StorageError as error:
            if not _NO_RANGE.search(str(error)) or max(0, start) < self._size(path):
                raise
            return memoryview(b"")  # the object is empty, or was truncated

    def _size(self, path: str) -> int:
        size: int = self._call(path, lambda: obstore.head(self._store, path))["size"]
        return size

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """See `ObjectStore.put`; objects of more than 64 MiB are sent in parts."""
        del durable  # an object store has stored what it acknowledges
        self._check_writable()
        size_bytes = sum(map(len, parts))
        is_long = size_bytes > _MULTIPART_BYTES
        whole = None if is_long else b"".join(parts)

        def put() -> None:
            body: Any = map(bytes, parts) if whole is None else whole
            obstore.put(self._store, path, body, use_multipart=is_long)

        for pause_s in _PAUSES_S:
            try:
                return self._write(path, put)
            except FileExistsError:
                time.sleep(pause_s)
        try:
            self._write(path, put)
        except FileExistsError:
            raise StorageError(
                f"{self.url!r} did not store {path!r}: it says that another operation on that "
                "object is under way; try again",
                where=self.url,
            ) from None

    def create(self, path: str, data: bytes) -> None:
        """See `ConditionalStore.create`; one request."""
        self._check_writable()
        self._write(
            path,
            lambda: obstore.put(self._store, path, data, mode="create", use_multipart=False),
        )

    def _write(self, path: str, request: Callable[[], object]) -> None:
        """Make a request that writes an object.

        Raises:
            FileExistsError: it exists, or the store is busy with another operation on it.
            StorageError: the store failed; there may be no such bucket.
        """
        with self._named_errors(path, needs_bucket=True):
            try:
                request()
            except exceptions.AlreadyExistsError as error:
                raise FileExistsError(path) from error

    def check_process(self) -> None:
        """Refuse what would never return: obstore's threads do not exist in a forked child.

        Called before each request, and before a wait for another thread.

        Raises:
            StorageError: a parent of this process used obstore.
        """
        process = os.getpid()
        if _PROCESSES.setdefault("first", process) != process:
            raise StorageError(
                f"{self.url!r} cannot be used in a process that was forked after its parent had "
                "used an object store; start processes with multiprocessing's 'spawn' or "
                "'forkserver'",
                where=self.url,
            )

    def _check_writable(self) -> None:
        if not self.can_list:
            raise ReadOnlyError(f"{self.url!r} is a web server, which is read-only", url=self.url)

    def list(self, prefix: str) -> list[Stored]:
        """See `ObjectStore.list`; empty if the store cannot list."""
        if not self.can_list:
            return []
        return sorted(self._listed(prefix))

    def named(self, folder: str, beginning: str) -> Sequence[Stored]:
        """See `ConditionalStore.named`.

        A request for each 1000 of them; on a store whose lists have no order, of all in the folder.
        """
        start = f"{folder}/{beginning}"

        def pages() -> Sequence[Any]:
            found = []
            offset = start if self._is_ordered else None
            for page in obstore.list(self._store, folder, offset=offset, chunk_size=1000):
                wanted = [each for each in page if each["path"].startswith(start)]
                found += wanted
                if self._is_ordered and len(wanted) < len(page):
                    break
            return found

        found = map(_stored, self._call(folder, pages, needs_bucket=True))
        return sorted(each for each in found if each.path.startswith(start))

    def first(
        self, prefix: str, counts: Callable[[str], bool] = lambda path: True
    ) -> Stored | None:
        """See `ConditionalStore.first`; one request, for the first page."""

        def first() -> Any:
            pages = obstore.list(self._store, prefix, chunk_size=1000)
            found = next(iter(pages), []) if self._is_ordered else [one for p in pages for one in p]
            wanted = [each for each in found if counts(each["path"])]
            return min(wanted or found, key=lambda each: each["path"], default=None)

        found = self._call(prefix, first, needs_bucket=True)
        return None if found is None else _stored(found)

    def folders(self, prefix: str) -> Sequence[str]:
        """See `ConditionalStore.folders`; one request."""
        found = self._call(
            prefix, lambda: obstore.list_with_delimiter(self._store, prefix), needs_bucket=True
        )
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"])

    def renew(self, prefix: str) -> bool:
        """See `ConditionalStore.renew`: object stores list what they acknowledged."""
        del prefix
        return False

    def _listed(self, prefix: str) -> Iterator[Stored]:
        def pages() -> Sequence[Any]:
            return [each for page in obstore.list(self._store, prefix or None) for each in page]

        return map(_stored, self._call(prefix, pages, needs_bucket=True))

    def delete(self, path: str, *, durable: bool = False) -> None:
        """See `ObjectStore.delete`."""
        del durable
        self._check_writable()
        try:
            self._call(path, lambda: obstore.delete(self._store, path))
        except FileNotFoundError:
            return

    def _call(self, path: str, request: Callable[[], _T], *, needs_bucket: bool = False) -> _T:
        with self._named_errors(path, needs_bucket=needs_bucket):
            return request()

    @contextmanager
    def _named_errors(self, path: str, *, needs_bucket: bool) -> Iterator[None]:
        """Raise the package's errors in place of obstore's.

        Args:
            path: the object or folder of the request.
            needs_bucket: whether the request can miss nothing but the bucket.

        Raises:
            FileNotFoundError: the object does not exist.
            FileExistsError: a condition of the caller.
            ReadOnlyError: the credentials do not allow the request.
            StorageError: the store failed, or cannot be reached.
        """
        self.check_process()
        try:
            yield
        except FileExistsError:
            raise
        except (FileNotFoundError, exceptions.NotFoundError) as error:
            if not needs_bucket:
                raise FileNotFoundError(path) from None
            raise self._failed(path, error, _NO_BUCKET) from None
        except (exceptions.BaseError, OSError, ValueError) as error:
            said = _STATUS.search(str(error))  # lists have no errors of their own for these
            status = int(said[1]) if said else 0
            is_denied = _IN_BODY in str(error)  # S3 deletes several objects at once
            if isinstance(error, _DENIED) or status in (401, 403) or is_denied:
                raise ReadOnlyError(
                    f"{self.url!r} denies access to {path!r}: {first_line(error)}; check the "
                    "credentials, and what they may do below this prefix",
                    url=self.url,
                ) from None
            hint = _NO_BUCKET if needs_bucket and status == 404 else ""
            if str(error).partition("\n")[0].endswith("builder error"):
                hint = "an endpoint with http:// also needs the option allow_http=True"
            raise self._failed(path, error, hint) from None
        except BaseException as error:
            if not is_panic(error):
                raise
            raise self._failed(path, error, "check the storage options") from None

    def _failed(self, path: str, error: BaseException, hint: str) -> StorageError:
        text = f"{self.url!r} failed at {path!r}: {first_line(error)}"
        return StorageError(f"{text}; {hint}" if hint else text, where=self.url)


def first_line(error: BaseException) -> str:
    """What an error of obstore says, without its debug output and the credentials in URLs."""
    said = str(error).partition("\n")[0].partition(": <?xml")[0].strip()
    return _USER.sub("//", said) or type(error).__name__


def is_panic(error: BaseException) -> bool:
    """Whether obstore itself failed, with an error that is no `Exception`."""
    return type(error).__name__ == "PanicException"  # it cannot be imported


def _read_only(data: Any) -> memoryview:
    return memoryview(data).toreadonly()


def _stored(found: Any) -> Stored:
    return Stored(found["path"], found["size"], found["last_modified"].timestamp())
