"""netCDF import: the groups of a netCDF or HDF5 file, through xarray."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any

import fsspec

from versioned_zarr.errors import InvalidInputError, NotFoundError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.imports.array_import import (
    ArraySource,
    import_arrays,
    state_of_file,
)
from versioned_zarr.interfaces.imports.import_request import ImportRequest, missing

_WHAT = "netCDF and HDF5"


def import_netcdf(request: ImportRequest) -> Commit:
    """Import a file; see `import_from`.

    Values are read lazily and stay packed, with the attributes that say how to unpack them. Texts
    of bytes become texts, because Zarr v3 has no data type for the former.
    """
    try:
        from versioned_zarr.interfaces.imports.dataset_arrays import arrays_of
    except ImportError as error:
        raise missing(_WHAT, "xarray", "netcdf") from error
    with ExitStack() as stack:
        datasets = _open(request, stack)
        name = request.shown
        documents, parts = arrays_of(datasets, name)
        full_name = os.path.abspath(name) if request.is_local else name
        state = state_of_file(request.name) if request.is_local else ""
        return import_arrays(request, ArraySource(name, full_name, state, documents, parts))


def _open(request: ImportRequest, stack: ExitStack) -> Mapping[str, Any]:
    """The datasets of the groups by their paths; a remote file is read in ranges."""
    import xarray as xr

    from versioned_zarr.interfaces.imports.dataset_arrays import RAW

    place: Any = request.name
    engine = None
    shown = request.shown
    try:
        if not request.is_local:
            if "://" not in request.name:
                raise NotFoundError(f"no file {request.shown!r}; check its name")
            file = fsspec.open(request.name, **request.storage_options)
            place, engine = stack.enter_context(file), "h5netcdf"
        options: dict[str, Any] = {**RAW, "decode_coords": False, "engine": engine}
        found = xr.open_groups(place, cache=False, **options)
    except (NotFoundError, FileNotFoundError) as error:
        message = f"cannot open {shown!r}: no such file; check its name"
        raise NotFoundError(message) from request.cause(error)
    except ImportError as error:
        raise missing(_WHAT, "netCDF4 or h5netcdf", "netcdf") from error
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        if not any(find_spec(package) for package in ("netCDF4", "h5netcdf")):
            raise missing(_WHAT, "netCDF4 or h5netcdf", "netcdf") from error
        message = f"cannot read {shown!r} as netCDF or HDF5: {request.said(error)}"
        raise InvalidInputError(message) from request.cause(error)
    for dataset in found.values():
        stack.callback(dataset.close)
    return found
