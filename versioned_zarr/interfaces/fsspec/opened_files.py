"""Opened files: values as file objects, for reading and for writing.

A written file becomes a value when it is closed, but never if an exception ends its `with` block,
whatever encodes or compresses it in between.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from fsspec import AbstractFileSystem
from fsspec.compression import compr
from fsspec.core import OpenFile, get_compression
from fsspec.spec import AbstractBufferedFile

_LINE_BYTES: Final = 8192
_FRAMES: Final = 8

Fetch = Callable[[int, int], bytes]
"""Gives a range of the bytes of a value: from, and up to."""


class OpenedValue(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A value that is read, in ranges as they are asked for: the one that was there when opened.

    Args:
        files: the file system.
        path: where it lies.
        details: what `info` says of it.
        fetch: reads a range of it.
        block_size: how many bytes are read ahead; fsspec's default if None.
        options: for `AbstractBufferedFile`.
    """

    def __init__(
        self,
        files: AbstractFileSystem,
        path: str,
        details: dict[str, Any],
        fetch: Fetch,
        *,
        block_size: int | None = None,
        **options: Any,
    ) -> None:
        self._fetch = fetch
        self._details = details
        super().__init__(files, path, "rb", block_size, size=details["size"], **options)

    def _fetch_range(self, start: int, end: int) -> bytes:
        return self._fetch(start, end)

    def readline(self, size: int | None = -1) -> bytes:
        """See `io.IOBase.readline`."""
        start = self.tell()
        line: bytes = self.readuntil(b"\n", _LINE_BYTES)
        if size is not None and 0 <= size < len(line):
            self.seek(start + size)
            return line[:size]
        return line

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """See `io.IOBase.readlines`."""
        lines: list[bytes] = []
        while (not hint or hint < 0 or sum(map(len, lines)) < hint) and (line := self.readline()):
            lines.append(line)
        return lines


class WrittenValue(io.BytesIO):
    """A value that is written when the file is closed, unless it was given up.

    Attributes:
        fs: the file system.
        path: where it will lie.
        blocksize: in how many bytes at a time to write to it; any number does.
        autocommit: whether closing writes it; else `commit` does.
    """

    def __init__(
        self, files: AbstractFileSystem, path: str, mode: str, *, blocksize: int, autocommit: bool
    ) -> None:
        super().__init__()
        self.fs, self.path, self._mode = files, path, mode
        self.blocksize, self.autocommit = blocksize, autocommit
        self._is_given_up = False
        self._waiting: bytes | None = None
        self._outermost: Any = None

    def __repr__(self) -> str:
        return f"<File-like object {type(self.fs).__name__}, {self.path}>"

    @property
    def mode(self) -> str:
        """How it was opened: "wb", or "xb" if nothing may lie there yet."""
        return self._mode

    @property
    def loc(self) -> int:
        """Where the next byte goes."""
        return self.tell()

    @property
    def size(self) -> int:
        """How many bytes there are until now."""
        return len(self.getbuffer())

    @property
    def details(self) -> dict[str, Any]:
        """What `info` says of what lies at the path by now."""
        details: dict[str, Any] = self.fs.info(self.path)
        return details

    @property
    def full_name(self) -> str:
        """The URL of what is written."""
        return str(self.fs.unstrip_protocol(self.path))

    def is_within(self, file: Any) -> None:
        """Let `commit` close a file through which it is written, which may hold back the end."""
        self._outermost = file

    def give_up(self) -> None:
        """Write nothing, whoever closes the file."""
        self._is_given_up = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.give_up()
        super().__exit__(kind, failure, trace)

    def close(self) -> None:
        """Write the value, unless it was given up."""
        try:
            if not self.closed and not self._is_given_up and not _is_left_by_exception():
                value = self.getvalue()
                if self.autocommit:
                    self._write(value)
                else:
                    self._waiting = value
        finally:
            super().close()

    def commit(self) -> None:
        """At the end of a transaction: write what was not written yet."""
        self._close_all()
        if self._waiting is not None:
            value, self._waiting = self._waiting, None
            self._write(value)

    def discard(self) -> None:
        """At the end of a transaction that failed: write nothing."""
        self.give_up()
        self._waiting = None
        self._close_all()

    def _close_all(self) -> None:
        if self._outermost is not None:
            self._outermost.close()
        self.close()

    def _write(self, value: bytes) -> None:
        self.fs.pipe_file(self.path, value, mode="create" if self._mode == "xb" else "overwrite")


class _Around(io.IOBase):
    """A file that writes into a value, which is given up where an exception leaves the file."""

    _value: WrittenValue

    def __exit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._value.give_up()
        super().__exit__(kind, failure, trace)


class _CompressedValue(_Around, io.BufferedIOBase):
    """A value that is compressed as it is written; closing it closes both."""

    def __init__(self, inner: Any, value: WrittenValue) -> None:
        self._inner, self._value = inner, value

    def __getattr__(self, name: str) -> Any:
        return getattr(self._value, name)

    def writable(self) -> bool:
        """Always true."""
        return True

    def write(self, data: Any, /) -> int:
        """Compress data."""
        written = self._inner.write(data)
        return len(memoryview(data).cast("B")) if written is None else int(written)

    def flush(self) -> None:
        """Compress what was held back, as far as that can be done before the end."""
        if not self.closed and not self._value.closed and not getattr(self._inner, "closed", False):
            self._inner.flush()

    def tell(self) -> int:
        """How many bytes were written to it."""
        return int(self._inner.tell())

    def close(self) -> None:
        """Compress the rest, and write the value unless that fails or it was given up."""
        if self.closed:
            return
        try:
            self._inner.close()
        except BaseException:
            self._value.give_up()
            raise
        finally:
            self._value.close()
            super().close()


class _TextValue(_Around, io.TextIOWrapper):
    """A value that is encoded as it is written."""

    def __init__(self, inner: Any, value: WrittenValue, **options: Any) -> None:
        super().__init__(inner, **options)
        self._value = value

    def close(self) -> None:
        """Encode the rest, and write the value unless that fails or it was given up."""
        try:
            super().close()
        except BaseException:
            self._value.give_up()
            raise


def compressed(value: WrittenValue, compression: str) -> Any:
    """A file that compresses what is written into a value; the value itself if none is asked for.

    Args:
        value: what it becomes.
        compression: a name that fsspec knows, or "infer" to tell it from the path.

    Raises:
        ValueError: fsspec does not know it.
    """
    name = get_compression(value.path, compression)
    if name is None:
        return value
    file = _CompressedValue(compr[name](value, mode="w"), value)
    value.is_within(file)
    return file


def text(file: Any, value: WrittenValue, **options: Any) -> io.TextIOWrapper:
    """A file that encodes the text that is written into a value.

    Args:
        file: the value, or what compresses it.
        value: what it becomes.
        options: for `io.TextIOWrapper`.
    """
    encoded = _TextValue(file, value, **options)
    value.is_within(encoded)
    return encoded


def _is_left_by_exception() -> bool:
    """Whether a file is closed because an exception ends the block of `with fsspec.open(…)`.

    What `fsspec.open` gives closes its files without telling them why: its caller knows.
    """
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        above = frame.f_back
        if above is None:
            return False
        frame = above
        if frame.f_code is OpenFile.__exit__.__code__:
            reason = frame.f_locals.get("args") or (None,)
            return reason[0] is not None
    return False
