"""A plain folder as a `Storage`: files, `flock`, `O_APPEND` and atomic renames.

What it relies on, and local file systems of Linux and macOS give: appends to a file opened with
O_APPEND do not mix; a rename is atomic; `flock` ends with the process that holds it; a mapped file
stays readable after its name is gone. Network file systems do not promise all of this.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import secrets
import shutil
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

from versioned_zarr.errors import ReadOnlyError, StorageError, StorageFullError
from versioned_zarr.storage import Bytes, Draft, Log, Stored

_ALLOCATION_SIZE = 64 << 20
_ALLOCATE_FROM = 4 << 20
_ZEROS = bytes(256 << 10)
_ZEROS_FROM = 1 << 20
_MAPPED_FILES = 512
_SWEEP_AGE_S = 24 * 3600
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_MAX_PARTS = 512  # below IOV_MAX of every system


class _naming_failures:  # noqa: N801 - used as a statement, on every write
    """Turn what the system says into errors that say what, where and what to do."""

    __slots__ = ("_path",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, (FileNotFoundError, StorageError)):
            raise _named(error, self._path) from error


def _named(error: OSError, path: str | os.PathLike[str]) -> Exception:
    where = os.fspath(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(
            f"no room left to write {where!r}; free some and try again, "
            "nothing that was committed is touched",
            where=where,
        )
    if error.errno in _FORBIDDEN:
        return ReadOnlyError(
            f"no permission for {where!r}: {error.strerror}; "
            "check who owns the folder and how it is mounted",
            url=where,
        )
    return StorageError(f"{where!r} failed: {error.strerror or error}", where=where)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _write_all(fd: int, parts: Sequence[Bytes], offset: int) -> None:
    """Write every byte of the parts, one behind the other, the first at `offset`."""
    for first in range(0, len(parts), _MAX_PARTS):
        batch = parts[first : first + _MAX_PARTS]
        size = sum(map(len, batch))
        done = os.pwritev(fd, batch, offset)
        offset += size
        if done < size:
            _write_rest(fd, b"".join(batch)[done:], offset - size + done)


def _write_rest(fd: int, data: bytes, offset: int) -> None:
    """Go on after the system wrote less than it was given; a full disk says so now."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(fd, rest, offset)
        rest, offset = rest[done:], offset + done


_STORAGES: weakref.WeakSet[LocalStorage] = weakref.WeakSet()


def _free_guards_after_fork() -> None:
    """A thread of the parent may have held a guard at the fork, and does not live on here."""
    for storage in list(_STORAGES):
        storage._guard = threading.Lock()


os.register_at_fork(after_in_child=_free_guards_after_fork)


class LocalStorage:
    """A folder of the local file system. Its parts are made as they are needed.

    Args:
        folder: where.
        url: what errors and the repository call the place, if not by the folder.
    """

    def __init__(self, folder: str | os.PathLike[str], url: str | None = None) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.url = self.folder.as_uri() if url is None else url
        self._maps: dict[str, memoryview] = {}
        self._guard = threading.Lock()
        _STORAGES.add(self)

    def __repr__(self) -> str:
        return f"LocalStorage({str(self.folder)!r})"

    def _path(self, path: str) -> Path:
        return self.folder / path

    def view(self, path: str) -> memoryview:
        """See `Storage.view`: the file mapped read-only."""
        found = self._maps.get(path)
        if found is not None:
            return found
        with _naming_failures(self._path(path)):
            fd = os.open(self._path(path), os.O_RDONLY)
            try:
                size = os.fstat(fd).st_size
                mapped = memoryview(mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b"")
            finally:
                os.close(fd)
        with self._guard:
            self._maps[path] = mapped
            if len(self._maps) > _MAPPED_FILES:
                del self._maps[next(iter(self._maps))]
        return mapped

    def read(self, path: str, start: int = 0, end: int | None = None) -> memoryview:
        """See `Storage.read`; never from the map, since logs and refs grow."""
        with _naming_failures(self._path(path)), open(self._path(path), "rb", 0) as file:
            stop = os.fstat(file.fileno()).st_size if end is None else end
            return memoryview(os.pread(file.fileno(), max(0, stop - start), start))

    def read_into(self, path: str, start: int, buffers: Sequence[memoryview]) -> None:
        """See `Storage.read_into`: faster than the map for what is copied anyhow."""
        with _naming_failures(self._path(path)):
            fd = os.open(self._path(path), os.O_RDONLY)
            try:
                for first in range(0, len(buffers), _MAX_PARTS):
                    batch = buffers[first : first + _MAX_PARTS]
                    wanted = sum(map(len, batch))
                    if os.preadv(fd, batch, start) != wanted:
                        raise OSError(errno.EIO, f"no {wanted} bytes at {start}")
                    start += wanted
            finally:
                os.close(fd)

    def put(self, path: str, parts: Sequence[Bytes], *, durable: bool = True) -> None:
        """See `Storage.put`: a temporary file, fsync, rename, fsync of the folder."""
        target = self._path(path)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with _naming_failures(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
                try:
                    _write_all(fd, parts, 0)
                    if durable:
                        os.fsync(fd)
                finally:
                    os.close(fd)
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            if durable:
                _sync_folder(target.parent)
        self._forget(path)

    def list(self, prefix: str) -> list[Stored]:
        """See `Storage.list`; half-written files of `put` are not there."""
        root = self._path(prefix)
        found: list[Stored] = []
        with _naming_failures(root):
            folders = [(prefix, root)]
            while folders:
                name, folder = folders.pop()
                try:
                    entries = list(os.scandir(folder))
                except FileNotFoundError:
                    continue
                for entry in entries:
                    path = f"{name}/{entry.name}" if name else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((path, folder / entry.name))
                    elif not entry.name.startswith("."):
                        with contextlib.suppress(FileNotFoundError):
                            status = entry.stat()
                            found.append(Stored(path, status.st_size, status.st_mtime))
        return sorted(found)

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with _naming_failures(self._path(path)):
            self._path(path).unlink(missing_ok=True)
        self._forget(path)

    def delete_folder(self, prefix: str) -> None:
        """See `Storage.delete_folder`."""
        with _naming_failures(self._path(prefix)), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix))

    def sweep(self) -> None:
        """See `Storage.sweep`: temporary files of `put`, and drafts of packs."""
        limit = time.time() - _SWEEP_AGE_S
        for folder, _, names in os.walk(self.folder):
            for name in names:
                is_draft = name.endswith(".draft") and Path(folder).name == "packs"
                if name.startswith(".") or is_draft:
                    path = Path(folder, name)
                    with contextlib.suppress(FileNotFoundError):
                        if path.stat().st_mtime < limit:
                            path.unlink()

    def stamp(self, prefix: str) -> object:
        """See `Storage.stamp`: identity, time and size of the folder."""
        try:
            status = os.stat(self._path(prefix))
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def open_log(self, path: str, *, create: bool = False) -> Log:
        """See `Storage.open_log`."""
        return _LocalLog(self._path(path), create)

    def open_draft(self, path: str) -> Draft:
        """See `Storage.open_draft`: the claim is an exclusive `flock` on the file."""
        target = self._path(path)
        with _naming_failures(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
            fcntl.flock(fd, fcntl.LOCK_EX)
        return _LocalDraft(self, path, fd)

    def adopt_draft(self, path: str) -> Draft | None:
        """See `Storage.adopt_draft`."""
        with _naming_failures(self._path(path)):
            fd = os.open(self._path(path), os.O_RDWR)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
                return None
        return _LocalDraft(self, path, fd)

    def read_draft(self, path: str) -> Draft:
        """See `Storage.read_draft`."""
        with _naming_failures(self._path(path)):
            return _LocalDraft(self, path, os.open(self._path(path), os.O_RDONLY))

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[bool]:
        """See `Storage.lock`: `flock` on a file of its own, so it also holds between threads."""
        path = self.folder / "locks" / name
        with _naming_failures(path):
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            try:
                fcntl.flock(fd, how if wait else how | fcntl.LOCK_NB)
                is_held = True
            except BlockingIOError:
                is_held = False
            yield is_held
        finally:
            os.close(fd)

    def _forget(self, path: str) -> None:
        with self._guard:
            self._maps.pop(path, None)


class _LocalLog:
    """A file opened with O_APPEND."""

    def __init__(self, path: Path, create: bool) -> None:
        self._path = path
        self._fd = -1
        with _naming_failures(path):
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_APPEND | (os.O_CREAT if create else 0)
            try:
                self._fd = os.open(path, flags, 0o666)
            except OSError as error:
                if create or error.errno not in _FORBIDDEN:
                    raise
                self._fd = os.open(path, os.O_RDONLY)
            self._is_new = create and not os.fstat(self._fd).st_size

    def append(self, record: bytes) -> int:
        try:
            written = os.write(self._fd, record)
            end = os.lseek(self._fd, 0, os.SEEK_CUR)
            if written != len(record):
                if self.end() == end:
                    os.ftruncate(self._fd, end - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return end
        except OSError as error:
            raise _named(error, self._path) from error

    def end(self) -> int:
        return os.lseek(self._fd, 0, os.SEEK_END)

    def read(self, start: int, end: int) -> bytes:
        with _naming_failures(self._path):
            return os.pread(self._fd, end - start, start)

    def sync(self) -> None:
        with _naming_failures(self._path):
            os.fdatasync(self._fd)
            if self._is_new:
                _sync_folder(self._path.parent)
                self._is_new = False

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close


class _LocalDraft:
    """A file that this process holds an exclusive `flock` on, or only reads."""

    def __init__(self, storage: LocalStorage, path: str, fd: int) -> None:
        self.path = path
        self._storage = storage
        self._fd = fd
        self._allocated = 0
        self._zeroed = _ZEROS_FROM
        self._zeroing = threading.Lock()

    def write(self, offset: int, parts: Sequence[Bytes]) -> None:
        try:
            end = offset + sum(map(len, parts))
            if end > self._allocated and offset >= _ALLOCATE_FROM:
                self._allocate(end)
            if end > self._zeroed:
                self._write_ahead(offset, end)
            if len(parts) > _MAX_PARTS:
                _write_all(self._fd, parts, offset)
                return
            done = os.pwritev(self._fd, parts, offset)
            if done != end - offset:
                _write_rest(self._fd, b"".join(parts)[done:], offset + done)
        except OSError as error:
            raise _named(error, self.path) from error

    def _allocate(self, end: int) -> None:
        """Reserve room ahead: a large file then grows in few pieces, and writes go faster."""
        wanted = -(-end // _ALLOCATION_SIZE) * _ALLOCATION_SIZE
        with contextlib.suppress(OSError):
            os.posix_fallocate(self._fd, self._allocated, wanted - self._allocated)
        self._allocated = wanted

    def _write_ahead(self, offset: int, end: int) -> None:
        """Write zeros where the next small writes will go.

        The system then has the pages at hand in large pieces: a third of the time for 16 KiB.
        """
        # Never where another thread may have written already: all that is before `_zeroed`.
        with self._zeroing:
            start = max(self._zeroed, offset)
            self._zeroed = max(self._zeroed, end)
            if end > start and end - offset < len(_ZEROS) >> 1:
                with contextlib.suppress(OSError):
                    self._zeroed = start + os.pwrite(self._fd, _ZEROS, start)

    def read(self, start: int, end: int) -> memoryview:
        with _naming_failures(self.path):
            return memoryview(os.pread(self._fd, end - start, start))

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def start_writeback(self) -> None:
        with _naming_failures(self.path):
            os.fdatasync(self._fd)

    def publish(self, path: str, size: int) -> None:
        target = self._storage._path(path)
        with _naming_failures(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.ftruncate(self._fd, size)
            os.fsync(self._fd)
            os.rename(self._storage._path(self.path), target)
            _sync_folder(target.parent)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close
