"""N5 import: the datasets and groups of an N5 container, block by block.

An N5 dataset lists its dimensions with the fastest one first: x, y, z. Its blocks are stored in
that order, so their bytes are those of a row-major array with the index `[z, y, x]`. Row-major
readers, such as the N5 store of zarr-python 2, present it so, and the imported array has that
shape, too. tensorstore presents the dimensions as they are listed: its arrays are transposed.
Attributes are kept as they are, so lists with an item for each dimension are in the order x, y, z.

Specification: https://github.com/saalfeldlab/n5. Blocks are decoded by tensorstore. It sees one
block at a time, in memory, so the container can lie wherever fsspec reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import partial
from threading import Lock
from typing import Any, Final, NamedTuple

import numpy as np
import zarr

from versioned_zarr.engine.hierarchy.zarr_nodes import chunk_region, join, split
from versioned_zarr.errors import InvalidInputError
from versioned_zarr.history.commit_object import Commit
from versioned_zarr.interfaces.files.sources import Source, list_source
from versioned_zarr.interfaces.imports.array_import import (
    ArrayPart,
    ArraySource,
    chunk_key,
    documents_of,
    import_arrays,
    new_documents,
)
from versioned_zarr.interfaces.imports.import_request import ImportRequest, missing

_ATTRIBUTES: Final = "attributes.json"
_OWN: Final = {"n5", "dimensions", "blockSize", "dataType", "compression", "compressionType"}


_TYPES: Final = frozenset(
    {"float32", "float64"} | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,18}")


class _Dataset(NamedTuple):
    """A dataset of N5, in the order of its dimensions."""

    path: str
    shape: tuple[int, ...]
    block: tuple[int, ...]
    dtype: str
    raw: bytes
    attributes: dict[str, Any]


def import_n5(request: ImportRequest) -> Commit:
    """Import a container; see `import_from`.

    A block becomes a chunk. Blocks that are not stored are not stored here, either, and read as 0.
    """
    try:
        import tensorstore  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise missing("N5", "tensorstore", "n5") from error
    source = list_source(request.source, request.storage_options, request.progress)
    folders = sorted(split(key)[0] for key in source.sizes if split(key)[1] == _ATTRIBUTES)
    if not folders:
        raise InvalidInputError(
            f"no N5 at {source.name!r}: there is no {_ATTRIBUTES} in it or below; give a folder "
            "with N5 datasets"
        )
    groups: dict[str, dict[str, Any]] = {"": {}}
    datasets: dict[str, _Dataset] = {}
    for folder in folders:
        found = _read(source, folder)
        if isinstance(found, _Dataset):
            datasets[folder] = found
        else:
            groups[folder] = found
    try:
        documents = _documents(groups, datasets)
    except RecursionError as error:
        raise InvalidInputError(f"attributes of {source.name!r} are nested too deeply") from error
    parts = _parts(source, datasets)
    arrays = ArraySource(source.name, source.full_name, source.state, documents, parts)
    return import_arrays(request, arrays)


def _read(source: Source, folder: str) -> _Dataset | dict[str, Any]:
    """A dataset, or the attributes of a group.

    Raises:
        InvalidInputError: the attributes are not valid.
    """
    key = join(folder, _ATTRIBUTES)
    raw = source.read(key)
    try:
        found = json.loads(raw)
        own = {name: value for name, value in found.items() if name not in _OWN}
        if "dimensions" not in found:
            return own
        shape, block = _sizes(found, "dimensions", 0), _sizes(found, "blockSize", 1)
        dtype = found["dataType"]
        if len(shape) != len(block):
            raise ValueError(f"dimensions {shape} do not fit block size {block}")
        if dtype not in _TYPES:
            raise ValueError(f"dataType {dtype!r} is none of {', '.join(sorted(_TYPES))}")
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        said = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidInputError(
            f"{key!r} of {source.name!r} describes no N5 dataset or group: {said}"
        ) from error
    return _Dataset(folder, shape, block, dtype, raw, own)


def _sizes(found: Mapping[str, Any], name: str, least: int) -> tuple[int, ...]:
    """The numbers in a list of the attributes.

    Raises:
        ValueError: it is no list of numbers.
    """
    sizes = found[name]
    if not isinstance(sizes, list) or not all(
        type(size) is int and least <= size < 1 << 63 for size in sizes
    ):
        raise ValueError(f"{name} {sizes!r} is no list of whole numbers from {least}")
    return tuple(sizes)


def _documents(
    groups: Mapping[str, dict[str, Any]], datasets: Mapping[str, _Dataset]
) -> dict[str, bytes]:
    """The documents of all nodes; every folder above a dataset is a group."""
    store, held = new_documents()
    above = {folder for path in (*groups, *datasets) for folder in _above(path)}
    for path in sorted({*groups, *datasets}):
        outer = next((each for each in _above(path) if each in datasets and each != path), None)
        if outer is not None and (path or path in datasets):
            raise InvalidInputError(
                f"{path!r} lies in the dataset {outer!r}; Zarr has no such nodes"
            )
    for path in sorted({*groups, *(above - datasets.keys())} - ({""} & datasets.keys())):
        zarr.create_group(store, path=path, attributes=groups.get(path, {}), zarr_format=3)
    for path, dataset in datasets.items():
        zarr.create_array(
            store,
            name=path or None,
            shape=dataset.shape[::-1],
            chunks=tuple(
                min(step, max(size, 1))
                for step, size in zip(dataset.block, dataset.shape, strict=True)
            )[::-1],
            dtype=dataset.dtype,
            fill_value=0,
            attributes=dataset.attributes,
            zarr_format=3,
        )
    return documents_of(held)


def _above(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(len(parts) + 1)]


def _parts(source: Source, datasets: Mapping[str, _Dataset]) -> dict[str, ArrayPart]:
    """The stored blocks of all datasets, one walk over the keys."""
    decoder = BlockDecoder(source.name)
    found: dict[str, ArrayPart] = {}
    for key in source.sizes:
        place = _block_of(key, datasets)
        if place is None:
            continue
        dataset, numbers = place
        if any(
            n * step >= size
            for n, step, size in zip(numbers, dataset.block, dataset.shape, strict=True)
        ):
            continue  # left from before the dataset was cropped
        region = chunk_region(numbers, dataset.block, dataset.shape)
        size = np.dtype(dataset.dtype).itemsize
        for each in region:
            size *= each.stop - each.start
        read = partial(_decode, decoder, source, dataset, key, region)
        part = ArrayPart(dataset.path, region[::-1], size, read)
        found[chunk_key(dataset.path, numbers[::-1])] = part
    return found


def _block_of(
    key: str, datasets: Mapping[str, _Dataset]
) -> tuple[_Dataset, tuple[int, ...]] | None:
    """The dataset and the grid position of a key, unless it is no block."""
    parts = key.split("/")
    count = 0
    while count < len(parts) and _NUMBER.fullmatch(parts[-1 - count]):
        count += 1
    for length in range(count, 0, -1):
        dataset = datasets.get("/".join(parts[:-length]))
        if dataset is not None and len(dataset.shape) == length:
            return dataset, tuple(map(int, parts[-length:]))
    return None


def _decode(
    decoder: BlockDecoder, source: Source, dataset: _Dataset, key: str, region: tuple[slice, ...]
) -> np.ndarray[Any, Any]:
    return decoder.decode(dataset, key, source.read(key), region).T


class BlockDecoder:
    """Decodes blocks by tensorstore, in memory. Thread-safe.

    Args:
        name: the source in messages.
    """

    def __init__(self, name: str) -> None:
        import tensorstore

        self._name = name
        self._tensorstore = tensorstore
        self._context = tensorstore.Context()
        opening = tensorstore.KvStore.open({"driver": "memory"}, context=self._context)
        self._values = opening.result()
        self._open: dict[str, Any] = {}
        self._lock = Lock()

    def decode(
        self, dataset: _Dataset, key: str, data: bytes, region: tuple[slice, ...]
    ) -> np.ndarray[Any, Any]:
        """The values of a block, in the order of the dimensions of N5.

        Raises:
            InvalidInputError: the block is damaged, or tensorstore does not know its compression.
        """
        try:
            with self._lock:
                array = self._open.get(dataset.path)
                if array is None:
                    array = self._open[dataset.path] = self._opened(dataset)
            self._values[key] = data
            try:
                values: np.ndarray[Any, Any] = array[region].read().result()
            finally:
                del self._values[key]
        except ValueError as error:
            said = str(error).partition(" [source locations")[0]
            raise InvalidInputError(
                f"cannot decode block {key!r} of {self._name!r}: {said}"
            ) from error
        return values

    def _opened(self, dataset: _Dataset) -> Any:
        self._values[join(dataset.path, _ATTRIBUTES)] = dataset.raw
        path = f"{dataset.path}/" if dataset.path else ""
        place = {"driver": "n5", "kvstore": {"driver": "memory", "path": path}}
        return self._tensorstore.open(place, context=self._context, open=True, read=True).result()
