"""Zarr nodes: whether a key is a metadata document or a chunk, and of which node.

Pure functions on keys and documents, for the formats 2 and 3 and every chunk key encoding they
define. Sources: the Zarr v2 specification, and the Zarr v3 core specification's chapters on array
metadata, chunk key encodings and the sharding codec.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

V3 = "zarr.json"
DOCUMENTS = (V3, ".zarray", ".zgroup", ".zattrs", ".zmetadata")
NODE_DOCUMENTS = (V3, ".zarray", ".zgroup")
V2_DOCUMENTS = (".zarray", ".zgroup", ".zattrs")

_MAX_DEPTH = 200
_NO_STRUCTURE = {"attributes", "consolidated_metadata", "dimension_names"}

ReadKey = Callable[[str], bytes | None]
Region = tuple[slice, ...]


def split(key: str) -> tuple[str, str]:
    """The folder and the last part of a key."""
    folder, _, name = key.rpartition("/")
    return folder, name


def join(folder: str, name: str) -> str:
    """The key of a name in a folder."""
    return f"{folder}/{name}" if folder else name


def is_within(path: str, above: Collection[str]) -> bool:
    """Whether a key or path is one of these paths or is below one; O(parts) for a set."""
    while path and path not in above:
        path = split(path)[0]
    return path in above


def parse(data: bytes | None) -> dict[str, Any] | None:
    """A document as a dict; None if it is missing or not a JSON object.

    Also None if it is nested too deeply to be processed on every Python version.
    """
    if data is None:
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    may_be_deep = data.count(b"{") + data.count(b"[") > _MAX_DEPTH
    return None if may_be_deep and _is_deep(document) else document


def _is_deep(document: dict[str, Any]) -> bool:
    level: list[Any] = [document]
    for _ in range(_MAX_DEPTH):
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [each for part in parts for each in part if isinstance(each, (dict, list))]
        if not level:
            return False
    return True


@dataclass(frozen=True)
class ZarrNode:
    """A group or an array, as described by its documents.

    Attributes:
        path: its path; the root is empty.
        is_array: whether it is an array.
        document: the content of `zarr.json`, `.zarray` or `.zgroup`.
        attributes: its attributes, from `zarr.json` or `.zattrs`.
    """

    path: str
    is_array: bool
    document: dict[str, Any]
    attributes: dict[str, Any]

    @property
    def zarr_format(self) -> int:
        """The Zarr format of its documents, 2 or 3."""
        return 2 if self.document.get("zarr_format") == 2 else 3

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """The names of an array's dimensions; `axis N` for those without one.

        By `dimension_names`, or by the attribute `_ARRAY_DIMENSIONS` that xarray has for v2.
        """
        shape = self.document.get("shape")
        size = len(shape) if self.is_array and isinstance(shape, list) else 0
        given = self.document.get("dimension_names") or self.attributes.get("_ARRAY_DIMENSIONS")
        return named_dimensions(given, size)

    @property
    def is_coordinate(self) -> bool:
        """Whether it is a coordinate array: 1-D, and named like its dimension.

        As in xarray: by `dimension_names`, or by the attribute `_ARRAY_DIMENSIONS` in v2.
        """
        shape = self.document.get("shape")
        is_line = self.is_array and isinstance(shape, list) and len(shape) == 1
        names = self.document.get("dimension_names") or self.attributes.get("_ARRAY_DIMENSIONS")
        return is_line and names == [split(self.path)[1]]

    @property
    def fields(self) -> dict[str, Any]:
        """The metadata by the names that zarr-python uses; attributes as `attributes.NAME`."""
        fields = dict(_fields_of_array(self.document) if self.is_array else {})
        for name, value in self.attributes.items():
            fields[f"attributes.{name}"] = value
        return fields

    def coordinates(self, key: str) -> tuple[int, ...] | None:
        """The position in the chunk grid of a key below this array; None if it is not a chunk."""
        if not self.is_array:
            return None
        start = f"{self.path}/" if self.path else ""
        if not key.startswith(start):
            return None
        return _coordinates(self.document, key[len(start) :])

    def chunk_key(self, coordinates: tuple[int, ...]) -> str:
        """The key of the chunk at a position in the chunk grid: the inverse of `coordinates`."""
        separator, prefix = _key_encoding(self.document)
        parts = [prefix] if prefix else []
        parts += map(str, coordinates)
        return join(self.path, separator.join(parts or ["0"]))

    @property
    def grid_shape(self) -> tuple[int, ...] | None:
        """The number of stored chunks (shards, if sharded) along each dimension."""
        if not self.is_array:
            return None
        fields = self.fields
        chunks = fields.get("shards") or fields.get("chunks")
        shape = fields.get("shape")
        if not isinstance(shape, list) or not isinstance(chunks, list):
            return None
        try:
            return tuple(-(-size // max(1, step)) for size, step in zip(shape, chunks, strict=True))
        except (TypeError, ValueError):
            return None


def named_dimensions(given: object, count: int) -> tuple[str, ...]:
    """The names of so many dimensions; `axis N` for those without one, or if there are others."""
    names = given if isinstance(given, list | tuple) and len(given) == count else (None,) * count
    return tuple(str(name) if name else f"axis {at}" for at, name in enumerate(names))


def node_at(path: str, read: ReadKey) -> ZarrNode | None:
    """The node whose documents are in a folder, if any; that of `zarr.json` has priority."""
    return _node_of_v3(path, read) or _node_of_v2(path, read)


def nodes_at(path: str, read: ReadKey) -> dict[int, ZarrNode]:
    """The node of a folder as described by the documents of each Zarr format; format 3 first."""
    found = {3: _node_of_v3(path, read), 2: _node_of_v2(path, read)}
    return {number: node for number, node in found.items() if node is not None}


def _node_of_v3(path: str, read: ReadKey) -> ZarrNode | None:
    document = parse(read(join(path, V3)))
    if document is None:
        return None
    attributes = document.get("attributes")
    is_array = document.get("node_type") == "array"
    return ZarrNode(path, is_array, document, attributes if isinstance(attributes, dict) else {})


def _node_of_v2(path: str, read: ReadKey) -> ZarrNode | None:
    for name in (".zarray", ".zgroup"):
        document = parse(read(join(path, name)))
        if document is not None:
            attributes = parse(read(join(path, ".zattrs"))) or {}
            return ZarrNode(path, name == ".zarray", document, attributes)
    return None


class ZarrNodes:
    """The nodes of one state of a hierarchy, each read once.

    Args:
        read: returns the bytes of a document by its key.
    """

    def __init__(self, read: ReadKey) -> None:
        self._read = read
        self._known: dict[str, dict[int, ZarrNode]] = {}
        self._arrays: dict[str, ZarrNode | None] = {}

    def formats(self, path: str) -> dict[int, ZarrNode]:
        """See `nodes_at`."""
        if path not in self._known:
            self._known[path] = nodes_at(path, self._read)
        return self._known[path]

    def at(self, path: str) -> ZarrNode | None:
        """The node at a path, as zarr opens it: that of `zarr.json` has priority."""
        return next(iter(self.formats(path).values()), None)

    def array_above(self, key: str) -> ZarrNode | None:
        """The array that contains a key: the closest one above it."""
        folder = split(key)[0]
        if folder not in self._arrays:
            found = self.at(folder)
            if found is None and folder:
                found = self.array_above(folder)
            self._arrays[folder] = found if found is not None and found.is_array else None
        return self._arrays[folder]

    def chunk(self, key: str) -> tuple[ZarrNode, tuple[int, ...]] | None:
        """The array and position of a chunk key; None if it is not a chunk.

        If there are documents of two formats, the key may belong to either.
        """
        above = self.array_above(key)
        for node in () if above is None else self.formats(above.path).values():
            coordinates = node.coordinates(key)
            if coordinates is not None:
                return node, coordinates
        return None


def structure(name: str, document: dict[str, Any] | None) -> dict[str, Any]:
    """The fields of a document that determine how chunks are read; none for a group."""
    if document is None or name not in (V3, ".zarray"):
        return {}
    if name == V3 and document.get("node_type") != "array":
        return {}
    return {key: value for key, value in document.items() if key not in _NO_STRUCTURE}


def _fields_of_array(document: dict[str, Any]) -> dict[str, Any]:
    if document.get("zarr_format") == 2:
        return {key: value for key, value in document.items() if key != "zarr_format"}
    hidden = {"zarr_format", "node_type", "attributes", "chunk_grid", "data_type", "codecs"}
    fields = {key: value for key, value in document.items() if key not in hidden}
    grid = document.get("chunk_grid")
    chunks = _configuration(grid).get("chunk_shape", grid)
    codecs = document.get("codecs")
    fields |= {"chunks": chunks, "dtype": document.get("data_type"), "codecs": codecs}
    if isinstance(codecs, list) and len(codecs) == 1:
        sharding = codecs[0]
        if isinstance(sharding, dict) and sharding.get("name") == "sharding_indexed":
            inner = _configuration(sharding)
            fields |= {"shards": chunks, "chunks": inner.get("chunk_shape")}
            fields["codecs"] = inner.get("codecs", codecs)
    return fields


def _configuration(document: Any) -> dict[str, Any]:
    if isinstance(document, dict) and isinstance(document.get("configuration"), dict):
        return dict(document["configuration"])
    return {}


def _key_encoding(document: dict[str, Any]) -> tuple[str, str]:
    """The separator and the first part of chunk keys; the separator is empty if it is not valid."""
    if document.get("zarr_format") == 2:
        separator, prefix = document.get("dimension_separator") or ".", ""
    else:
        encoding = document.get("chunk_key_encoding")
        name = encoding.get("name") if isinstance(encoding, dict) else encoding
        is_default = name != "v2"
        separator = _configuration(encoding).get("separator", "/" if is_default else ".")
        prefix = "c" if is_default else ""
    return separator if isinstance(separator, str) else "", prefix


def _coordinates(document: dict[str, Any], rest: str) -> tuple[int, ...] | None:
    shape = document.get("shape")
    dimensions = len(shape) if isinstance(shape, list) else 0
    separator, prefix = _key_encoding(document)
    if not separator:
        return None
    parts = rest.split(separator)
    if prefix:
        if parts[0] != prefix:
            return None
        parts = parts[1:]
    elif dimensions == 0:
        return () if rest == "0" else None
    if len(parts) != dimensions or not all(part.isascii() and part.isdigit() for part in parts):
        return None
    return tuple(int(part) for part in parts)


def chunk_region(
    coordinates: tuple[int, ...], chunk_shape: tuple[int, ...], shape: tuple[int, ...]
) -> Region:
    """The part of an array that a chunk has; it ends at the array's edges."""
    return tuple(
        slice(at * step, min((at + 1) * step, size))
        for at, step, size in zip(coordinates, chunk_shape, shape, strict=True)
    )


def number_in_grid(coordinates: tuple[int, ...], grid: tuple[int, ...]) -> int | None:
    """The row-major number of a chunk; None if it is outside the grid, as after a resize."""
    number = 0
    for at, size in zip(coordinates, grid, strict=True):
        if at >= size:
            return None
        number = number * size + at
    return number
