"""The commit graph: the lane of each commit, and the lines to its parents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from versioned_zarr.history.commit_object import Commit
from versioned_zarr.history.log import Log, Names
from versioned_zarr.terminal_text import escaped_line

SHOWN_COMMITS = 100
"""The number of commits that a log displays; iteration is not limited."""


@dataclass(frozen=True)
class Row:
    """One commit of a graph.

    Attributes:
        commit: the commit.
        lane: its column.
        lines: the lines from this row down to the next one, each as the lanes where it begins and
            ends.
        width: the number of lanes of the row and the lines below it.
    """

    commit: Commit
    lane: int
    lines: tuple[tuple[int, int], ...]
    width: int


def rows(commits: Iterable[Commit], *, is_linear: bool = False) -> list[Row]:
    """Lay out commits, newest first; the first-parent history of a branch keeps its lane.

    Args:
        commits: children before their parents.
        is_linear: draw one line through all of them, whatever their parents are.
    """
    if is_linear:
        found = list(commits)
        last = len(found) - 1
        return [Row(c, 0, ((0, 0),) if at < last else (), 1) for at, c in enumerate(found)]
    lanes: list[str | None] = []
    laid_out = []
    for commit in commits:
        if commit.cid not in lanes:
            _put(lanes, commit.cid)
        before, lane = list(lanes), lanes.index(commit.cid)
        lanes[lane] = None
        for number, parent in enumerate(commit.parents):
            if number == 0 and (parent not in lanes or lanes.index(parent) > lane):
                # The first parent continues in the same lane; lanes further right that need it join
                # here.
                lanes = [None if cid == parent else cid for cid in lanes]
                lanes[lane] = parent
            elif parent not in lanes:
                _put(lanes, parent)
        while lanes and lanes[-1] is None:
            lanes.pop()
        passing = [(at, lanes.index(cid)) for at, cid in enumerate(before) if cid in lanes and cid]
        own = [(lane, lanes.index(parent)) for parent in commit.parents]
        lines = tuple(dict.fromkeys([*passing, *own]))
        laid_out.append(Row(commit, lane, lines, max(len(before), len(lanes))))
    return laid_out


def _put(lanes: list[str | None], cid: str) -> None:
    if None in lanes:
        lanes[lanes.index(None)] = cid
    else:
        lanes.append(cid)


def text_lines(
    commits: Iterable[Commit], *, is_linear: bool = False
) -> list[tuple[str, Commit | None]]:
    """The graph as text: the drawing of each line, and its commit, if any."""
    lines: list[tuple[str, Commit | None]] = []
    above: tuple[tuple[int, int], ...] = ()
    for row in rows(commits, is_linear=is_linear):
        cells = [" "] * (2 * row.width)
        for _, lane in above:
            cells[2 * lane] = "|"
        cells[2 * row.lane] = "*"
        lines.append(("".join(cells).rstrip(), row.commit))
        if any(start != end for start, end in row.lines):
            lines.append((_slanted(row), None))
        above = row.lines
    return lines


def _slanted(row: Row) -> str:
    """The line below a commit where lanes begin, end or join."""
    cells = [" "] * (2 * row.width)
    for start, end in row.lines:
        if start == end:
            cells[2 * start] = "|"
    for start, end in row.lines:
        if start != end:
            right = max(start, end)
            for at in range(2 * min(start, end) + 1, 2 * right - 1):
                if cells[at] == " ":
                    cells[at] = "_"
            cells[2 * right - 1] = "\\" if end > start else "/"
    return "".join(cells).rstrip()


def one_line(commit: Commit, names: Names) -> str:
    """A commit in one line: a prefix of its CID, its refs, its summary."""
    here = ", ".join(names.get(commit.cid, ()))
    text = " ".join(filter(None, [commit.cid[:16], here and f"({here})", commit.summary]))
    return escaped_line(text)


def log_text(log: Log) -> str:
    """A log as text: its graph, and one line for each commit."""
    commits = list(islice(log.walk(), SHOWN_COMMITS + 1))
    names = log.names()
    lines = []
    for drawing, commit in text_lines(commits[:SHOWN_COMMITS], is_linear=log.is_linear):
        lines.append(f"{drawing} {one_line(commit, names)}" if commit else drawing)
    if len(commits) > SHOWN_COMMITS:
        lines.append("…")
    return "\n".join(lines)
