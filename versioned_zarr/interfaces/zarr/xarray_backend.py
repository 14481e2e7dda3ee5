"""The engine "versioned_zarr" of xarray: `xarray.open_dataset("climate.vz")`.

xarray finds it by its entry point. It opens repositories by path or URL, and what is open already:
repositories, snapshots, sessions and their stores.
"""

from __future__ import annotations

import os
import sys
import warnings
import weakref
from contextlib import suppress
from inspect import signature
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from xarray.backends import BackendEntrypoint, ZarrBackendEntrypoint

from versioned_zarr import location
from versioned_zarr.engine.hierarchy.zarr_nodes import join
from versioned_zarr.engine.marker import MARKER
from versioned_zarr.errors import InvalidInputError, VersionedZarrError
from versioned_zarr.interfaces.fsspec import branch_urls
from versioned_zarr.interfaces.fsspec.chained_place import unchained
from versioned_zarr.interfaces.zarr.open import has_consolidated, view_of, with_origin
from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.session import join as join_session
from versioned_zarr.repository.snapshot import Snapshot
from versioned_zarr.urls import has_scheme, split_url

if TYPE_CHECKING:
    import xarray
    from zarr.abc.store import Store

_DECODERS = (
    "mask_and_scale",
    "decode_times",
    "concat_characters",
    "decode_coords",
    "drop_variables",
    "use_cftime",
    "decode_timedelta",
)
_PLACES = ("self", "filename_or_obj", "mode", "storage_options", "store", "chunk_store", "engine")
_READING = tuple(
    name for name in signature(ZarrBackendEntrypoint.open_dataset).parameters if name not in _PLACES
)
"""The options of xarray's engine "zarr" that do not say where to read; they differ by version."""
_SUFFIX = ".vz"
_Named = tuple[str | None, ...]
_READ: weakref.WeakValueDictionary[tuple[_Named, int], Snapshot] = weakref.WeakValueDictionary()
"""The snapshots of open datasets, by what xarray names their Dask arrays after, and their id()."""


class VersionedBackend(BackendEntrypoint):
    """Opens one version of a repository with xarray; the arrays are read by xarray's engine "zarr".

    All methods take these options, besides those of xarray for decoding: `ref`, the version, see
    `Repository.checkout`; `group`, the path of a group; and the options of `versioned_zarr.open`.
    """

    description = "Open a version of a repository of versioned_zarr"
    url = "https://pypi.org/project/versioned-zarr/"
    supports_groups = True
    open_dataset_parameters = ("filename_or_obj", *_DECODERS)

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether this is a repository. Reads no more than a folder.

        URLs of object stores, lakeFS and web servers may name files in other formats, so they are
        recognized only if they end in `.vz`.
        """
        if isinstance(filename_or_obj, (VersionedStore, Snapshot, Session, Repository)):
            return True
        if not isinstance(filename_or_obj, (str, os.PathLike)):
            return False
        text = os.fspath(filename_or_obj)
        if not isinstance(text, str):
            return False
        if not has_scheme(text):
            return text.startswith("ipfs+/") or os.path.isfile(os.path.join(text, MARKER))
        with suppress(VersionedZarrError):
            return _is_repository(text)
        return False

    def open_dataset(
        self, filename_or_obj: Any, *, ref: str | None = None, **options: Any
    ) -> xarray.Dataset:
        """Open a group as a Dataset."""
        reading = _take_reading(options)
        store = _store_of(filename_or_obj, ref, reading, options)
        opened = ZarrBackendEntrypoint().open_dataset(store, **reading)
        return with_origin(opened, view_of(store), ref)

    def open_datatree(
        self, filename_or_obj: Any, *, ref: str | None = None, **options: Any
    ) -> xarray.DataTree:
        """Open a group and all groups below it as a DataTree."""
        reading = _take_reading(options)
        store = _store_of(filename_or_obj, ref, reading, options)
        tree = ZarrBackendEntrypoint().open_datatree(store, **reading)
        with_origin(tree, view_of(store), ref)
        return tree

    def open_groups_as_dict(
        self, filename_or_obj: Any, *, ref: str | None = None, **options: Any
    ) -> dict[str, xarray.Dataset]:
        """Open a group and all groups below it as Datasets, by path."""
        reading = _take_reading(options)
        store = _store_of(filename_or_obj, ref, reading, options)
        return ZarrBackendEntrypoint().open_groups_as_dict(store, **reading)


def _take_reading(options: dict[str, Any]) -> dict[str, Any]:
    """Remove the options of xarray's engine "zarr" from the options."""
    mode = options.pop("mode", None)
    if mode not in ("r", None):
        raise InvalidInputError(f"the engine 'versioned_zarr' reads, so mode cannot be {mode!r}")
    reading = {name: options.pop(name) for name in _READING if name in options}
    return {"consolidated": False, **reading}


def _store_of(
    place: Any, ref: str | None, reading: dict[str, Any], options: dict[str, Any]
) -> Any:  # xarray's types list paths and files only
    """The store of what is to be opened.

    Consolidated metadata is read on request, and where there is none, the tree is.
    """
    if isinstance(place, str) and branch_urls.is_url(place):
        store: Any = _at_branch_url(branch_urls.read(place), ref, reading, options)
    else:
        store = _opened(place, ref, options)
    if isinstance(place, (str, os.PathLike)) and isinstance(store, VersionedStore):
        _warn_of_equal_names((os.fspath(place), ref, reading.get("group")), store.view)
    if reading["consolidated"] and isinstance(store, VersionedStore):
        if has_consolidated(store.view, reading.get("group") or ""):
            return store.with_consolidated_metadata()
        reading["consolidated"] = False
    return store


def _warn_of_equal_names(key: _Named, view: Snapshot | Session) -> None:
    """Warn if an open dataset of another version has the same names of Dask arrays.

    xarray derives these names from the path and the options. Dask would compute the difference of
    the two datasets as zero.
    """
    if not isinstance(view, Snapshot) or "dask" not in sys.modules:
        return
    earlier = [snapshot for (named, _), snapshot in list(_READ.items()) if named == key]
    if any(snapshot != view for snapshot in earlier):
        warnings.warn(
            f"{key[0]!r} was opened before, at another version, and is still in use; Dask cannot "
            "tell these two apart: if you use chunks=…, open versions as snapshots: "
            "xarray.open_dataset(repo['REF'], chunks=…)",
            stacklevel=2,
        )
    _READ[key, id(view)] = view


def _opened(place: Any, ref: str | None, options: dict[str, Any]) -> Store:
    """The store of what is to be opened: of a snapshot, unless a session is given.

    Raises:
        InvalidInputError: a ref or an option of `versioned_zarr.open` for what is open already.
    """
    if isinstance(place, (VersionedStore, Snapshot, Session)):
        given = [*options, *([] if ref is None else ["ref"])]
        if given:
            raise InvalidInputError(
                f"{place!r} is one version, open already, and does not accept {', '.join(given)}"
            )
        return place if isinstance(place, VersionedStore) else place.store
    if isinstance(place, str) and place.startswith(("ipfs://", "ipns://")):
        if ref is not None:
            raise InvalidInputError(f"{place!r} is one version and does not accept ref")
        return location.open_snapshot(place, **options).store
    if options and isinstance(place, Repository):
        raise InvalidInputError(f"{place!r} is open already and does not accept {[*options]}")
    found = place if isinstance(place, Repository) else location.open(place, **options)
    return found.checkout("main" if ref is None else ref).store


def _at_branch_url(
    url: branch_urls.BranchUrl, ref: str | None, reading: dict[str, Any], options: dict[str, Any]
) -> Store:
    """The store of `vzarr://REF@/PATH::REPOSITORY`, whose path is a group, or of a session's URL.

    Raises:
        InvalidInputError: the URL has a ref, and so has the caller.
    """
    if ref is not None and (url.ref or url.session):
        raise InvalidInputError(
            f"the URL names {url.ref or url.session!r}, and ref is {ref!r}; leave one of them out"
        )
    group = join(url.path, (reading.get("group") or "").strip("/")).strip("/")
    reading["group"] = group or None
    repository = location.open(unchained(url.repository), **options)
    if url.session:
        return join_session(repository, url.session).store
    return repository.checkout(ref or url.ref or "main").store


def _is_repository(url: str) -> bool:
    """Whether a URL is certainly one of a repository; needs no network.

    Raises:
        VersionedZarrError: it is not.
    """
    parts = split_url(url)
    match parts.scheme:
        case "vzarr":
            return bool(branch_urls.read(url).repository)
        case "file":
            return os.path.isfile(os.path.join(unquote(parts.path), MARKER))
        case "memory":
            location.open(url)
            return True
        case "ipfs+http" | "ipfs+https":
            return True
        case "lakefs" | "s3" | "gs" | "az" | "abfs" | "http" | "https":
            return parts.path.rstrip("/").endswith(_SUFFIX)
    return False
