"""Values that both sides wrote alike: what agrees, and what may be an update that is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import zarr
from zarr.abc.store import Store

from tests.repository.test_merge_nodes import forked
from versioned_zarr.engine.hierarchy.merge.three_way import Merged, merge_trees
from versioned_zarr.ipld.cid import from_text
from versioned_zarr.repository.repository import Repository

NAMES = {
    2: ("time/2", "data/2", "grid/2", "lat/2"),
    3: ("time/c/2", "data/c/2", "grid/c/2", "lat/c/2"),
}


@pytest.fixture(params=[2, 3], ids=["v2", "v3"])
def version(request: pytest.FixtureRequest) -> int:
    found: int = request.param
    return found


def dataset(version: int) -> Callable[[Store], object]:
    """The coordinate `time`, and three arrays that are none: by name, by dimensions, by neither."""

    def make(store: Store) -> None:
        zarr.create_group(store, zarr_format=version)
        for name, dimensions in (
            ("time", ["time"]), ("data", ["time"]), ("grid", ["grid", "x"]), ("lat", None),
        ):  # fmt: skip
            options: dict[str, Any] = {"shape": (4,), "chunks": (2,)}
            if name == "grid":
                options = {"shape": (4, 2), "chunks": (2, 2)}
            if version == 3:
                options["dimension_names"] = dimensions
            elif dimensions:
                options["attributes"] = {"_ARRAY_DIMENSIONS": dimensions}
            zarr.create_array(store, name=name, dtype="i4", zarr_format=version, **options)[:] = 1

    return make


def append(store: Store) -> None:
    for name in ("time", "data", "grid", "lat"):
        array = zarr.open_array(store, path=name)
        array.resize((6, *array.shape[1:]))
        array[4:6] = 7


def merged(repository: Repository, unaware: Callable[[str], bool] | None) -> Merged:
    stores = repository._stores
    base = repository.branches["main"].parents[0]
    trees = [from_text(repository.checkout(ref).cid) for ref in (base, "main", "dev")]
    return merge_trees(
        stores.trees,
        base=trees[0],
        ours=trees[1],
        theirs=trees[2],
        read=stores.read_link,
        unaware=unaware,
    )


def both_append(version: int) -> Repository:
    return forked(
        dataset(version),
        append,
        lambda store: (append(store), zarr.create_group(store, path="more")),
    )


def test_branches_agree_on_everything(version: int) -> None:
    assert merged(both_append(version), None).conflicts == []


def test_what_was_read_does_not_agree(version: int) -> None:
    found = merged(both_append(version), lambda key: False)
    assert sorted(conflict.path for conflict in found.conflicts) == ["data", "grid", "lat", "time"]


def test_coordinates_that_were_written_unread_agree(version: int) -> None:
    found = merged(both_append(version), lambda key: True)
    assert sorted(conflict.path for conflict in found.conflicts) == ["data", "grid", "lat"]


def test_it_is_told_key_by_key(version: int) -> None:
    def append_more(store: Store) -> None:
        append(store)
        array = zarr.open_array(store, path="time")
        array[0:2] = 9

    repository = forked(
        dataset(version),
        append_more,
        lambda store: (append_more(store), zarr.create_group(store, path="more")),
    )
    (appended,) = (key for key in NAMES[version] if key.startswith("time"))
    found = merged(repository, lambda key: key == appended)
    (time,) = (conflict for conflict in found.conflicts if conflict.path == "time")
    assert [chunk.coordinates for chunk in time.chunks] == [(0,)]


def test_documents_agree(version: int) -> None:
    def attributes(store: Store) -> None:
        zarr.open_array(store, path="data").attrs["units"] = "K"

    repository = forked(
        dataset(version),
        attributes,
        lambda store: (attributes(store), zarr.create_group(store, path="more")),
    )
    assert merged(repository, lambda key: False).conflicts == []
