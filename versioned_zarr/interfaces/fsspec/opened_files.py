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
"""Returns a range of the bytes of a value, from a start to a stop."""


class OpenedValue(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A value opened for reading by ranges: it does not change when it is overwritten.

    Args:
        files: the file system.
        path: its path.
        details: the result of `info`.
        fetch: reads a range of it.
        block_size: the number of bytes to read ahead; by default that of fsspec.
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
    """A value that is written when the file is closed, unless it was discarded.

    Attributes:
        fs: the file system.
        path: the path to write.
        blocksize: the size for chunked writes; any number is valid.
        autocommit: whether closing writes the value; otherwise `commit` does.
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
        """The mode: "wb", or "xb" if the path must not exist."""
        return self._mode

    @property
    def loc(self) -> int:
        """The position of the next byte."""
        return self.tell()

    @property
    def size(self) -> int:
        """The number of bytes written so far."""
        return len(self.getbuffer())

    @property
    def details(self) -> dict[str, Any]:
        """The result of `info` for the path."""
        details: dict[str, Any] = self.fs.info(self.path)
        return details

    @property
    def full_name(self) -> str:
        """The URL of the value."""
        return str(self.fs.unstrip_protocol(self.path))

    def is_within(self, file: Any) -> None:
        """Let `commit` first close a file on top of this one, which may buffer the last bytes."""
        self._outermost = file

    def give_up(self) -> None:
        """Discard the value; closing the file then writes nothing."""
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
        """Write the value, unless it was discarded."""
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
        """At the end of a transaction: write the value, unless already written."""
        self._close_all()
        if self._waiting is not None:
            value, self._waiting = self._waiting, None
            self._write(value)

    def discard(self) -> None:
        """At the end of a failed transaction: discard the value."""
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
    """A file on top of a value, which is discarded if an exception ends the `with` block."""

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
    """A value that is compressed while it is written; closing it closes both."""

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
        """Compress buffered data, as far as that is possible before the end."""
        if not self.closed and not self._value.closed and not getattr(self._inner, "closed", False):
            self._inner.flush()

    def tell(self) -> int:
        """The number of bytes written to it."""
        return int(self._inner.tell())

    def close(self) -> None:
        """Compress the rest, and write the value unless that fails or it was discarded."""
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
    """A value that is encoded while it is written."""

    def __init__(self, inner: Any, value: WrittenValue, **options: Any) -> None:
        super().__init__(inner, **options)
        self._value = value

    def close(self) -> None:
        """Encode the rest, and write the value unless that fails or it was discarded."""
        try:
            super().close()
        except BaseException:
            self._value.give_up()
            raise


def compressed(value: WrittenValue, compression: str) -> Any:
    """A file that compresses into a value; the value itself if there is no compression.

    Args:
        value: the value.
        compression: a name that fsspec knows, or "infer" to derive it from the path.

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
    """A file that encodes text into a value.

    Args:
        file: the value, or the file that compresses into it.
        value: the value.
        options: for `io.TextIOWrapper`.
    """
    encoded = _TextValue(file, value, **options)
    value.is_within(encoded)
    return encoded


def _is_left_by_exception() -> bool:
    """Whether a file is closed because an exception ends the block of `with fsspec.open(…)`.

    `fsspec.open` closes its files without passing the exception, so the caller is inspected.
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
