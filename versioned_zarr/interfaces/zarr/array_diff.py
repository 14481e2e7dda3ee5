"""The difference of one array in values: which elements changed, where, and by how much.

Only chunks that differ are read, one of each side at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray

from versioned_zarr.engine.hierarchy.diff import Diff
from versioned_zarr.engine.hierarchy.node_diff import NodeDiff
from versioned_zarr.engine.hierarchy.zarr_nodes import Region, chunk_region, named_dimensions
from versioned_zarr.errors import InvalidInputError, KeyNotFoundError
from versioned_zarr.interfaces.display.plots import figure_of
from versioned_zarr.interfaces.zarr.dimension_labels import label_of
from versioned_zarr.interfaces.zarr.open import require_xarray
from versioned_zarr.interfaces.zarr.open import to_xarray as open_dataset
from versioned_zarr.interfaces.zarr.value_differences import difference, differing, is_nan

if TYPE_CHECKING:
    import xarray
    from matplotlib.figure import Figure

_OF_ENCODING: Final = frozenset(
    {"chunks", "shards", "codecs", "compressor", "filters", "order", "zarr_format"}
    | {"chunk_key_encoding", "dimension_separator"}
)
"""The metadata fields that say how values are stored, not what they are."""


@dataclass(frozen=True)
class ValueChanges:
    """How the elements of an array changed, in the part that both sides have.

    NaN and NaN are equal. Differences are absolute, of numbers only, without NaN.

    Attributes:
        compared: the number of elements that were read and compared.
        changed: the number of those that differ.
        largest: the largest difference; None if no two numbers differ.
        mean: the mean difference of the numbers that differ; None likewise.
        nan_came: the number of elements that became NaN.
        nan_went: the number of elements that were NaN.
        first: the position of the first element that differs, in row-major order; None if none.
        last: that of the last one.
        added: the number of elements that only the new side has.
        removed: the number of elements that only the old side has.
    """

    compared: int = 0
    changed: int = 0
    largest: float | None = None
    mean: float | None = None
    nan_came: int = 0
    nan_went: int = 0
    first: tuple[int, ...] | None = None
    last: tuple[int, ...] | None = None
    added: int = 0
    removed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain JSON data."""
        places = {name: getattr(self, name) for name in ("first", "last")}
        lists = {name: None if at is None else list(at) for name, at in places.items()}
        return {**self.__dict__, **lists}

    def __str__(self) -> str:
        if not self.changed:
            parts = [f"values equal ({self.compared:,} compared)"] if self.compared else []
        else:
            parts = [f"{self.changed:,} of {self.compared:,} values changed"]
            if self.largest is not None and self.mean is not None:
                parts.append(f"by up to {self.largest:.6g}, {self.mean:.6g} on average")
            parts.append(f"from {list(self.first or ())} to {list(self.last or ())}")
        counts = (
            ("became NaN", self.nan_came),
            ("were NaN", self.nan_went),
            ("added", self.added),
            ("removed", self.removed),
        )
        parts += [f"{count:,} {what}" for what, count in counts if count]
        return "; ".join(parts)


class ArrayDiff:
    """The difference of one array. From `diff["air/temperature"]`.

    Attributes:
        path: the path of the array.
        node: the difference in metadata and chunks.
        old: the array on the old side, opened lazily; None if it is not there.
        new: the array on the new side; None likewise.
    """

    def __init__(self, node: NodeDiff, old: Any, new: Any) -> None:
        self.path, self.node = node.path, node
        self._sides = old, new
        self.old, self.new = (_array(side, node.path) for side in (old, new))

    @property
    def is_reencoded(self) -> bool:
        """Whether the array is stored in another way: other chunks, codecs or format.

        False if only one side has the array.
        """
        return self.node.how == "changed" and bool(_OF_ENCODING.intersection(self.node.fields))

    @property
    def regions(self) -> list[Region]:
        """The changed chunks as slices of the array, in row-major order.

        Of shards, the inner chunks that changed, which reads the indexes of the shards. If the
        array is stored in another way, all of its chunks.
        """
        last = self.new if self.new is not None else self.old
        assert last is not None
        if self.is_reencoded:
            return [*_grid(last.shape, last.shards or last.chunks)]
        found: set[tuple[tuple[int, ...], tuple[int, ...]]] = set()
        for chunk in self.node.chunks:
            inner = chunk.inner_coordinates if last.shards is not None else None
            step = last.chunks if inner is not None else last.shards or last.chunks
            found.update((at, step) for at in (inner or (chunk.coordinates,)))
        regions = [chunk_region(at, step, last.shape) for at, step in found]
        return sorted(
            (region for region in regions if all(each.start < each.stop for each in region)),
            key=lambda region: tuple(each.start for each in region),
        )

    @property
    def labels(self) -> dict[str, str]:
        """The range of each dimension in which chunks changed, by its name.

        With the labels of its coordinate, if there is one: `time 2000-01-16 … 2019-12-16`.
        Otherwise with positions: `time 1680 … 1919`.
        """
        regions = self.regions
        old, new = self._sides
        last, side = (self.old, old) if self.new is None else (self.new, new)
        assert last is not None
        names = self.dimension_names
        found = {}
        for axis in range(last.ndim if regions else 0):
            start = min(region[axis].start for region in regions)
            stop = max(region[axis].stop for region in regions)
            found[names[axis]] = label_of(side, self.path, names[axis], start, stop)
        return found

    @property
    def growth(self) -> dict[str, tuple[int, int]]:
        """The old and new sizes of the dimensions that grew or shrank, by name or axis."""
        if self.old is None or self.new is None or self.old.ndim != self.new.ndim:
            return {}
        sizes = zip(self.old.shape, self.new.shape, strict=True)
        named = zip(_dimension_names(self.new), sizes, strict=True)
        return {name: (one, other) for name, (one, other) in named if one != other}

    def values(self) -> ValueChanges:
        """Compare the elements of the changed chunks. O(their bytes); memory of two chunks.

        Raises:
            InvalidInputError: the sides have different numbers of dimensions.
        """
        old, new = self.old, self.new
        if old is None or new is None:
            only = new if old is None else old
            count = 0 if only is None else only.size
            return ValueChanges(added=count) if old is None else ValueChanges(removed=count)
        if old.ndim != new.ndim:
            raise InvalidInputError(
                f"{self.path!r} has {old.ndim} dimensions on the old side and {new.ndim} on the "
                "new one, so its values cannot be compared"
            )
        tally = _Tally()
        for region, before, after in self.changed_parts():
            tally.compare(before, after, region)
        common = tuple(map(min, old.shape, new.shape))
        overlap = int(np.prod(common)) if common else 1
        return tally.result(added=new.size - overlap, removed=old.size - overlap)

    def changed_parts(self) -> Iterator[tuple[Region, NDArray[Any], NDArray[Any]]]:
        """The changed chunks, one after the other, with their old and new values.

        Only the part of each that both sides have; nothing if only one side has the array, or if
        their numbers of dimensions differ. Yields the region, the old values and the new values.
        """
        old, new = self.old, self.new
        if old is None or new is None or old.ndim != new.ndim:
            return
        common = tuple(map(min, old.shape, new.shape))
        for region in self.regions:
            part = tuple(
                slice(at.start, min(at.stop, end)) for at, end in zip(region, common, strict=True)
            )
            if all(each.start < each.stop for each in part):
                yield part, np.asarray(old[part]), np.asarray(new[part])

    def plot(self) -> Figure:
        """A figure with a map of the differences, their histogram, and the changed chunks.

        The maps have the last two dimensions; at each place, the largest difference along the
        others. The figure belongs to no window: a notebook shows it, and `savefig` writes it to a
        file. Reads the changed chunks once.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        return figure_of([self])

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """The names of the dimensions; `axis N` for those without one."""
        last = self.new if self.new is not None else self.old
        assert last is not None
        return _dimension_names(last)

    def to_xarray(self) -> xarray.Dataset:
        """A Dataset with the variables `old`, `new` and `difference` (new - old), opened lazily.

        In the part that both sides have; with the coordinates of the new side. With Dask installed,
        the variables are lazy.

        Raises:
            MissingDependencyError: xarray is not installed.
            KeyNotFoundError: only one side has the array.
        """
        require_xarray("to_xarray")
        import xarray

        if self.old is None or self.new is None:
            raise KeyNotFoundError(f"only one side has {self.path!r}", key=self.path)
        group, _, name = self.path.rpartition("/")
        chunks: dict[str, int] | None = {} if _has_dask() else None
        one, other = (
            open_dataset(side, group or None, chunks=chunks)[name or "/"] for side in self._sides
        )
        sizes = {dim: slice(0, min(one.sizes[dim], other.sizes[dim])) for dim in one.dims}
        one, other = one.isel(sizes), other.isel(sizes)
        found = xarray.Dataset({"old": (one.dims, one.data, one.attrs), "new": other})
        if np.issubdtype(one.dtype, np.number) and np.issubdtype(other.dtype, np.number):
            found["difference"] = found["new"] - found["old"]
        return found

    def to_dict(self) -> dict[str, Any]:
        """The difference with its values as plain JSON data."""
        return {
            **self.node.to_dict(),
            "labels": self.labels,
            "growth": {name: list(sizes) for name, sizes in self.growth.items()},
            "values": self.values().to_dict(),
        }

    def __str__(self) -> str:
        """The changed chunks, where they are, and how the values changed."""
        where = ", ".join(
            f"{name}{':' if ' ' in name else ''} {text}" for name, text in self.labels.items()
        )
        grew = [
            f"{name} {'grew' if one < other else 'shrank'} {one} → {other}"
            for name, (one, other) in self.growth.items()
        ]
        changes = self.values() if self._is_comparable else ValueChanges()
        is_same = self.is_reencoded and not changes.changed and not grew
        lines = [
            f"{self.path or '/'}: {self.node.how}",
            *(f"    {each}" for each in grew),
            *([f"    {where}"] if where and not is_same else []),
            *(
                [f"    re-encoded, {changes}"]
                if is_same
                else [f"    {changes}"]
                if str(changes)
                else []
            ),
        ]
        return "\n".join(lines)

    @property
    def _is_comparable(self) -> bool:
        return self.old is None or self.new is None or self.old.ndim == self.new.ndim

    def __repr__(self) -> str:
        return f"<ArrayDiff {self.path or '/'}: {self.node.how}>"


class _Tally:
    """Counts while chunks are compared."""

    def __init__(self) -> None:
        self._compared = self._changed = self._numbers = self._came = self._went = 0
        self._largest: float | None = None
        self._sum = 0.0
        self._first: tuple[int, ...] | None = None
        self._last: tuple[int, ...] | None = None

    def compare(self, old: NDArray[Any], new: NDArray[Any], region: Region) -> None:
        """Compare one part of both sides."""
        self._compared += old.size
        nan_old, nan_new = is_nan(old), is_nan(new)
        differs = differing(old, new)
        count = int(np.count_nonzero(differs))
        if not count:
            return
        self._changed += count
        self._came += int(np.count_nonzero(nan_new & ~nan_old))
        self._went += int(np.count_nonzero(nan_old & ~nan_new))
        start = tuple(each.start for each in region)
        places = np.argwhere(differs)
        ends = (places[0], places[-1])
        first, last = (
            tuple(int(a) + int(b) for a, b in zip(start, at, strict=True)) for at in ends
        )
        self._first = first if self._first is None else min(self._first, first)
        self._last = last if self._last is None else max(self._last, last)
        are_numbers = differs & ~nan_old & ~nan_new
        self._measure(old[are_numbers], new[are_numbers])

    def _measure(self, old: NDArray[Any], new: NDArray[Any]) -> None:
        if not all(np.issubdtype(each.dtype, np.number) for each in (old, new)):
            return
        if np.iscomplexobj(old) or np.iscomplexobj(new):
            with np.errstate(all="ignore"):
                sizes = np.abs(new.astype("c16") - old.astype("c16"))
        else:
            sizes = np.abs(difference(old, new))
        sizes = sizes[~np.isnan(sizes)]
        if len(sizes):
            self._numbers += len(sizes)
            with np.errstate(over="ignore"):
                self._sum += float(sizes.sum())
            largest = float(sizes.max())
            self._largest = largest if self._largest is None else max(self._largest, largest)

    def result(self, *, added: int, removed: int) -> ValueChanges:
        """What was counted."""
        mean = self._sum / self._numbers if self._numbers else None
        return ValueChanges(
            self._compared,
            self._changed,
            self._largest,
            mean,
            self._came,
            self._went,
            self._first,
            self._last,
            added,
            removed,
        )


def array_diff(diff: Diff, path: str) -> ArrayDiff:
    """The difference of one array.

    Raises:
        KeyNotFoundError: no array at this path differs.
    """
    node = diff.nodes.get(path.strip("/"))
    if node is None or not node.is_array:
        what = "no array differs" if node is None else "there is a group, not an array,"
        names = ", ".join(repr(each) for each in list(diff.arrays)[:8])
        raise KeyNotFoundError(
            f"{what} at {path!r} between {diff.old_name} and {diff.new_name}; arrays that differ: "
            f"{names or 'none'}",
            key=path,
        )
    return ArrayDiff(node, *diff.sides())


def _array(side: Any, path: str) -> zarr.Array[Any] | None:
    try:
        return zarr.open_array(side.store, path=path, mode="r")
    except (FileNotFoundError, zarr.errors.NodeTypeValidationError, ValueError):
        return None


def _dimension_names(array: zarr.Array[Any]) -> tuple[str, ...]:
    """The names of the dimensions; `axis N` for those without one."""
    given = getattr(array.metadata, "dimension_names", None)
    return named_dimensions(given or array.attrs.get("_ARRAY_DIMENSIONS"), array.ndim)


def _grid(shape: tuple[int, ...], step: tuple[int, ...]) -> Iterator[Region]:
    counts = [-(-size // each) for size, each in zip(shape, step, strict=True)]
    for at in np.ndindex(*counts):
        yield chunk_region(at, step, shape)


def _has_dask() -> bool:
    try:
        import dask.array  # noqa: F401 - an extra
    except ImportError:
        return False
    return True
