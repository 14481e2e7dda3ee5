"""Copies of values that nobody else can change while they are hashed and written."""

from __future__ import annotations

import threading

import numpy as np
import numpy.typing as npt

from versioned_zarr.errors import InvalidInputError
from versioned_zarr.ipld.unixfs import LEAF_SIZE
from versioned_zarr.storage import Bytes

_SCRATCH = threading.local()
_SCRATCH_LIMIT_BYTES = 64 << 20


def copy_of(data: Bytes) -> memoryview:
    """The bytes as nobody else can change them, until this thread asks again.

    Memory that is used again costs a third of memory that is new.

    Raises:
        InvalidInputError: these are no bytes.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidInputError(f"a value must be bytes, not {type(data).__name__}")
    if type(data) is bytes:
        return memoryview(data)
    size = len(data)
    if size <= LEAF_SIZE or size > _SCRATCH_LIMIT_BYTES:
        return memoryview(bytes(data))
    scratch: npt.NDArray[np.uint8] | None = getattr(_SCRATCH, "buffer", None)
    if scratch is None or len(scratch) < size:
        scratch = _SCRATCH.buffer = np.empty(size, "u1")
    # As numpy copies it, other threads go on meanwhile.
    scratch[:size] = np.frombuffer(data, "u1")
    return scratch[:size].data.toreadonly()
