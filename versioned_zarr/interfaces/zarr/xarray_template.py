"""Templates of xarray: creates the variables of a Dataset or DataTree, mostly without values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zarr.storage import MemoryStore

from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNodes, join
from versioned_zarr.errors import AlreadyExistsError, InvalidInputError, MissingDependencyError
from versioned_zarr.interfaces.zarr.node_paths import check_path
from versioned_zarr.interfaces.zarr.open import require_xarray
from versioned_zarr.interfaces.zarr.zarr_store import VersionedStore
from versioned_zarr.repository.session import Session

if TYPE_CHECKING:
    import xarray
    from zarr.abc.store import Store


def is_of_xarray(template: Any) -> bool:
    """Whether a template is a Dataset or DataTree; does not import xarray."""
    module = type(template).__module__.partition(".")[0]
    return module == "xarray" and hasattr(template, "to_zarr")


def create_from_xarray(
    session: Session, template: xarray.Dataset | xarray.DataTree, path: str, *, overwrite: bool
) -> None:
    """Create what xarray writes for a template, without the values of its data variables.

    Raises:
        MissingDependencyError: Dask is not installed.
        AlreadyExistsError: one of the variables exists, and `overwrite` is false.
        InvalidInputError: a name is not valid, xarray cannot write a variable, or a group would lie
            in an array. Nothing was created.
    """
    _require_dask()
    groups = _writable(template, path)
    names = [join(at, str(name)) for at, dataset in groups.items() for name in dataset.variables]
    nodes = ZarrNodes(session._read_document)
    for at in [*filter(None, groups), *names]:
        check_path(at)
        above = nodes.array_above(at)
        if above is not None:
            raise InvalidInputError(f"{at!r} would lie in the array {above.path!r}")
    for at in groups:
        node = nodes.at(at)
        if node is not None and node.is_array:
            raise AlreadyExistsError(f"{at!r} is an array, not a group", name=at)
    there = [at for at in names if nodes.at(at) is not None]
    if there and not overwrite:
        raise AlreadyExistsError(
            f"{there[0]!r} exists already; choose another path, or pass overwrite=True",
            name=there[0],
        )
    for at in there:
        session.clear(at)
    for at, dataset in groups.items():
        _write(dataset, at, VersionedStore(session))


def _require_dask() -> None:
    require_xarray("create_hierarchy")
    try:
        import dask.array  # noqa: F401 - xarray leaves out the values of its arrays
    except ImportError as error:
        raise MissingDependencyError(
            "a template of xarray needs Dask: pip install 'versioned-zarr[dask]'",
            package="dask",
            extra="dask",
        ) from error


def _groups(template: xarray.Dataset | xarray.DataTree, path: str) -> dict[str, xarray.Dataset]:
    """The Dataset of each group, by its path."""
    import xarray

    if isinstance(template, xarray.Dataset):
        return {path: template}
    return {
        join(path, node.relative_to(template)) if node is not template else path: node.to_dataset(
            inherit=False
        )
        for node in template.subtree
    }


def _writable(template: xarray.Dataset | xarray.DataTree, path: str) -> dict[str, xarray.Dataset]:
    """The Dataset of each group, by its path, as it is written: first into memory, to try it."""
    groups, store = _groups(template, path), MemoryStore()
    for at, dataset in groups.items():
        try:
            groups[at] = _without_values(dataset)
            _write(groups[at], at, store)
        except Exception as error:
            raise InvalidInputError(
                f"xarray cannot write group {at or '/'!r} of the template: {error}"
            ) from error
    return groups


def _write(dataset: xarray.Dataset, path: str, store: Store) -> None:
    dataset.to_zarr(store, group=path or None, mode="a", compute=False, consolidated=False)


def _without_values(dataset: xarray.Dataset) -> xarray.Dataset:
    """A Dataset whose data variables are Dask arrays, in the chunks of their encoding."""
    chunked = dataset.copy()
    for name, variable in dataset.data_vars.items():
        if variable.chunks is None:
            wanted = variable.encoding.get("chunks")
            sizes = {} if wanted is None else dict(zip(variable.dims, wanted, strict=True))
            chunked[name] = variable.chunk(sizes)
    return chunked
