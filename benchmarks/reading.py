"""How arrays are read in all comparisons: whole, into memory that is there.

What a store costs is to be told, not what the system takes to find memory for the result: where a
virtual machine's host took idle memory back, that can be more than all else.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from zarr.core.buffer import default_buffer_prototype

from benchmarks.timing import Stopwatch


def read_whole(watch: Stopwatch, name: str, opened: Any, data: Any) -> None:
    """Time reading an array, as `opened()` gives it, and compare it with what it should be."""
    found = _there_for(data.shape, data.dtype.str)
    found[:] = 0
    out = default_buffer_prototype().nd_buffer.from_numpy_array(found)
    with watch.measure(name, data.nbytes):
        opened().get_basic_selection(..., out=out)
    assert np.array_equal(found, data)


@functools.cache
def _there_for(shape: tuple[int, ...], dtype: str) -> Any:
    return np.empty(shape, dtype)
