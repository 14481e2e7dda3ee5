"""Dataset arrays: the arrays of lazily opened xarray datasets, as an import writes them.

xarray itself writes a dataset with one element along each dimension into memory. Its documents,
with the real shapes, are those of the import: names of dimensions, attributes and data types are as
xarray encodes them.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import xarray as xr

from versioned_zarr.engine.hierarchy.zarr_nodes import V3, chunk_region, join
from versioned_zarr.errors import InvalidInputError, StorageError
from versioned_zarr.interfaces.imports.array_import import (
    ArrayPart,
    chunk_key,
    chunk_shape,
    documents_of,
    grid_of,
    new_documents,
)

RAW = {"mask_and_scale": False, "decode_times": False, "decode_timedelta": False}
"""Options of xarray that leave values as they are packed."""
_MAX_CHUNKS = 1 << 22
_TEXT_BYTES = 32
"""The estimated size of a text."""


def arrays_of(
    datasets: Mapping[str, xr.Dataset], name: str
) -> tuple[dict[str, bytes], dict[str, ArrayPart]]:
    """The documents and the parts of datasets by the paths of their groups.

    Args:
        datasets: opened with `RAW`; parents come before their children.
        name: the source in messages.

    Raises:
        InvalidInputError: a variable has a data type that Zarr does not have.
    """
    store, held = new_documents()
    parts: dict[str, ArrayPart] = {}
    shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    for group, dataset in datasets.items():
        path = group.strip("/")
        _check_types(dataset, path, name)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Consolidated metadata", UserWarning)
                _model(dataset).to_zarr(
                    store, group=path or None, mode="a", consolidated=False, zarr_format=3
                )
        except (TypeError, ValueError, NotImplementedError) as error:
            raise InvalidInputError(
                f"cannot import group {'/' + path!r} of {name!r}: {error}; convert or remove "
                "that variable, and import the file again"
            ) from error
        for variable_name, variable in dataset.variables.items():
            array = join(path, str(variable_name))
            shapes[array] = _shapes(variable)
            _check_count(array, *shapes[array], name)
            parts.update(_parts(array, variable, *shapes[array], name))
    documents = documents_of(held)
    for array, (shape, chunk) in shapes.items():
        key = join(array, V3)
        document = json.loads(documents[key])
        document["shape"] = list(shape)
        document["chunk_grid"]["configuration"]["chunk_shape"] = list(chunk)
        documents[key] = json.dumps(document, indent=2).encode()
    return documents, parts


def _check_count(array: str, shape: tuple[int, ...], chunk: tuple[int, ...], name: str) -> None:
    count = math.prod(grid_of(shape, chunk))
    if count > _MAX_CHUNKS:
        raise InvalidInputError(
            f"{array!r} of {name!r} has the shape {shape} and {count:,} chunks of {chunk}; at most "
            f"{_MAX_CHUNKS:,} are imported: give it larger chunks, for example with nccopy -c"
        )


def _check_types(dataset: xr.Dataset, path: str, name: str) -> None:
    for variable_name, variable in dataset.variables.items():
        if variable.dtype.kind not in "biufc" and not _is_text(variable.dtype):
            raise InvalidInputError(
                f"{join(path, str(variable_name))!r} of {name!r} has the compound data type "
                f"{variable.dtype}, which is not imported; convert or remove that variable, and "
                "import the file again"
            )


def _model(dataset: xr.Dataset) -> xr.Dataset:
    """The dataset with at most one element along each dimension, in memory."""
    small = dataset.isel({name: slice(0, 1) for name in dataset.sizes}).drop_encoding()
    small = small.drop_indexes([name for name in small.indexes if name in small.variables])
    for name, variable in small.variables.items():
        if _is_text(variable.dtype):
            attributes = {k: each for k, each in variable.attrs.items() if k != "_FillValue"}
            text = np.full(variable.shape, "", dtype=object)
            small[name] = xr.Variable(variable.dims, text, attributes)
        else:
            values = np.zeros(variable.shape, variable.dtype.newbyteorder("="))
            # Without None, xarray adds a fill value to variables that have none.
            encoding = {} if "_FillValue" in variable.attrs else {"_FillValue": None}
            small[name] = xr.Variable(variable.dims, values, variable.attrs, encoding)
    return small


def _is_text(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "OSUT"


def _shapes(variable: xr.Variable) -> tuple[tuple[int, ...], tuple[int, ...]]:
    own = variable.encoding.get("chunksizes")
    if own is None and (preferred := variable.encoding.get("preferred_chunks")):
        own = tuple(preferred.get(name, variable.sizes[name]) for name in variable.dims)
    if own is not None and len(own) != variable.ndim:
        own = own[: variable.ndim]  # those of characters have one more dimension
    item = _TEXT_BYTES if _is_text(variable.dtype) else variable.dtype.itemsize
    return variable.shape, chunk_shape(variable.shape, item, own)


def _parts(
    array: str, variable: xr.Variable, shape: tuple[int, ...], chunk: tuple[int, ...], name: str
) -> dict[str, ArrayPart]:
    item = _TEXT_BYTES if _is_text(variable.dtype) else variable.dtype.itemsize
    found = {}
    for numbers in product(*map(range, grid_of(shape, chunk))):
        region = chunk_region(numbers, chunk, shape)
        size = item * int(np.prod([each.stop - each.start for each in region], dtype=object))
        read = partial(_read, variable, region, f"{array!r} of {name!r}")
        found[chunk_key(array, numbers)] = ArrayPart(array, region, size, read)
    return found


def _read(variable: xr.Variable, region: tuple[slice, ...], what: str) -> np.ndarray[Any, Any]:
    try:
        values = np.asarray(variable[region].values)
    except (OSError, RuntimeError) as error:
        raise StorageError(
            f"cannot read {what}: {error}; run the import again to resume it", where=what
        ) from error
    if not _is_text(variable.dtype):
        if values.dtype.kind == "O":
            raise InvalidInputError(
                f"the values of {what} are lists, which is not imported; convert or remove that "
                "variable, and import the file again"
            )
        return values
    texts = [_text(each) for each in values.ravel()]
    return np.array(texts, dtype=object).reshape(values.shape)


def _text(value: Any) -> str:
    """A text; bytes that are not UTF-8 are taken for Latin-1, which netCDF files of old contain."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
