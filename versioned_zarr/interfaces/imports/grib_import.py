"""GRIB import: the messages of a GRIB file, as cfgrib arranges them in datasets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from versioned_zarr.errors import InvalidInputError, NotFoundError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.imports.array_import import (
    ArraySource,
    import_arrays,
    state_of_file,
)
from versioned_zarr.interfaces.imports.import_request import ImportRequest, missing

if TYPE_CHECKING:
    import xarray as xr


def import_grib(request: ImportRequest) -> Commit:
    """Import a file; see `import_from`.

    Messages that fit into one dataset become the root group. Otherwise there is a group for each
    dataset, named by its type of level. No index file is written beside the source.
    """
    try:
        import cfgrib  # noqa: F401 - only whether it is there

        from versioned_zarr.interfaces.imports.dataset_arrays import arrays_of
    except (ImportError, RuntimeError) as error:  # cfgrib raises the latter without ecCodes
        raise missing("GRIB", "cfgrib and ecCodes", "grib") from error
    if not request.is_local:
        raise NotFoundError(
            f"no file {request.shown!r}; GRIB is read from local files, so download it first"
        )
    datasets = _named(_merged(_open(request.name)))
    documents, parts = arrays_of(datasets, request.name)
    full_name, state = os.path.abspath(request.name), state_of_file(request.name)
    return import_arrays(request, ArraySource(request.name, full_name, state, documents, parts))


def _open(path: str) -> list[xr.Dataset]:
    import cfgrib

    from versioned_zarr.interfaces.imports.dataset_arrays import RAW

    try:
        found = cfgrib.open_datasets(path, backend_kwargs={"indexpath": ""}, cache=False, **RAW)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInputError(f"cannot read {path!r} as GRIB: {error}") from error
    if not found:
        raise InvalidInputError(f"cannot read {path!r} as GRIB: it has no messages")
    return [_chunked(dataset) for dataset in found]


def _chunked(dataset: xr.Dataset) -> xr.Dataset:
    """Say that each field of a variable is a chunk, for a message holds one."""
    for variable in dataset.data_vars.values():
        count = 1 if variable.dims[-1:] == ("values",) else 2
        fields = [1] * (variable.ndim - count) + list(variable.shape[-count:])
        variable.encoding["chunksizes"] = tuple(fields)
    return dataset


def _merged(datasets: list[xr.Dataset]) -> list[xr.Dataset]:
    """The datasets, those in one that agree in all coordinates they share."""
    merged: list[xr.Dataset] = []
    for dataset in datasets:
        for number, other in enumerate(merged):
            if _fit(dataset, other):
                merged[number] = other.assign(dataset.data_vars).assign_coords(dataset.coords)
                break
        else:
            merged.append(dataset)
    return merged


def _fit(one: xr.Dataset, other: xr.Dataset) -> bool:
    """Whether two datasets have the same levels and equal coordinates, and no variable twice."""
    if _level(one) != _level(other) or set(one.data_vars) & set(other.data_vars):
        return False
    if set(one.coords) != set(other.coords):
        return False
    return all(one.coords[name].equals(other.coords[name]) for name in one.coords)


def _level(dataset: xr.Dataset) -> str:
    levels: Any = (each.attrs.get("GRIB_typeOfLevel") for each in dataset.data_vars.values())
    return next((level for level in levels if level), "unknown")


def _named(datasets: list[xr.Dataset]) -> dict[str, xr.Dataset]:
    """The datasets by the paths of their groups."""
    if len(datasets) == 1:
        return {"": datasets[0]}
    named: dict[str, xr.Dataset] = {}
    for dataset in datasets:
        name = level = _level(dataset)
        if level in dataset.coords and dataset.coords[level].ndim == 0:
            name = f"{level}_{float(dataset.coords[level].values):g}"
        number, first = 2, name
        while name in named:
            name, number = f"{first}_{number}", number + 1
        named[name] = dataset
    return named
