"""A checked line: text that ends in its checksum and a line feed.

Markers, records of refs, entries of their logs, heads of sessions and lists of condemned packs are
such lines: the text, a space, its CRC-32 in eight hexadecimal digits, and the line feed.
"""

from __future__ import annotations

import zlib

_END_SIZE = 10


def checked_line(text: bytes) -> bytes:
    """The line of a text."""
    return b"%s %08x\n" % (text, zlib.crc32(text))


def text_in(line: bytes) -> bytes | None:
    """The text in a line; None if its checksum does not match."""
    text = line[:-_END_SIZE]
    return text if line[-_END_SIZE:] == b" %08x\n" % zlib.crc32(text) else None
