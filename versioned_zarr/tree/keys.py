"""Keys: the names that are valid in Zarr, in UnixFS and in an exported folder."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from versioned_zarr.errors import InvalidKeyError

MAX_PART_BYTES: Final = 255
MAX_PARTS: Final = 255

_T = TypeVar("_T")


def check_key(key: str) -> None:
    """Make sure that `key` is a valid key.

    A key is parts joined by "/". A part is 1 to 255 bytes of UTF-8, without NUL, and not "." or
    "..": what every file system accepts as a name. A key has at most 255 parts.

    Raises:
        InvalidKeyError: it is not valid; the message says which part, and why.
    """
    if not is_key(key):
        raise InvalidKeyError(f"{key!r} cannot be a key: {_why_not(key)}", key=str(key))


def check_text(key: str) -> None:
    """Make sure that `key`, a key or path to look up, is text.

    Raises:
        InvalidKeyError: it is not text.
    """
    if not isinstance(key, str):
        raise InvalidKeyError(
            f"a key must be a string, not {type(key).__name__}: {key!r}", key=str(key)
        )


def is_key(key: object) -> bool:
    """Return whether `key` is a valid key; see `check_key`."""
    return (
        type(key) is str
        and key.isascii()
        and 0 < len(key) <= MAX_PART_BYTES
        and key[0] not in "./"
        and key[-1] != "/"
        and "//" not in key
        and "/." not in key
        and "\0" not in key
    ) or _why_not(key) is None


def _why_not(key: object) -> str | None:
    if not isinstance(key, str):
        return f"a key must be a string, not {type(key).__name__}"
    if not key:
        return "it is empty"
    if key.startswith("/"):
        return "it begins with '/'; write it relative to the root"
    if key.endswith("/"):
        return "it ends with '/', so it names a directory, not a value"
    parts = key.split("/")
    if len(parts) > MAX_PARTS:
        return f"it has {len(parts)} parts; at most {MAX_PARTS} fit"
    for part in parts:
        reason = _why_not_part(part)
        if reason is not None:
            return reason
    return None


def _why_not_part(part: str) -> str | None:
    if not part:
        return "it has an empty part between two '/'"
    if part in {".", ".."}:
        return f"it has the part {part!r}, which has a special meaning in a folder"
    if "\0" in part:
        return "it has a NUL character"
    try:
        size = len(part.encode())
    except UnicodeEncodeError:
        return "it has a lone surrogate, which UTF-8 cannot encode"
    if size > MAX_PART_BYTES:
        return f"its part {part[:20]!r}... has {size} bytes; at most {MAX_PART_BYTES} fit"
    return None


def in_key_order(items: Iterable[tuple[str, _T]]) -> Iterator[tuple[str, _T]]:
    """Sort the entries of one directory by the keys that they lead to.

    Keys sort as text: "a-b" comes before "a/b", although the name "a" comes before "a-b".

    Args:
        items: (label, anything), sorted by name; the label of a directory is its name and "/", that
            of a value is its name; consumed lazily.

    Returns:
        The items sorted by label.
    """
    waiting: list[tuple[str, _T]] = []
    for item in items:
        label = item[0]
        name = label[:-1] if label[-1] == "/" else label
        while waiting and waiting[0][0] < name:
            yield heapq.heappop(waiting)
        if name is label:
            yield item
        else:
            heapq.heappush(waiting, item)
    while waiting:
        yield heapq.heappop(waiting)
