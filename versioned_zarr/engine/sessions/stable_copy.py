"""Stable copies: values that no one else can change while they are hashed and written."""

from __future__ import annotations

import numpy as np

from versioned_zarr.blocks.buffer_pool import BufferPool
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.ipld.unixfs import LEAF_SIZE
from versioned_zarr.storage.protocol import Bytes

_LIMIT_BYTES = 64 << 20
_BUFFERS = BufferPool(_LIMIT_BYTES)


def is_large(data: Bytes) -> bool:
    """Whether a copy would take so much memory that none should be made."""
    return isinstance(data, (bytearray, memoryview)) and len(data) > _LIMIT_BYTES


def copy_of(data: Bytes) -> memoryview:
    """A copy of the bytes that nobody else can change.

    Raises:
        InvalidInputError: the data is not bytes-like.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidInputError(f"a value must be bytes, not {type(data).__name__}")
    if type(data) is bytes:
        return memoryview(data)
    size = len(data)
    if size <= LEAF_SIZE or is_large(data):
        return memoryview(bytes(data))
    copy = _BUFFERS.take(size)
    # numpy releases the GIL while it copies, so other threads continue.
    np.frombuffer(copy, "u1")[:] = np.frombuffer(data, "u1")
    return copy.toreadonly()
