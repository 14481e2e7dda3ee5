"""SVG images: the graph of a history, and the changed chunks of an array.

Both have a limited size, however long the history and however many chunks there are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import ceil, log10, prod
from typing import TypeGuard

from versioned_zarr.engine.hierarchy.node_diff import ChunkChange
from versioned_zarr.interfaces.display.graph import Row
from versioned_zarr.interfaces.display.html import (
    COLOUR_OF_CHANGE,
    COLOURS_OF_LANES,
    Markup,
    element,
    faint,
    text,
)

ROW_HEIGHT_PX = 26
_LANE_WIDTH_PX = 16
_LANES_LIMIT = 24

CELLS_DOWN, CELLS_ACROSS = 24, 48
"""The maximum number of cells of a chunk map."""
_CELL_PX, _CELLS_WIDTH_PX, _CELLS_HEIGHT_PX = 14, 336, 168
_AXIS_PX, _LETTER_PX, _LABEL = 16, 7, 24
_LARGEST_WRITTEN = 10**18
_STRENGTHS = (0.35, 0.55, 0.8, 1.0)


def graph(rows: list[Row]) -> Markup:
    """The lines and dots of a history, one row of `ROW_HEIGHT_PX` for each commit."""
    lanes = min(_LANES_LIMIT, max((row.width for row in rows), default=1))
    parts: list[Markup] = []
    for number, row in enumerate(rows):
        for start, end in row.lines:
            if max(start, end) < _LANES_LIMIT:
                parts.append(_line(number, start, end, is_last=number == len(rows) - 1))
    for number, row in enumerate(rows):
        x, y = _at(min(row.lane, lanes - 1), number)
        is_merge = len(row.commit.parents) > 1
        parts.append(
            element("circle", cx=x, cy=y, r=4 if is_merge else 4.5, fill=_lane_colour(row.lane))
        )
    width, height = lanes * _LANE_WIDTH_PX, len(rows) * ROW_HEIGHT_PX
    return _svg(width, height, "the graph of the history", *parts)


def _line(number: int, start: int, end: int, *, is_last: bool) -> Markup:
    x, y = _at(start, number)
    to_x, to_y = _at(end, number + 1)
    colour = _lane_colour(max(start, end))
    if is_last:  # the history continues, and is not shown
        return element(
            "path", d=f"M{x} {y}V{y + 11}", stroke=colour, stroke_dasharray="2 2", fill="none"
        )
    middle = (y + to_y) / 2
    curve = (
        f"M{x} {y}V{to_y}" if x == to_x else f"M{x} {y}C{x} {middle} {to_x} {middle} {to_x} {to_y}"
    )
    return element("path", d=curve, stroke=colour, stroke_width=1.8, fill="none")


def _at(lane: int, number: int) -> tuple[float, float]:
    return (lane + 0.5) * _LANE_WIDTH_PX, (number + 0.5) * ROW_HEIGHT_PX


def _lane_colour(lane: int) -> str:
    return COLOURS_OF_LANES[lane % len(COLOURS_OF_LANES)]


def is_grid(shape: object) -> TypeGuard[tuple[int, ...]]:
    """Whether there is a valid grid to draw: documents may contain anything."""
    return isinstance(shape, tuple) and all(type(size) is int and size >= 0 for size in shape)


def chunk_map(
    chunks: Iterable[ChunkChange], grid_shape: tuple[int, ...], names: Sequence[str] = ()
) -> Markup:
    """The chunk grid with its changes, along the first two dimensions with several chunks.

    A single dimension is horizontal. Further dimensions are summed, and so are neighboring chunks
    if the grid has more than `CELLS_DOWN` by `CELLS_ACROSS` chunks: the stronger the color, the
    larger the fraction of a cell's chunks that changed. Chunks outside the grid (of an array that
    shrank) are shown as well. O(chunks); a few kilobytes.

    Args:
        chunks: the chunks that changed.
        grid_shape: the number of chunks along each dimension.
        names: the names of the dimensions, which label the axes with the first and last chunk.
    """
    changed = list(chunks)
    cells, (down, across), depth, dimensions = _flatten(changed, grid_shape)
    # In integers: documents may have shapes that do not fit a float.
    step_down, step_across = -(-down // CELLS_DOWN), -(-across // CELLS_ACROSS)
    rows, columns = -(-down // step_down), -(-across // step_across)
    counts: dict[tuple[int, int], dict[str, int]] = {}
    for chunk, (row, column) in zip(changed, cells, strict=True):
        cell = counts.setdefault((row // step_down, column // step_across), {})
        cell[chunk.how] = cell.get(chunk.how, 0) + 1
    height = max(3, min(_CELL_PX, _CELLS_HEIGHT_PX // rows))
    width = max(3, min(_CELL_PX, _CELLS_WIDTH_PX // columns))
    in_a_cell = step_down * step_across * depth
    shapes: dict[tuple[str, float], list[str]] = {}
    for (row, column), by_how in sorted(counts.items()):
        how = max(by_how, key=lambda name: by_how[name])
        strength = _strength(sum(by_how.values()) / in_a_cell)
        square = f"M{column * width} {row * height}h{width}v{height}h-{width}z"
        shapes.setdefault((how, strength), []).append(square)
    painted = [
        element("path", d="".join(squares), fill=COLOUR_OF_CHANGE[how], fill_opacity=strength)
        for (how, strength), squares in sorted(shapes.items())
    ]
    lines = [f"M0 {row * height}H{columns * width}" for row in range(rows + 1)]
    lines += [f"M{column * width} 0V{rows * height}" for column in range(columns + 1)]
    grid = element(
        "path", d="".join(lines), stroke="currentColor", stroke_opacity=0.25, fill="none"
    )
    said = _say(len(changed), grid_shape, in_a_cell)
    wide, high = columns * width + 1, rows * height + 1
    row_name, column_name = (
        names[at] if at is not None and at < len(names) else "" for at in dimensions
    )
    left, below = (_AXIS_PX if name else 0 for name in (row_name, column_name))
    labels = [*_label_across(column_name, across, wide, high)]
    if row_name:
        # Its first chunk is at the top: the text is read downwards.
        turned = element("g", *_label_across(row_name, down, high, 0), transform="rotate(90)")
        labels.append(turned)
    inside = element("g", *painted, grid, *labels, transform=f"translate({left} 0)")
    width_px = left + max(wide, _LETTER_PX * len(_label(column_name)))
    height_px = max(high + below, _LETTER_PX * len(_label(row_name)))
    picture = _svg(width_px, height_px, said, inside)
    return element("div", picture, faint(said))


def _label(name: str) -> str:
    return name if len(name) <= _LABEL else f"{name[:_LABEL]}\N{HORIZONTAL ELLIPSIS}"


def _label_across(name: str, count: int, length_px: int, below_px: int) -> Iterator[Markup]:
    """The name of a dimension along an axis, between the numbers of its first and last chunk."""
    if not name:
        return
    last, shown = _number(count - 1), _label(name)
    is_wide = _LETTER_PX * len(shown) > length_px
    places = [(shown, 0.0, "start") if is_wide else (shown, length_px / 2, "middle")]
    if count > 1 and length_px > _LETTER_PX * (len(shown) + len(last) + 4):
        places += [("0", 1, "start"), (last, length_px - 1, "end")]
    for words, x, anchor in places:
        yield element(
            "text", words, x=x, y=below_px + _AXIS_PX - 4, text_anchor=anchor, font_size=11,
            fill="currentColor", fill_opacity=0.75,
        )  # fmt: skip


def _say(changed: int, grid_shape: tuple[int, ...], in_a_cell: int) -> str:
    times = " \N{MULTIPLICATION SIGN} "
    shape = f" ({times.join(map(_number, grid_shape))})" if len(grid_shape) > 1 else ""
    said = f"{changed:,} of {_number(prod(grid_shape))} chunks{shape} differ"
    return f"{said}; each cell represents {_number(in_a_cell)}" if in_a_cell > 1 else said


def _number(count: int) -> str:
    """A number as short text, even if it is too large for Python to print."""
    if count < _LARGEST_WRITTEN:
        return f"{count:,}"
    return f"about 10^{round(count.bit_length() * log10(2))}"


def _flatten(
    changed: list[ChunkChange], grid_shape: tuple[int, ...]
) -> tuple[list[tuple[int, int]], tuple[int, int], int, tuple[int | None, int | None]]:
    """The row and column of each chunk, their ranges, the chunks per cell, and the dimensions."""
    # An array may have replaced one of another rank: then there are chunks of both.
    rank = max([len(grid_shape), *(len(chunk.coordinates) for chunk in changed)])
    shape = [*grid_shape, *[1] * (rank - len(grid_shape))]
    coordinates = [(*c.coordinates, *[0] * (rank - len(c.coordinates))) for c in changed]
    for chunk in coordinates:
        for at, place in enumerate(chunk):
            shape[at] = max(shape[at], place + 1)
    long = [at for at, length in enumerate(shape) if length > 1]
    if len(long) < 2:
        only = long[0] if long else None
        cells = [(0, 0 if only is None else chunk[only]) for chunk in coordinates]
        return cells, (1, 1 if only is None else shape[only]), 1, (None, only)
    row, column = long[:2]
    depth = prod(shape[at] for at in long[2:])
    cells = [(chunk[row], chunk[column]) for chunk in coordinates]
    return cells, (shape[row], shape[column]), depth, (row, column)


def _strength(share: float) -> float:
    """One of four opacities, on a logarithmic scale, so that a single changed chunk is visible."""
    if share >= 1:
        return _STRENGTHS[-1]
    if share <= 0:  # too small for a float
        return _STRENGTHS[0]
    place = len(_STRENGTHS) - 1 + ceil(log10(share)) - 1
    return _STRENGTHS[max(0, place)]


def _svg(width: float, height: float, label: str, *children: Markup) -> Markup:
    return element(
        "svg",
        element("title", text(label)),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        role="img",
        style="display:block;flex:none",
    )
