"""Dimension labels: the coordinates of a range along one dimension of an array, as text."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import zarr

from versioned_zarr.errors import VersionedZarrError


def label_of(side: Any, path: str, dimension: str, start: int, stop: int) -> str:
    """The labels of the first and the last element of a range; positions without a coordinate.

    Args:
        side: a snapshot or session.
        path: the path of the array.
        dimension: the name of the dimension.
        start: the first position.
        stop: the position after the last one.
    """
    texts = _coordinates(side, path, dimension, start, stop) or (str(start), str(stop - 1))
    return texts[0] if texts[0] == texts[1] else " … ".join(texts)


def _coordinates(
    side: Any, path: str, dimension: str, start: int, stop: int
) -> tuple[str, str] | None:
    group = path.rpartition("/")[0]
    with suppress(VersionedZarrError, FileNotFoundError, ValueError, TypeError, KeyError):
        where = f"{group}/{dimension}" if group else dimension
        array = zarr.open_array(side.store, path=where, mode="r")
        if array.ndim == 1 and stop <= array.shape[0]:
            ends = np.array([array[start], array[stop - 1]])
            one, other = _decoded(ends, dict(array.attrs))
            return one, other
    return None


def _decoded(ends: Any, attributes: dict[str, Any]) -> tuple[str, ...]:
    """Two labels; times by the conventions of CF, if xarray is installed."""
    units = attributes.get("units")
    if isinstance(units, str) and " since " in units:
        with suppress(ImportError, ValueError, TypeError, OverflowError):
            import xarray

            named = {name: attributes[name] for name in ("units", "calendar") if name in attributes}
            found = xarray.decode_cf(xarray.Dataset({"t": ("t", ends, named)})).t.values
            return tuple(_time(each) for each in found)
    return tuple(_text(each) for each in ends)


def _time(value: Any) -> str:
    text = str(value).replace("T", " ")
    return text.partition(".")[0].removesuffix(" 00:00:00")


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float | np.floating) else str(value)
