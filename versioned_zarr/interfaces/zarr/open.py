"""Open the content of a snapshot with zarr or xarray."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import zarr
from zarr.errors import ContainsArrayError

from versioned_zarr.engine.hierarchy.merge import consolidated
from versioned_zarr.engine.hierarchy.zarr_nodes import V3, join, parse
from versioned_zarr.errors import InvalidInputError, MissingDependencyError, ReadOnlyError
from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore
from versioned_zarr.repository.session import Session
from versioned_zarr.repository.snapshot import Snapshot

if TYPE_CHECKING:
    import xarray


def open_node(
    view: Snapshot | Session, path: str = "", **options: Any
) -> zarr.Group | zarr.Array[Any]:
    """The group or array at `path`, read-only in a snapshot; `options` go to `zarr.open`.

    Raises:
        ReadOnlyError: `mode` is one that writes, and the view is a snapshot.
        InvalidInputError: an option specifies another store.
    """
    _refuse_places(options, ("store", "storage_options"))
    if isinstance(view, Session):
        return zarr.open(view.store, path=path or None, mode="r+", **options)
    _take_mode(view, options)
    store = VersionedStore(view, consolidates=bool(options.get("use_consolidated")))
    return zarr.open(store, path=path or None, mode="r", **options)


def to_xarray(snapshot: Snapshot, group: str | None = None, **options: Any) -> xarray.Dataset:
    """Open the group as a Dataset; `options` go to `xarray.open_zarr`.

    Consolidated metadata is used only on request, and if there is any: the tree is as fast, and is
    never stale. `mode="r"` and `engine="zarr"`, which other functions of xarray take, have no
    effect.

    Raises:
        MissingDependencyError: xarray is not installed.
        ReadOnlyError: `mode` is one that writes.
        InvalidInputError: an array is at the path, or an option specifies another store or engine.
    """
    require_xarray("to_xarray")
    import xarray

    _take_xarray_options(snapshot, group, options)
    store = VersionedStore(snapshot, consolidates=bool(options["consolidated"]))
    try:
        dataset: xarray.Dataset = xarray.open_zarr(store, group=group, **options)
    except ContainsArrayError as error:
        raise _is_array(group or "") from error
    return with_origin(dataset, snapshot)


def to_datatree(snapshot: Snapshot, group: str | None = None, **options: Any) -> xarray.DataTree:
    """Open the group and those below it as a DataTree; `options` as for `to_xarray`.

    Raises:
        MissingDependencyError: xarray is not installed.
        ReadOnlyError: `mode` is one that writes.
        InvalidInputError: an option specifies another store or engine.
    """
    require_xarray("to_datatree")
    import xarray

    _take_xarray_options(snapshot, group, options)
    # xarray's types list paths and files only.
    store: Any = VersionedStore(snapshot, consolidates=bool(options["consolidated"]))
    try:
        tree = xarray.open_datatree(store, engine="zarr", group=group, **options)
    except ContainsArrayError as error:
        raise _is_array(group or "") from error
    return with_origin(tree, snapshot)


def _is_array(path: str) -> InvalidInputError:
    """The error for the path of an array in place of a group."""
    parent, _, name = path.strip("/").rpartition("/")
    return InvalidInputError(
        f"{path!r} is an array, and xarray opens groups; for this variable: "
        f"snapshot.to_xarray({repr(parent) if parent else ''})[{name!r}]; "
        f"with zarr: snapshot[{path!r}]"
    )


def require_xarray(method: str) -> None:
    """Make sure that xarray is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    try:
        import xarray  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise MissingDependencyError(
            f"{method} needs xarray: pip install 'versioned-zarr[xarray]'",
            package="xarray",
            extra="xarray",
        ) from error


def _take_xarray_options(snapshot: Snapshot, group: str | None, options: dict[str, Any]) -> None:
    """Check the options for xarray's functions, and complete them."""
    _take_mode(snapshot, options)
    _refuse_places(options, ("store", "chunk_store", "storage_options", "filename_or_obj"))
    engine = options.pop("engine", "zarr")
    if engine not in ("zarr", "versioned_zarr"):
        raise InvalidInputError(f"a snapshot is read with the engine 'zarr', not {engine!r}")
    options |= options.pop("backend_kwargs", None) or {}
    if "path" in options:
        raise InvalidInputError("xarray calls a path in a store a group: pass group=…")
    wanted = options.get("consolidated")
    options["consolidated"] = bool(wanted) and has_consolidated(snapshot, group or "")


def _take_mode(snapshot: Snapshot, options: dict[str, Any]) -> None:
    """Remove the mode from the options; only reading is possible."""
    mode = options.pop("mode", "r")
    if mode not in ("r", None):
        raise ReadOnlyError(
            f"a snapshot opens only with mode 'r', not {mode!r}, because it never changes; open a "
            "session to write: repo.session('main')",
            url=snapshot.repository.url,
        )


def _refuse_places(options: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if options.get(name) is not None:
            raise InvalidInputError(f"{name} cannot be passed: the store is the snapshot")
        options.pop(name, None)


class _Opened(Protocol):
    """A Dataset or a DataTree."""

    @property
    def encoding(self) -> dict[Any, Any]: ...


_T = TypeVar("_T", bound=_Opened)


def with_origin(opened: _T, view: object, ref: str | None = None) -> _T:
    """A dataset or tree, whose `encoding` says of which version it is.

    Adds `cid`, `commit`, `repository` and, if it is known, `ref`. Not to the attributes, which
    would be written with the data.
    """
    if isinstance(view, Snapshot):
        found = {
            "cid": view.cid,
            "commit": None if view.commit is None else view.commit.cid,
            "repository": view.repository.url,
            "ref": ref,
        }
        opened.encoding.update({name: text for name, text in found.items() if text is not None})
    return opened


def has_consolidated(view: Any, group: str) -> bool:
    """Whether the document of a group in a snapshot or session has consolidated metadata."""
    for name in (V3, consolidated.V2):
        document = parse(view._read_document(join(group.strip("/"), name)))
        if document is not None and consolidated.has_copies(name, document):
            return True
    return False


def view_of(store: object) -> object:
    """The snapshot or session of a store of ours; None for others."""
    return store.view if isinstance(store, VersionedStore) else None
