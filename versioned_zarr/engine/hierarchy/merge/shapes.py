"""Shapes of arrays that change: whether one only grew, and which chunks lie in both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNode


def has_grown(before: Any, after: Any) -> bool:
    """Whether a shape has the same dimensions as another and is shorter along none."""
    if not (_is_shape(before) and _is_shape(after) and len(before) == len(after)):
        return False
    return all(new >= old for old, new in zip(before, after, strict=True))


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)


def are_inside(node: ZarrNode, keys: Iterable[str]) -> bool:
    """Whether all of these keys that are chunks of an array lie in its shape.

    A chunk behind the shape is out of sight, and would come to light in an array that grew.
    False if nobody can tell, as with a chunk grid that is not regular.
    """
    grid = node.grid_shape
    for key in keys:
        coordinates = node.coordinates(key)
        if coordinates is None:
            continue
        if grid is None or any(at >= end for at, end in zip(coordinates, grid, strict=True)):
            return False
    return True
