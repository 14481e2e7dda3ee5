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
    along the others. Reads the changed chunks once.

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
    for (where, how_much, chunks), difference in zip(rows, differences, strict=True):
        found = _Differences(difference)
        where.set_title(f"{difference.path or '/'}: largest change", fontsize=10)
        found.draw_map(figure, where)
        found.draw_histogram(how_much)
        _draw_chunks(figure, chunks, difference)
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
    grid = _on_two(table, np.minimum)
    shown = min(len(blame.commits), _COMMITS)
    colours = np.ma.masked_greater(np.minimum(grid, shown - 1 if shown else 0), len(blame.commits))
    colours = np.ma.array(colours, mask=grid == np.iinfo(np.int32).max)
    image = axes.imshow(
        colours, cmap="viridis_r", vmin=-0.5, vmax=max(shown, 1) - 0.5, aspect="auto",
        interpolation="nearest",
    )  # fmt: skip
    names = [
        f"{commit.time:%Y-%m-%d} {commit.summary[:32]} ({count})"
        for commit, count in blame.counts[: shown or None]
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
        difference: the array.
    """

    def __init__(self, difference: Plotted) -> None:
        self._names = difference.dimension_names
        last = difference.new if difference.new is not None else difference.old
        self._shape = tuple(max(1, size) for size in last.shape)
        sides = (1, 1, *self._shape)[-2:]
        self._steps = tuple(max(1, math.ceil(size / _MAX_PIXELS)) for size in sides)
        self.map = np.zeros(
            [math.ceil(size / step) for size, step in zip(sides, self._steps, strict=True)]
        )
        self._samples: list[NDArray[np.float64]] = []
        self._count = 0
        self.is_numeric = True
        for region, old, new in difference.changed_parts():
            self._add(region, old, new)

    def _add(self, region: Region, old: NDArray[Any], new: NDArray[Any]) -> None:
        kinds = (np.issubdtype(each.dtype, np.number) for each in (old, new))
        self.is_numeric = self.is_numeric and all(kinds)
        if self.is_numeric and not np.iscomplexobj(old) and not np.iscomplexobj(new):
            change = new.astype("f8") - old.astype("f8")
        else:
            change = (old != new).astype("f8")
        change = np.nan_to_num(change, nan=0.0, posinf=0.0, neginf=0.0)
        sample = change[change != 0]
        self._count += len(sample)
        self._samples.append(sample[:: 1 + len(sample) * 8 // _MAX_SAMPLES])
        places = ((slice(0, 1),) * 2 + region)[-2:]
        flat = _on_two(change, _larger)
        pixels = [
            np.arange(place.start, place.stop) // step
            for place, step in zip(places, self._steps, strict=True)
        ]
        there = self.map[tuple(slice(each[0], each[-1] + 1) for each in pixels)]
        drawn = np.zeros_like(there)
        # Of several elements in one pixel, the last one that is assigned is the largest.
        order = np.argsort(np.abs(flat), axis=None)
        rows, columns = np.unravel_index(order, flat.shape)
        drawn[pixels[0][rows] - pixels[0][0], pixels[1][columns] - pixels[1][0]] = flat.flat[order]
        there[:] = _larger(there, drawn)

    def draw_map(self, figure: Figure, axes: Axes) -> None:
        """Draw the largest difference at each place."""
        if len(self._shape) < 2:
            positions = np.arange(self.map.shape[1]) * self._steps[1]
            axes.plot(positions, self.map[0], linewidth=1)
            axes.axhline(0, color="grey", linewidth=0.5)
            axes.set_xlabel(self._names[-1] if self._names else "")
            return
        limit = float(np.abs(self.map).max(initial=0)) or 1.0
        extent = (-0.5, self._shape[-1] - 0.5, self._shape[-2] - 0.5, -0.5)
        image = axes.imshow(
            self.map, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto", extent=extent,
            interpolation="nearest",
        )  # fmt: skip
        figure.colorbar(image, ax=axes, label="new - old")
        _name_axes(axes, self._names)

    def draw_histogram(self, axes: Axes) -> None:
        """Draw how many elements changed by how much."""
        axes.set_title(f"{self._count:,} values changed", fontsize=10)
        samples = np.concatenate(self._samples) if self._samples else np.zeros(0)
        if len(samples):
            limit = float(np.abs(samples).max())
            axes.hist(samples, bins=_BINS, range=(-limit, limit), log=True)
        axes.set_xlabel("new - old" if self.is_numeric else "changed")
        axes.set_ylabel("values" if self._count == len(samples) else "values, of a sample")


def _draw_chunks(figure: Figure, axes: Axes, difference: Plotted) -> None:
    """Draw how many chunks changed at each place of the last two dimensions of the grid."""
    last = difference.new if difference.new is not None else difference.old
    regions = difference.regions
    step = tuple(last.shards or last.chunks) if regions else ()
    shape = tuple(max(1, size) for size in (1, 1, *last.shape)[-2:])
    sizes = (1, 1, *step)[-2:]
    grid = np.zeros(
        [max(1, math.ceil(size / each)) for size, each in zip(shape, sizes, strict=True)]
    )
    for region in regions:
        places = ((slice(0, 1),) * 2 + region)[-2:]
        grid[tuple(place.start // each for place, each in zip(places, sizes, strict=True))] += 1
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    image = axes.imshow(
        np.ma.masked_equal(grid, 0), cmap="viridis", vmin=0, aspect="auto", extent=extent,
        interpolation="nearest",
    )  # fmt: skip
    bar = figure.colorbar(image, ax=axes, label="changed chunks")
    _count_in_whole_numbers(bar.ax.yaxis)
    axes.set_title(f"{counted(len(regions), 'changed chunk')}", fontsize=10)
    _name_axes(axes, difference.dimension_names)


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
