"""Source formats: which format a source of an import has, by its content or else by its name."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Final

from versioned_zarr.engine.hierarchy.zarr_nodes import NODE_DOCUMENTS
from versioned_zarr.engine.marker import MARKER
from versioned_zarr.urls import split_url, without_user

FORMATS: Final = {
    "zarr": "Zarr (a folder or a zip file)",
    "netcdf": "netCDF and HDF5",
    "grib": "GRIB",
    "n5": "N5",
    "icechunk": "Icechunk",
    "git": "the history of a Zarr folder in git or DVC",
}
"""The formats that can be imported, and what each one is."""
TIFF: Final = "tiff"
_SUFFIXES: Final = {
    **dict.fromkeys((".zarr", ".zip", ".ozx"), "zarr"),
    **dict.fromkeys((".nc", ".nc4", ".cdf", ".netcdf", ".h5", ".hdf", ".hdf5", ".he5"), "netcdf"),
    **dict.fromkeys((".grib", ".grib2", ".grb", ".grb2"), "grib"),
    **dict.fromkeys((".tif", ".tiff"), TIFF),
    ".n5": "n5",
    ".icechunk": "icechunk",
}
_MAGIC: Final = {
    b"PK\x03\x04": "zarr",
    b"\x89HDF": "netcdf",
    b"CDF\x01": "netcdf",
    b"CDF\x02": "netcdf",
    b"CDF\x05": "netcdf",
    b"GRIB": "grib",
    b"II*\0": TIFF,
    b"MM\0*": TIFF,
    b"II+\0": TIFF,
    b"MM\0+": TIFF,
}


def format_of(source: str) -> str | None:
    """The format of a path or URL: a name in `FORMATS`, or TIFF; None if unknown.

    Reads the first bytes of a local file and lists a local folder; judges a URL by its name.
    """
    found = None
    if os.path.isdir(source):
        found = _format_of_folder(source)
    elif os.path.isfile(source):
        with suppress(OSError), open(source, "rb") as file:
            found = _MAGIC.get(file.read(4))
    return found or _SUFFIXES.get(_suffix(source))


def _format_of_folder(folder: str) -> str | None:
    if any(os.path.exists(os.path.join(folder, name)) for name in NODE_DOCUMENTS):
        return "zarr"
    try:
        names = set(os.listdir(folder))
    except OSError:
        return None
    if "snapshots" in names and names & {"repo", "refs"}:
        return "icechunk"
    below = ("", *sorted(names)[:100])  # the root group needs no attributes
    is_n5 = any(os.path.isfile(os.path.join(folder, name, "attributes.json")) for name in below)
    return "n5" if is_n5 else None


def _suffix(source: str) -> str:
    """The suffix of the name of a path or URL, without a query."""
    name = source.rpartition("::")[2]
    if "://" in name and not os.path.exists(source):
        name = split_url(name).path
    return os.path.splitext(name.rstrip("/"))[1].lower()


def supported() -> str:
    """The formats that can be imported, as a list in a sentence."""
    return ", ".join(f"{name} ({what})" for name, what in FORMATS.items())


def advice(source: str) -> str:
    """What to do with a source that has no Zarr; begins with what it is, as far as known."""
    found, shown = format_of(source), without_user(source)
    if found == TIFF:
        return (
            f"{shown!r} is TIFF, which is not imported; convert it, for example with "
            "`gdal_translate -of ZARR`, and import that"
        )
    if found in FORMATS and found != "zarr":
        return f"{shown!r} is {found}, not Zarr; import it with vz.import_from(repo, {shown!r})"
    if "://" not in source and "::" not in source and not os.path.exists(source):
        return f"no file or folder {source!r}; check its name"
    if os.path.exists(os.path.join(source, MARKER)):
        return (
            f"{source!r} is a repository, not plain Zarr; clone it or pull from it, or export a "
            "version of it and import that"
        )
    return (
        f"no Zarr at {shown!r}: it contains none of {', '.join(NODE_DOCUMENTS)}; "
        f"give a Zarr folder, or one of these formats: {supported()}"
    )
