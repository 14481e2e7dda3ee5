"""HTML that is well-formed and escaped by construction, with the few styles that are used.

Independent of repositories. Its output is self-contained, without scripts and external links. It is
readable in light and dark themes, and also without styles.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from versioned_zarr.terminal_text import escaped

TEXT_LIMIT = 160
"""The maximum length of a displayed metadata value."""

# Mid-tones that are visible on white and on black.
GREEN, AMBER, RED, BLUE = "#2f9e5f", "#cf8a1c", "#d1495b", "#3f88c5"
COLOUR_OF_CHANGE = {"added": GREEN, "changed": AMBER, "removed": RED, "moved": BLUE}
COLOURS_OF_LANES = (BLUE, AMBER, GREEN, RED, "#8a6fc8", "#2a9d9d")
_FAINT = "rgba(128,128,128,0.35)"

_CELL = "padding:2px 12px 2px 0;text-align:left;vertical-align:top;border:0;background:none;"
_MONOSPACE = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:0.92em;"


class Markup(str):
    """Text that is already HTML; anything else is escaped."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Anything as HTML; escapes characters that XML forbids, and marks that reorder text."""
    if isinstance(value, Markup):
        return value
    # The two noncharacters are not allowed in XML either.
    clean = escaped(str(value)).replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")
    return Markup(escape(clean))


def join(parts: Iterable[object], between: object = Markup("")) -> Markup:
    """Concatenate pieces."""
    return Markup(text(between).join(text(part) for part in parts))


def element(name: str, *children: object, **attributes: object) -> Markup:
    """An element; attributes with value None are left out, and `_` in a name becomes `-`."""
    words = "".join(
        f' {key.replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = join(children)
    return Markup(f"<{name}{words}>{inside}</{name}>" if inside else f"<{name}{words}/>")


def block(*children: object) -> Markup:
    """The outermost element of all notebook output."""
    return element("div", *children, style="line-height:1.45;max-width:100%;overflow-x:auto")


def heading(kind: str, rest: object) -> Markup:
    """The first line: the type and name of the object."""
    return element("div", element("strong", kind), " ", rest, style="margin-bottom:4px")


def code(value: object, *, title: str | None = None) -> Markup:
    """Text for copying: a CID, a key, the value of a field."""
    style = f"{_MONOSPACE}background:none;color:inherit;padding:0"
    return element(
        "code", value or "", Markup("&#8203;") if not value else "", title=title, style=style
    )


def short_cid(cid: str) -> Markup:
    """The beginning of a CID, with the whole CID as a tooltip."""
    return code(f"{cid[:16]}\N{HORIZONTAL ELLIPSIS}", title=cid)


def badge(label: str, colour: str) -> Markup:
    """A framed word: a branch, a tag, a kind of change."""
    style = (
        f"border:1px solid {colour};color:{colour};border-radius:4px;padding:0 5px;font-size:0.85em"
    )
    return element("span", label, style=f"{style};white-space:nowrap")


def faint(*children: object) -> Markup:
    """Less important text."""
    return element("span", *children, style="opacity:0.7")


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Names and values, one pair per line."""
    return table([], [[faint(name), value] for name, value in pairs])


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> Markup:
    """A table; without a header, just aligned text."""
    names = list(header)
    line = f"{_CELL}border-bottom:1px solid {_FAINT}"
    head = element("tr", *(element("th", name, style=line) for name in names)) if names else ""
    body = [element("tr", *(element("td", cell, style=_CELL) for cell in row)) for row in rows]
    if not head and not body:
        return Markup("")
    return element("table", head, *body, style="border-collapse:collapse;border:0;margin:2px 0")


def fold(summary: object, *children: object, is_open: bool = True) -> Markup:
    """A block that can be collapsed, with a summary."""
    return element(
        "details",
        element("summary", summary, style="cursor:pointer"),
        element("div", *children, style="margin:2px 0 6px 18px"),
        open="open" if is_open else None,
    )


def value(data: Any, *, is_there: bool | None = None) -> Markup:
    """A metadata value as JSON, truncated if it is long; a dash if it is absent.

    Args:
        data: the value.
        is_there: whether there is a value; if unknown, None counts as absent.
    """
    if not is_there and (is_there is False or data is None):
        return faint("\N{EN DASH}")
    written = json.dumps(data, ensure_ascii=False)
    if len(written) > TEXT_LIMIT:
        written = f"{written[:TEXT_LIMIT]}\N{HORIZONTAL ELLIPSIS}"
    return code(written)


def cut(words: str, limit: int = TEXT_LIMIT) -> str:
    """Text of bounded length."""
    return words if len(words) <= limit else f"{words[:limit]}\N{HORIZONTAL ELLIPSIS}"


def and_more(shown: int, total: int, what: str) -> Markup:
    """The line below a truncated list; empty if it is complete."""
    if total <= shown:
        return Markup("")
    return element("div", faint(f"\N{HORIZONTAL ELLIPSIS} and {total - shown:,} more {what}"))


def size(length_bytes: int) -> str:
    """A size in bytes, for people."""
    amount = float(length_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 1000 or unit == "TB":
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    raise AssertionError
