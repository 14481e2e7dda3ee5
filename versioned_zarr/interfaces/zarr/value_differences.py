"""Value differences: where two arrays differ, if NaN equals NaN and NaT NaT, and by how much."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_nan(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Where values are NaN or NaT."""
    if values.dtype.kind in "mM":
        return np.asarray(np.isnat(values))
    is_float = np.issubdtype(values.dtype, np.inexact)
    return np.asarray(np.isnan(values) if is_float else np.zeros(values.shape, bool))


def differing(old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays of one shape differ."""
    return np.asarray(old != new) & ~(is_nan(old) & is_nan(new))


def difference(old: NDArray[Any], new: NDArray[Any]) -> NDArray[np.float64]:
    """New - old of real numbers: infinite if it overflows; not rounded to 0 for large integers."""
    with np.errstate(all="ignore"):
        if old.dtype != new.dtype or old.dtype.kind not in "iu":
            return np.asarray(new.astype("f8") - old.astype("f8"))
        size = np.maximum(old, new).astype("u8") - np.minimum(old, new).astype("u8")
        return np.asarray(np.where(new >= old, 1.0, -1.0) * size.astype("f8"))
