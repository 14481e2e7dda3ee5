"""zarr 2.18.7's own store tests, on a session's mapping, and arrays of every common codec."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.storage import KVStore
from zarr.tests.test_storage import (
    StoreTests,
    dimension_separator_fixture,
    skip_if_nested_chunks,
)

import versioned_zarr as vz

__all__ = ["dimension_separator_fixture"]

# zarr 2 warns of what it will lose in zarr 3.
pytestmark = pytest.mark.filterwarnings("default")

_numbers = itertools.count()


@pytest.fixture(params=["memory", "folder"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> vz.Repository:
    in_folder = request.param == "folder"
    return vz.create(tmp_path / "hierarchy.vz" if in_folder else f"memory://two-{next(_numbers)}")


class TestSessionMapping(StoreTests):
    @pytest.fixture(autouse=True)
    def _remember_folder(self, repository: vz.Repository) -> None:
        self.repository = repository

    def create_store(self, **options: Any) -> KVStore:
        skip_if_nested_chunks(**options)
        return KVStore(self.repository.session("main").mapping)


def test_the_core_imports_no_zarr_3() -> None:
    assert zarr.__version__ == "2.18.7"
    assert "versioned_zarr.interfaces.zarr.zarr_store" not in sys.modules


def fill(mapping: MutableMapping[str, bytes]) -> dict[str, np.ndarray[Any, Any]]:
    """Write arrays of every common codec, also parts of chunks; return what they hold."""
    root = zarr.group(mapping)
    compressors = [None, zarr.Blosc(), zarr.Zlib(), zarr.LZ4(), zarr.Zstd()]
    expected = {}
    for number, (compressor, filters, separator) in enumerate(
        itertools.product(compressors, [None, [zarr.Delta("i4")]], [".", "/"])
    ):
        name = f"group/a{number}"
        array = root.create_dataset(
            name,
            shape=(40, 40),
            chunks=(10, 10),
            dtype="i4",
            compressor=compressor,
            filters=filters,
            dimension_separator=separator,
        )
        values = np.arange(1600, dtype="i4").reshape(40, 40)
        array[:] = values
        array[3:15, 3:5] = values[3:15, 3:5] = 7
        array.attrs["units"] = "K"
        expected[name] = values
    return expected


def test_arrays_are_written_committed_and_read_back(repository: vz.Repository) -> None:
    session = repository.session("main")
    expected = fill(session.mapping)
    zarr.consolidate_metadata(session.mapping)
    session.commit("written by zarr 2")
    for mapping in (session.mapping, repository.checkout("main").mapping):
        root = zarr.open_consolidated(mapping, mode="r")
        for name, values in expected.items():
            np.testing.assert_array_equal(root[name][:], values)
            assert root[name][:].flags.writeable
            assert root[name].attrs["units"] == "K"


def test_arrays_are_resized_appended_and_removed(repository: vz.Repository) -> None:
    session = repository.session("main")
    root = zarr.group(session.mapping)
    array = root.create_dataset("a", shape=20, chunks=5, dtype="f8")
    array[:] = np.arange(20)
    session.commit("twenty")
    array.resize(10)
    array.append(np.arange(3))
    np.testing.assert_array_equal(array[:], [*range(10), 0, 1, 2])
    session.commit("thirteen")
    del root["a"]
    session.commit("none")
    assert list(session.mapping) == [".zgroup"]
    old = zarr.open_group(repository.checkout("main~2").mapping, mode="r")
    np.testing.assert_array_equal(old["a"][:], np.arange(20))


def test_a_snapshot_refuses_to_be_written(repository: vz.Repository) -> None:
    session = repository.session("main")
    zarr.group(session.mapping).create_dataset("a", shape=20, chunks=5, dtype="f8")
    session.commit("empty array")
    array = zarr.open_group(repository.checkout("main").mapping, mode="r")["a"]
    with pytest.raises(zarr.errors.ReadOnlyError):
        array[:] = 1


@pytest.mark.parametrize("look", ["snapshot.store", "snapshot.open", "session.store"])
def test_what_needs_zarr_3_says_so(repository: vz.Repository, look: str) -> None:
    calls: dict[str, Callable[[], object]] = {
        "snapshot.store": lambda: repository.checkout().store,
        "snapshot.open": repository.checkout().open,
        "session.store": lambda: repository.session().store,
    }
    with pytest.raises(vz.MissingDependencyError, match=r"zarr >= 3\.1.*mapping.*zarr 2"):
        calls[look]()
