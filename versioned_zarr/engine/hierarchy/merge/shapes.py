"""Changing shapes of arrays: whether one only grew, and which chunks are inside both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNode


def has_grown(before: Any, after: Any) -> bool:
    """Whether a shape has the same dimensions as another and is not shorter along any."""
    if not (_is_shape(before) and _is_shape(after) and len(before) == len(after)):
        return False
    return all(new >= old for old, new in zip(before, after, strict=True))


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)


def are_inside(node: ZarrNode, keys: Iterable[str]) -> bool:
    """Whether all of these keys that are chunks of an array are inside its shape.

    A chunk outside the shape is hidden, and would appear if the array grew. False if unknown, for
    example if the chunk grid is not regular.
    """
    grid = node.grid_shape
    for key in keys:
        coordinates = node.coordinates(key)
        if coordinates is None:
            continue
        if grid is None or any(at >= end for at, end in zip(coordinates, grid, strict=True)):
            return False
    return True
