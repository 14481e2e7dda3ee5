"""The CARv1 stream: a header that names roots, then blocks, each preceded by its length and CID.

Writes and reads any CID, for exchange with other tools. Reads a CARv2 as the stream that it
contains. Rules: the CARv1 and CARv2 specifications
(ipld.io/specs/transport/car).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld import varint
from versioned_zarr.ipld.cid import CID_SIZE, Cid, is_ours

SECTION_LIMIT_BYTES = 8 << 20
"""Longer sections are rejected, as in go-car, so that a file cannot exhaust memory."""
_HEADER_LIMIT_BYTES = 1 << 20

_ROOTS = bytes.fromhex("a265726f6f7473")  # a map of two: "roots", ...
_VERSION = bytes.fromhex("6776657273696f6e01")  # "version", 1
_LINK_TAG = b"\xd8\x2a"  # 42: these bytes are a CID, after a zero byte
_V2_HEADER = struct.Struct("<16sQQQ")  # characteristics; where the stream begins, its size; index
_SKIPPED_BYTES = 1 << 20
_READ_BYTES = 64 << 10
_CIDV0 = b"\x12\x20"


def header(roots: Sequence[Cid]) -> bytes:
    """Encode the header of a stream: its length, then the roots and the version in DAG-CBOR."""
    links = b"".join(_LINK_TAG + _head(0x40, len(root) + 1) + b"\x00" + root for root in roots)
    body = _ROOTS + _head(0x80, len(roots)) + links + _VERSION
    return varint.encode(len(body)) + body


def section_head(cid: Cid, size: int) -> bytes:
    """Encode the section head of a block of `size` bytes: its length and its CID."""
    return varint.encode(len(cid) + size) + cid


def _head(major: int, number: int) -> bytes:
    """The head of a CBOR item: its major type, and its length in as few bytes as possible."""
    if number < 24:
        return bytes((major | number,))
    size = 1 if number < 1 << 8 else 2 if number < 1 << 16 else 4
    return bytes((major | 23 + (size.bit_length()),)) + number.to_bytes(size, "big")


class Readable(Protocol):
    """A stream of bytes, such as a file opened for reading."""

    def read(self, size: int, /) -> bytes:
        """Return up to `size` bytes; none at the end."""
        ...


class CarBlock(NamedTuple):
    """A block in a stream; not verified.

    Attributes:
        offset: the byte at which its section begins.
        cid: its CID.
        data: its bytes.
    """

    offset: int
    cid: Cid
    data: bytes


class Car:
    """A CARv1 or CARv2 that is read once from beginning to end, one section at a time.

    Args:
        stream: the bytes; never seeks.
        where: its name in errors.

    Attributes:
        roots: the CIDs in the header.
        version: 1 or 2.

    Raises:
        CorruptError: this is not a CAR; the error has the byte offset.
    """

    def __init__(self, stream: Readable, where: str) -> None:
        self._stream, self._where = stream, where
        self._at = 0
        self._buffer = b""
        self._taken = 0
        self._end: int | None = None
        self.version, self.roots = self._read_header()
        if self.version == 2:
            start, size = self._read_v2_header()
            self._skip_to(start)
            inner, self.roots = self._read_header()
            if inner != 1:
                raise self._damaged(start, f"the stream in a CARv2 has version {inner}, not 1")
            self._end = start + size

    def sections(self) -> Iterator[CarBlock]:
        """Yield the blocks in the order of the stream.

        Raises:
            CorruptError: the stream is truncated in a section, or a section is malformed.
        """
        while self._end is None or self._at < self._end:
            offset = self._at
            length = self._read_varint(may_end=self._end is None)
            if length is None:
                return
            if not 0 < length <= SECTION_LIMIT_BYTES:
                raise self._damaged(
                    offset, f"a section of {length} bytes; allowed: 1 to {SECTION_LIMIT_BYTES}"
                )
            body = self._read(length, offset)
            size = _cid_size(body)
            if size is None:
                raise self._damaged(offset, "a section that does not begin with a CID")
            yield CarBlock(offset, Cid(body[:size]), body[size:])
        if self._at > self._end:
            raise self._damaged(self._end, "a section extends past the end given in the header")

    def _read_header(self) -> tuple[int, list[Cid]]:
        offset = self._at
        length = self._read_varint(may_end=False)
        if length is None or not 0 < length <= _HEADER_LIMIT_BYTES:
            raise self._damaged(offset, "not a CAR header")
        body = self._read(length, offset)
        try:
            document, end = _decode_cbor(body, 0)
            version, links = document["version"], document.get("roots", [])
            roots = [Cid(link[1:]) for link in links]
            is_read = end == len(body) and version in (1, 2)
            if not is_read or any(_cid_size(root) != len(root) for root in roots):
                raise ValueError("not a CAR header")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise self._damaged(offset, "not the header of a CAR of version 1 or 2") from error
        return version, roots

    def _read_v2_header(self) -> tuple[int, int]:
        offset = self._at
        _, start, size, _ = _V2_HEADER.unpack(self._read(_V2_HEADER.size, offset))
        if start < self._at or not size:
            raise self._damaged(offset, "the header of an unfinished CARv2")
        return start, size

    def _skip_to(self, offset: int) -> None:
        while self._at < offset:
            self._read(min(_SKIPPED_BYTES, offset - self._at), self._at)

    def _read_varint(self, *, may_end: bool) -> int | None:
        """Read a number; None at the end of the stream, if `may_end` allows it."""
        offset, number = self._at, 0
        for shift in range(0, 63, 7):
            if self._taken == len(self._buffer):
                self._buffer, self._taken = self._stream.read(_READ_BYTES), 0
                if not self._buffer:
                    if may_end and shift == 0:
                        return None
                    raise self._damaged(offset, "it is truncated within a length")
            byte = self._buffer[self._taken]
            self._taken += 1
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise self._damaged(offset, "a length of more than nine bytes")

    def _read(self, size: int, offset: int) -> bytes:
        start, self._taken = self._taken, self._taken + size
        found = self._buffer[start : self._taken]
        if len(found) < size:
            parts, missing = [found], size - len(found)
            while missing > 0:
                self._buffer = self._stream.read(max(missing, _READ_BYTES))
                if not self._buffer:
                    raise self._damaged(
                        offset,
                        f"it is truncated: {size} bytes should follow, {missing} are missing",
                    )
                parts.append(self._buffer[:missing])
                self._taken = len(parts[-1])
                missing -= self._taken
            found = b"".join(parts)
        self._at += size
        return found

    def _damaged(self, offset: int, what: str) -> CorruptError:
        return CorruptError(
            f"{self._where} cannot be read at byte {offset}: {what}", where=self._where
        )


def _cid_size(data: bytes) -> int | None:
    """The size in bytes of the CID at the beginning of `data`; None if there is none."""
    if is_ours(data[:CID_SIZE]):
        return CID_SIZE
    if data[:2] == _CIDV0:
        return 34 if len(data) >= 34 else None
    at = 0
    numbers: list[int] = []
    while len(numbers) < 4:  # version, codec, hash function, length of the digest
        number = shift = 0
        while True:
            if at >= len(data) or shift > 56:
                return None
            number |= (data[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if data[at - 1] < 0x80:
                break
        numbers.append(number)
    end = at + numbers[3]
    return end if numbers[0] == 1 and end <= len(data) else None


def _decode_cbor(data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
    """Decode one item of the DAG-CBOR subset used in headers, and where it ends.

    Raises:
        ValueError: headers do not have items of this kind.
        IndexError: the bytes are truncated.
    """
    major, number = data[at] >> 5, data[at] & 0x1F
    at += 1
    if 24 <= number <= 27:
        size = 1 << (number - 24)
        number, at = int.from_bytes(data[at : at + size], "big"), at + size
    elif number > 27 or depth > 4:
        raise ValueError("an item that is not allowed in a header")
    if major == 0:
        return number, at
    if major in (2, 3):
        item = data[at : at + number]
        if len(item) != number:
            raise IndexError("the bytes end within an item")
        return item if major == 2 else item.decode(), at + number
    if major == 6:
        return _decode_cbor(data, at, depth + 1)
    if major not in (4, 5) or number > len(data):
        raise ValueError("an item that is not allowed in a header")
    items = []
    for _ in range(number if major == 4 else 2 * number):
        item, at = _decode_cbor(data, at, depth + 1)
        items.append(item)
    return items if major == 4 else dict(zip(items[::2], items[1::2], strict=True)), at
