"""Import from any format: finds the format of a source, and calls the import for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from versioned_zarr._hooks import shows_progress
from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.files.parallel_copy import WORKERS
from versioned_zarr.interfaces.files.source_formats import (
    FORMATS,
    TIFF,
    advice,
    format_of,
    supported,
)
from versioned_zarr.interfaces.files.zarr_import import import_zarr
from versioned_zarr.interfaces.imports.import_request import ImportRequest
from versioned_zarr.repository.repository import Repository
from versioned_zarr.tree.keys import check_text


@shows_progress("importing")
def import_from(
    repository: Repository,
    source: Any,
    *,
    format: str | None = None,
    into: str = "main",
    path: str = "",
    message: str | None = None,
    overwrite: bool = False,
    history: bool = False,
    workers: int = WORKERS,
    storage_options: dict[str, Any] | None = None,
    progress: OnProgress | None = None,
) -> Commit:
    """Import data of any supported format, and commit it.

    The format is found from the content of a local file or folder, and from the name of a URL:

    - "zarr": a folder, a zip file or a URL; see `import_zarr`.
    - "netcdf": a netCDF or HDF5 file (extra `netcdf`). Values stay as they are packed, and
      attributes such as `scale_factor` are kept. A chunk of the file becomes a chunk of the array.
    - "grib": a GRIB file (extra `grib`), as cfgrib opens it.
    - "n5": a folder or URL (extra `n5`). The order of dimensions is reversed, as in every
      row-major reader of N5: a dataset with dimensions x, y, z has the index `[z, y, x]`.
    - "icechunk": a folder, a URL or an open `icechunk.Repository` (extra `icechunk`): its
      branches and tags, with one commit for each snapshot.
    - "git": a Zarr folder in a git work tree, tracked by git or by DVC: one commit for each
      revision that changed it.

    If an import is interrupted, call it again with the same arguments to resume. An import of
    "icechunk" or "git" that is called again later adds what is new.

    Examples:
        >>> import tempfile, zarr, versioned_zarr as vz
        >>> repo = vz.create("memory://import-from")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = zarr.create_array(f"{folder}/old.zarr", shape=(4,), dtype="i4")
        ...     commit = vz.import_from(repo, f"{folder}/old.zarr", message="As it was")
        >>> commit.message
        'As it was'

    Args:
        repository: the repository to import into.
        source: a path or URL, or an open `icechunk.Repository`.
        format: one of the formats above; by default it is found out.
        into: the branch to commit to. Branches of Icechunk keep their names.
        path: the group to import into; the root by default.
        message: the commit message; by default it names the source. Commits of a history have their
            own messages.
        overwrite: replace existing data at `path`.
        history: import the history that git has of the source: the same as format="git".
        workers: the number of values copied in parallel.
        storage_options: passed to fsspec; for "icechunk", to its function for that storage.
        progress: called from the calling thread as values arrive, with the totals.

    Returns:
        The new commit; the last one of a history.

    Raises:
        InvalidInputError: the format is not known or not supported, or the source is damaged.
        MissingDependencyError: a package for the format is missing; the error names the extra.
        NotFoundError: the source does not exist.
        AlreadyExistsError: `path` is not empty, and `overwrite` is false.
        NothingToCommitError: `path` already holds the same data.
        StorageError: the source cannot be read; the session is kept and can be resumed.
    """
    check_text(path)
    request = ImportRequest(
        repository,
        source,
        into=into,
        path=path.strip("/"),
        message=message,
        overwrite=overwrite,
        workers=workers,
        storage_options=storage_options or {},
        progress=progress,
    )
    return _READERS[_format(request, format, history=history)](request)


def _format(request: ImportRequest, given: str | None, *, history: bool) -> str:
    """The format to import.

    Raises:
        InvalidInputError: it is not known, not supported, or has no history.
    """
    if given is not None and given not in FORMATS:
        raise InvalidInputError(f"no format {given!r}; supported: {supported()}")
    if history:
        if given not in (None, "git"):
            raise InvalidInputError(f"format {given!r} takes no history=True; leave it out")
        return "git"
    if given is not None:
        return given
    if not isinstance(request.source, str | os.PathLike):
        return "icechunk"
    found = format_of(request.name)
    if found == TIFF or (found is None and os.path.isfile(request.name)):
        raise InvalidInputError(advice(request.name))
    return found or "zarr"


def _zarr(request: ImportRequest) -> Commit:
    return import_zarr(
        request.repository,
        request.source,
        into=request.into,
        path=request.path,
        message=request.message,
        overwrite=request.overwrite,
        workers=request.workers,
        storage_options=request.storage_options,
        progress=request.progress,
    )


def _netcdf(request: ImportRequest) -> Commit:
    from versioned_zarr.interfaces.imports.netcdf_import import import_netcdf

    return import_netcdf(request)


def _grib(request: ImportRequest) -> Commit:
    from versioned_zarr.interfaces.imports.grib_import import import_grib

    return import_grib(request)


def _n5(request: ImportRequest) -> Commit:
    from versioned_zarr.interfaces.imports.n5_import import import_n5

    return import_n5(request)


def _icechunk(request: ImportRequest) -> Commit:
    from versioned_zarr.interfaces.imports.icechunk_import import import_icechunk

    return import_icechunk(request)


def _git(request: ImportRequest) -> Commit:
    from versioned_zarr.interfaces.imports.git_import import import_git

    return import_git(request)


_READERS: Final[dict[str, Callable[[ImportRequest], Commit]]] = {
    "zarr": _zarr,
    "netcdf": _netcdf,
    "grib": _grib,
    "n5": _n5,
    "icechunk": _icechunk,
    "git": _git,
}
