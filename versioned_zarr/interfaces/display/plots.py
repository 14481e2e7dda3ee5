"""Plots: the difference of an array as a map, a histogram and a chunk map; and who changed it.

By matplotlib, an extra. Figures belong to no window: save them, or let a notebook show them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from versioned_zarr.errors import InvalidInputError, MissingDependencyError
from versioned_zarr.interfaces.zarr.value_differences import difference, differing
from versioned_zarr.terminal_text import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from versioned_zarr.engine.hierarchy.blame import Blame

MAX_ROWS: Final = 12
"""So many arrays fit into one figure."""
_MAX_PIXELS: Final = 1000
_MAX_SAMPLES: Final = 1 << 20
_MEASURED: Final = 1e-300, 1e300
"""Matplotlib draws differences between these. Others have a place on the map, but no size."""
_COMMITS: Final = 9
_BINS: Final = 61
Region = tuple[slice, ...]


class Plotted(Protocol):
    """The difference of an array; see `versioned_zarr.interfaces.zarr.array_diff.ArrayDiff`."""

    path: str
    old: Any
    new: Any

    @property
    def regions(self) -> list[Region]:
        """The changed chunks as slices of the array."""
        ...

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        ...

    def changed_parts(self) -> Iterator[tuple[Region, NDArray[Any], NDArray[Any]]]:
        """The changed chunks that both sides have, with their values on each."""
        ...


def figure_of(differences: Sequence[Plotted]) -> Figure:
    """A figure with a row for each array: where it changed, by how much, and in which chunks.

    The map has the last two dimensions. At each place it shows the largest difference (new - old)
    along the others, and in grey, where values changed whose difference is no finite number: to or
    from NaN or infinity. Reads the changed chunks once. The memory does not depend on the size of
    the array.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        InvalidInputError: there are no arrays, or more than `MAX_ROWS`.
    """
    if not 0 < len(differences) <= MAX_ROWS:
        raise InvalidInputError(
            f"{counted(len(differences), 'array')} cannot be plotted in one figure, which has "
            f"1 to {MAX_ROWS} rows; plot them one by one"
        )
    figure = _new_figure(12, 3.4 * len(differences))
    rows = figure.subplots(len(differences), 3, squeeze=False)
    for (where, how_much, chunks), shown in zip(rows, differences, strict=True):
        found = _Differences(shown)
        where.set_title(f"{shown.path or '/'}: largest change", fontsize=10)
        found.draw_map(figure, where)
        found.draw_histogram(how_much)
        _draw_chunks(figure, chunks, shown)
    return figure


def figure_of_blame(blame: Blame) -> Figure:
    """A map of the chunk grid with the commit that last changed each chunk, newest first.

    The last two dimensions of the grid; of the others, the newest change is shown. Beyond eight
    commits, the older ones share a colour.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    figure = _new_figure(9, 4.2)
    axes = figure.subplots()
    table = np.where(blame.table < 0, np.iinfo(np.int32).max, blame.table)
    grid = _fewer(_on_two(table, np.minimum))
    if not blame.commits:
        axes.set_title(f"{blame.path or '/'}: no chunks", fontsize=10)
        return figure
    shown = min(len(blame.commits), _COMMITS)
    colours = np.ma.array(np.minimum(grid, shown - 1), mask=grid == np.iinfo(np.int32).max)
    image = axes.imshow(
        colours, cmap="viridis_r", vmin=-0.5, vmax=shown - 0.5, aspect="auto",
        interpolation="nearest", extent=_extent_of(blame.grid_shape),
    )  # fmt: skip
    names = [
        f"{commit.time:%Y-%m-%d} {commit.summary[:32]} ({count})"
        for commit, count in blame.counts[:shown]
    ]
    if len(blame.commits) > shown:
        names[-1] = f"{len(blame.commits) - shown + 1} older commits"
    bar = figure.colorbar(image, ax=axes, ticks=range(shown), boundaries=np.arange(shown + 1) - 0.5)
    bar.ax.set_yticklabels(names, fontsize=8)
    bar.ax.invert_yaxis()
    axes.set_title(f"{blame.path or '/'}: last change of each chunk", fontsize=10)
    _name_axes(axes, [f"chunk along {name}" for name in blame.dimension_names])
    for axis in (axes.xaxis, axes.yaxis):
        _count_in_whole_numbers(axis)
    return figure


def _new_figure(width_in: float, height_in: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "plots need matplotlib: pip install 'versioned-zarr[plot]'",
            package="matplotlib",
            extra="plot",
        ) from error

    class Shown(Figure):
        """A figure that notebooks show, whatever backend pyplot has."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=100)
            return buffer.getvalue()

    return Shown(figsize=(width_in, height_in), layout="constrained")


class _Differences:
    """The differences of the elements of an array, on a map and as a sample.

    Args:
        shown: the array.
    """

    def __init__(self, shown: Plotted) -> None:
        self._names = shown.dimension_names
        last = shown.new if shown.new is not None else shown.old
        self._shape = tuple(max(1, size) for size in last.shape)
        sides = (1, 1, *self._shape)[-2:]
        self._steps = tuple(max(1, math.ceil(size / _MAX_PIXELS)) for size in sides)
        self.map = np.zeros(
            [math.ceil(size / step) for size, step in zip(sides, self._steps, strict=True)]
        )
        self._unmeasured = np.zeros(self.map.shape, bool)
        self._sample = _Sample()
        self._count = 0
        self.is_numeric = True
        for region, old, new in shown.changed_parts():
            self._add(region, old, new)

    def _add(self, region: Region, old: NDArray[Any], new: NDArray[Any]) -> None:
        self.is_numeric = self.is_numeric and all(
            np.issubdtype(each.dtype, np.number) for each in (old, new)
        )
        differs = differing(old, new)
        change = _change(old, new, differs, is_numeric=self.is_numeric)
        self._count += int(np.count_nonzero(differs))
        self._sample.add(change[change != 0])
        places = ((slice(0, 1),) * 2 + region)[-2:]
        pixels = [
            np.arange(place.start, place.stop) // step
            for place, step in zip(places, self._steps, strict=True)
        ]
        where = tuple(slice(each[0], each[-1] + 1) for each in pixels)
        rows, columns = pixels[0] - pixels[0][0], pixels[1] - pixels[1][0]
        self.map[where] = _larger(
            self.map[where], _drawn(_on_two(change, _larger), rows, columns, self.map[where].shape)
        )
        unmeasured = _on_two(differs & (change == 0), np.logical_or)
        self._unmeasured[where] |= (
            _drawn(unmeasured.astype("f8"), rows, columns, self.map[where].shape) != 0
        )

    def draw_map(self, figure: Figure, axes: Axes) -> None:
        """Draw the largest difference at each place, and where there is none but values changed."""
        unmeasured = self._unmeasured & (self.map == 0)
        if len(self._shape) < 2:
            positions = np.arange(self.map.shape[1]) * self._steps[1]
            axes.plot(positions, self.map[0], linewidth=1)
            axes.plot(positions[unmeasured[0]], self.map[0][unmeasured[0]], "x", color="grey")
            axes.axhline(0, color="grey", linewidth=0.5)
            axes.set_xlabel(self._names[-1] if self._names else "")
            return
        limit = float(np.abs(self.map).max(initial=0)) or 1.0
        extent = _extent_of(self._shape)
        image = axes.imshow(
            self.map, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", extent=extent,
            interpolation="nearest",
        )  # fmt: skip
        if unmeasured.any():
            axes.imshow(
                np.ma.masked_equal(unmeasured, value=False), cmap="gray", vmin=0, vmax=2,
                aspect="auto", extent=extent, interpolation="nearest",
            )  # fmt: skip
        figure.colorbar(image, ax=axes, label="new - old")
        _name_axes(axes, self._names)

    def draw_histogram(self, axes: Axes) -> None:
        """Draw how many elements changed by how much."""
        axes.set_title(f"{self._count:,} values changed", fontsize=10)
        samples = self._sample.values()
        if len(samples):
            limit = float(np.abs(samples).max())
            axes.hist(samples, bins=_BINS, range=(-limit, limit), log=True)
        axes.set_xlabel("new - old" if self.is_numeric else "changed")
        axes.set_ylabel("values" if self._sample.step == 1 else "values, of a sample")


class _Sample:
    """At most `_MAX_SAMPLES` numbers of a long sequence: every one, or every `step`-th.

    Attributes:
        step: the distance of two numbers.
    """

    def __init__(self) -> None:
        self.step = 1
        self._parts: list[NDArray[np.float64]] = []
        self._held = self._passed = 0

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Continue the sequence."""
        part = numbers[-self._passed % self.step :: self.step].copy()
        self._passed += len(numbers)
        self._parts.append(part)
        self._held += len(part)
        while self._held > _MAX_SAMPLES:
            thinner = self.values()[::2].copy()
            self._parts, self._held = [thinner], len(thinner)
            self.step *= 2

    def values(self) -> NDArray[np.float64]:
        """The numbers."""
        return np.concatenate(self._parts) if self._parts else np.zeros(0)


def _change(
    old: NDArray[Any], new: NDArray[Any], differs: NDArray[np.bool_], *, is_numeric: bool
) -> NDArray[np.float64]:
    """New - old, or 1 for values that are no real numbers; 0 if it is not `_MEASURED`."""
    if not is_numeric or np.iscomplexobj(old) or np.iscomplexobj(new):
        return differs.astype("f8")
    change = difference(old, new)
    size = np.abs(change)
    is_measured = differs & (size > _MEASURED[0]) & (size < _MEASURED[1])
    return np.where(is_measured, change, 0.0)


def _drawn(
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    shape: tuple[int, ...],
) -> NDArray[np.float64]:
    """Values on pixels: of those in one pixel, the largest."""
    drawn = np.zeros(shape)
    # Of several elements in one pixel, the last one that is assigned is the largest.
    order = np.argsort(np.abs(values), axis=None)
    i, j = np.unravel_index(order, values.shape)
    drawn[rows[i], columns[j]] = values.flat[order]
    return drawn


def _draw_chunks(figure: Figure, axes: Axes, shown: Plotted) -> None:
    """Draw how many chunks changed at each place of the last two dimensions of the grid.

    Several places share a pixel if there are more than `_MAX_PIXELS` along a dimension.
    """
    last = shown.new if shown.new is not None else shown.old
    regions = shown.regions
    step = tuple(last.shards or last.chunks) if regions else ()
    shape = tuple(max(1, size) for size in (1, 1, *last.shape)[-2:])
    sizes = [
        each * math.ceil(-(-size // each) / _MAX_PIXELS)
        for size, each in zip(shape, (1, 1, *step)[-2:], strict=True)
    ]
    grid = np.zeros([-(-size // each) for size, each in zip(shape, sizes, strict=True)])
    for region in regions:
        places = ((slice(0, 1),) * 2 + region)[-2:]
        grid[tuple(place.start // each for place, each in zip(places, sizes, strict=True))] += 1
    extent = _extent_of(shape)
    image = axes.imshow(
        np.ma.masked_equal(grid, 0), cmap="viridis", vmin=0, aspect="auto", extent=extent,
        interpolation="nearest",
    )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, label="changed chunks")
    _count_in_whole_numbers(bar.ax.yaxis)
    axes.set_title(f"{counted(len(regions), 'changed chunk')}", fontsize=10)
    _name_axes(axes, shown.dimension_names)


def _name_axes(axes: Axes, names: Sequence[str]) -> None:
    axes.set_xlabel(names[-1] if names else "")
    axes.set_ylabel(names[-2] if len(names) > 1 else "")
    if len(names) < 2:
        axes.set_yticks([])


def _count_in_whole_numbers(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def _larger(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    """The number with the larger absolute value, element by element."""
    return np.where(np.abs(one) >= np.abs(other), one, other)


def _on_two(values: NDArray[Any], choose: Any) -> NDArray[Any]:
    """An array reduced to its last two dimensions."""
    while values.ndim > 2:
        found = values[0]
        for each in values[1:]:
            found = choose(found, each)
        values = found
    return values.reshape((1, 1, *values.shape)[-2:])


def _fewer(grid: NDArray[Any]) -> NDArray[Any]:
    """The smallest number in each pixel of a grid with more than `_MAX_PIXELS` along an axis."""
    for axis, size in enumerate(grid.shape):
        if size > _MAX_PIXELS:
            starts = np.arange(0, size, math.ceil(size / _MAX_PIXELS))
            grid = np.minimum.reduceat(grid, starts, axis=axis)
    return grid


def _extent_of(shape: Sequence[int]) -> tuple[float, float, float, float]:
    """Where an image of the last two dimensions lies."""
    rows, columns = (1, 1, *shape)[-2:]
    return -0.5, columns - 0.5, rows - 0.5, -0.5
