"""What documents say of nodes, against zarr, which reads the same documents."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import zarr
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata
from zarr.storage import MemoryStore

from versioned_zarr.engine.hierarchy.zarr_nodes import ZarrNode

ENCODINGS: list[Any] = [
    {"name": "default"},
    {"name": "v2"},
    {"name": "default", "configuration": {}},
    {"name": "default", "configuration": {"separator": "/"}},
    {"name": "default", "configuration": {"separator": "."}},
    {"name": "v2", "configuration": {"separator": "/"}},
    {"name": "v2", "configuration": {"separator": "."}},
]


def array_of(shape: tuple[int, ...], zarr_format: int) -> dict[str, Any]:
    """The document of an array of chunks of one item."""
    array = zarr.create_array(
        MemoryStore(), shape=shape, chunks=(1,) * len(shape), dtype="i1", zarr_format=zarr_format
    )
    return dict(array.metadata.to_dict())


def check(document: dict[str, Any], keys: dict[tuple[int, ...], str]) -> None:
    """Each key says which chunk it is; what only looks like one is none."""
    for path in ("", "a/b"):
        node = ZarrNode(path, is_array=True, document=document, attributes={})
        start = f"{path}/" if path else ""
        for place, key in keys.items():
            assert node.coordinates(start + key) == place
            for other in (f"{key}0x", f"x{key}", f"{key}/0", f"{key}.0", f"-{key}", f"{key}\u0664"):
                assert other in keys.values() or node.coordinates(start + other) is None
            if path:
                assert node.coordinates(key) is None
        assert node.coordinates(f"{start}zarr.json") is None
    group = ZarrNode("", is_array=False, document=document, attributes={})
    assert all(group.coordinates(key) is None for key in keys.values())


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 11)])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_keys_of_chunks_say_where_they_are(
    encoding: dict[str, Any], shape: tuple[int, ...]
) -> None:
    document = {**array_of(shape, 3), "chunk_key_encoding": encoding}
    document = json.loads(json.dumps(document, default=str))
    metadata = ArrayV3Metadata.from_dict(document)
    places = itertools.product(*map(range, shape))
    check(document, {place: metadata.encode_chunk_key(place) for place in places})


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 11)])
@pytest.mark.parametrize("separator", [None, ".", "/"])
def test_the_keys_of_chunks_of_zarr_2_say_where_they_are(
    separator: str | None, shape: tuple[int, ...]
) -> None:
    document = json.loads(json.dumps(array_of(shape, 2), default=str))
    document.pop("dimension_separator", None)
    if separator is not None:
        document["dimension_separator"] = separator
    metadata = ArrayV2Metadata.from_dict(document)
    places = itertools.product(*map(range, shape))
    check(document, {place: metadata.encode_chunk_key(place) for place in places})


@pytest.mark.parametrize("shards", [None, (6,)])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fields_are_called_as_zarr_calls_them(zarr_format: int, shards: Any) -> None:
    if zarr_format == 2 and shards is not None:
        return
    array = zarr.create_array(
        MemoryStore(), shape=(12,), chunks=(3,), shards=shards, dtype="i2", fill_value=7,
        attributes={"units": "K"}, zarr_format=zarr_format,
    )  # fmt: skip
    document = json.loads(json.dumps(array.metadata.to_dict(), default=str))
    node = ZarrNode("", is_array=True, document=document, attributes=dict(array.attrs))
    fields = node.fields
    assert tuple(fields["shape"]) == array.shape
    assert tuple(fields["chunks"]) == array.chunks == (3,)
    assert fields["attributes.units"] == "K"
    assert fields["fill_value"] == 7
    assert tuple(fields.get("shards") or ()) == (array.shards or ())
    assert node.grid_shape == ((2,) if shards else (4,))
