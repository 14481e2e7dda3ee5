"""Terminal text: untrusted text with control characters escaped.

Commit messages, keys, authors and server messages may contain escape sequences, which move the
cursor or change the screen, and bidirectional marks of Unicode, which change the visual order of
text. Also writes counts with their nouns, and times as they are here.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

_STEERING: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_TAB: Final = 4


def escaped(text: str) -> str:
    r"""Escape text of several lines: newlines are kept, and tabs become spaces.

    >>> escaped("a\nb\x1b[2Jc")
    'a\nb\\x1b[2Jc'
    """
    if text.isascii() and text.isprintable():
        return text
    return "\n".join(escaped_line(line) for line in text.expandtabs(_TAB).split("\n"))


def escaped_line(text: str) -> str:
    r"""Escape text on one line: control characters, newlines and bidi marks are escaped.

    >>> escaped_line("a\nb\u202ec")
    'a\\nb\\u202ec'
    """
    return _STEERING.sub(_spelled_out, text)


def escaped_json(text: str) -> str:
    r"""Escape JSON for a terminal without changing its meaning, with JSON escapes.

    >>> escaped_json('{"key": "a\u202eb"}')
    '{"key": "a\\u202eb"}'
    """
    return "\n".join(
        _STEERING.sub(lambda found: f"\\u{ord(found.group()):04x}", line)
        for line in text.split("\n")
    )


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless the number is 1.

    >>> counted(1, "key"), counted(2000, "key")
    ('1 key', '2,000 keys')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def local_time(time: datetime) -> str:
    """A time in the zone of this machine, with the name of the zone.

    >>> from datetime import UTC
    >>> local_time(datetime(2026, 1, 15, 12, tzinfo=UTC))[:8]
    '2026-01-'
    """
    here = time.astimezone()
    return f"{here:%Y-%m-%d %H:%M:%S} {here.tzname()}"


def _spelled_out(found: re.Match[str]) -> str:
    character = found.group()
    number = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
