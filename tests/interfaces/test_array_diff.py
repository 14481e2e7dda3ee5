"""Diffs show values: which elements changed, where, and by how much."""

from __future__ import annotations

import json
import uuid
from typing import Any

import numpy as np
import pytest

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository
from versioned_zarr.repository.snapshot import Snapshot

zarr = pytest.importorskip("zarr", minversion="3")

TIMES = np.arange(8) * 31


@pytest.fixture
def repository() -> Repository:
    return vz.create(f"memory://values-{uuid.uuid4()}")


def base() -> Any:
    return np.arange(8 * 6, dtype="f4").reshape(8, 6)


def write(
    repository: Repository, data: Any, message: str, path: str = "air/t", **options: Any
) -> None:
    group = path.rpartition("/")[0]
    with repository.session(message=message) as session:
        zarr.open_group(session.store, path=group or None, mode="a")
        if "time" not in session.list_dir(group):
            time = zarr.create_array(
                session.store, name=f"{group}/time", data=TIMES, dimension_names=("time",)
            )
            time.attrs.update(units="days since 2000-01-01", calendar="standard")
        array = zarr.create_array(
            session.store,
            name=path,
            shape=data.shape,
            dtype=data.dtype,
            dimension_names=("time", "x"),
            overwrite=True,
            **{"chunks": (2, 3), **options},
        )
        array[:] = data


def changed(repository: Repository, change: Any, **options: Any) -> Any:
    """The diff of an array after a change."""
    write(repository, base(), "old", **options)
    data = base()
    change(data)
    write(repository, data, "new", **options)
    return repository.diff("main")["air/t"]


def test_values_that_changed_are_counted_and_placed(repository: Repository) -> None:
    def change(data: Any) -> None:
        data[3, 4] += 2
        data[4, 0] -= 1
        data[5, 5] = np.nan

    found = changed(repository, change)
    assert found.regions == [
        (slice(2, 4), slice(3, 6)),
        (slice(4, 6), slice(0, 3)),
        (slice(4, 6), slice(3, 6)),
    ]
    values = found.values()
    assert (values.compared, values.changed) == (18, 3)
    assert (values.largest, values.mean) == (2.0, 1.5)
    assert (values.nan_came, values.nan_went) == (1, 0)
    assert (values.first, values.last) == ((3, 4), (5, 5))
    assert found.labels == {"time": "2000-03-03 … 2000-06-04", "x": "0 … 5"}
    text = str(found)
    assert "3 of 18 values changed; by up to 2, 1.5 on average; from [3, 4] to [5, 5]" in text
    assert "time 2000-03-03 … 2000-06-04" in text
    assert json.loads(json.dumps(found.to_dict()))["values"]["first"] == [3, 4]


def test_an_array_on_one_side_only_is_not_called_re_encoded(repository: Repository) -> None:
    write(repository, base(), "old")
    assert str(repository.diff("main")["air/t"]).splitlines()[0] == "air/t: added"
    assert "re-encoded" not in str(repository.diff("main")["air/t"])
    assert "    48 added" in str(repository.diff("main")["air/t"]).splitlines()


def test_a_dimension_without_a_name_is_told_from_its_range(repository: Repository) -> None:
    for value in (0, 1):
        with repository.session(message="x") as session:
            zarr.create_array(session, name="a", data=np.arange(4) + value, overwrite=True)
    assert "    axis 0: 0 … 3" in str(repository.diff("main")["a"])


def test_only_chunks_that_differ_are_read(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(repository, base(), "old")
    data = base()
    data[0, 0] = 9
    write(repository, data, "new")
    found = repository.diff("main")["air/t"]
    read: list[str] = []
    find = Snapshot._find

    def noted(snapshot: Snapshot, key: str) -> Any:
        read.append(key)
        return find(snapshot, key)

    monkeypatch.setattr(Snapshot, "_find", noted)
    assert found.values().changed == 1
    assert {key for key in read if "/c/" in key} == {"air/t/c/0/0"}


def test_nan_and_nan_are_equal(repository: Repository) -> None:
    def change(data: Any) -> None:
        data[0, 0] = 7

    write(repository, np.full((8, 6), np.nan, "f4"), "old")
    data = np.full((8, 6), np.nan, "f4")
    change(data)
    write(repository, data, "new")
    values = repository.diff("main")["air/t"].values()
    assert (values.changed, values.nan_went, values.largest) == (1, 1, None)


@pytest.mark.parametrize(
    "options",
    [{"chunks": (4, 6)}, {"compressors": None}, {"chunks": (2, 3), "shards": (4, 6)}],
    ids=["chunks", "codecs", "shards"],
)
def test_the_same_values_stored_in_another_way_are_equal(
    repository: Repository, options: dict[str, Any]
) -> None:
    write(repository, base(), "old")
    write(repository, base(), "new", **options)
    found = repository.diff("main")["air/t"]
    assert found.is_reencoded
    assert found.values().changed == 0
    assert found.values().compared == 48
    assert "re-encoded, values equal (48 compared)" in str(found)


def test_of_a_shard_only_the_inner_chunks_that_changed_count(repository: Repository) -> None:
    def change(data: Any) -> None:
        data[7, 5] = -1

    found = changed(repository, change, shards=(4, 6))
    assert found.regions == [(slice(6, 8), slice(3, 6))]
    assert found.values().first == (7, 5)


def test_growth_is_told_and_the_common_part_compared(repository: Repository) -> None:
    write(repository, base()[:6], "old")
    write(repository, base(), "new")
    found = repository.diff("main")["air/t"]
    assert found.growth == {"time": (6, 8)}
    values = found.values()
    assert (values.changed, values.added, values.removed) == (0, 12, 0)
    assert "time grew 6 → 8" in str(found)
    backwards = repository.diff("main", "main~1")["air/t"]
    assert backwards.growth == {"time": (8, 6)}
    assert backwards.values().removed == 12


def test_a_new_and_a_removed_array(repository: Repository) -> None:
    write(repository, base(), "new")
    found = repository.diff("main")["air/t"]
    assert (found.old, found.values().added) == (None, 48)
    assert repository.diff("main", "main~1")["air/t"].values().removed == 48
    assert "48 added" in str(found)


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("dtype", ["i8", "u1", "?", "c16", "U3"])
def test_any_type_is_compared(repository: Repository, dtype: str) -> None:
    old = np.zeros((8, 6), "i8").astype(dtype)
    new = old.copy()
    new[1, 1] = np.ones((), "i8").astype(dtype)
    write(repository, old, "old")
    write(repository, new, "new")
    values = repository.diff("main")["air/t"].values()
    assert (values.changed, values.first, values.last) == (1, (1, 1), (1, 1))
    assert values.largest == (None if dtype in ("?", "U3") else 1.0)


def test_both_sides_and_the_difference_as_a_dataset(repository: Repository) -> None:
    pytest.importorskip("xarray")

    def change(data: Any) -> None:
        data[3] += 2

    found = changed(repository, change).to_xarray()
    assert set(found) == {"old", "new", "difference"}
    assert float(found.difference.sum()) == 12.0
    assert str(found.time.values[1])[:10] == "2000-02-01"


def test_a_session_shows_the_values_that_it_changed(repository: Repository) -> None:
    write(repository, base(), "old")
    session = repository.session()
    zarr.open_array(session.store, path="air/t")[0, 0] = 5
    found = session.status()["air/t"]
    assert found.values().largest == 5.0
    session.discard()


@pytest.mark.parametrize("path", ["air", "air/nothing", ""])
def test_what_is_no_array_that_differs_is_told(repository: Repository, path: str) -> None:
    write(repository, base(), "old")
    write(repository, base() + 1, "new")
    with pytest.raises(vz.KeyNotFoundError, match=r"arrays that differ: 'air/t'"):
        repository.diff("main")[path]


def test_other_numbers_of_dimensions_cannot_be_compared(repository: Repository) -> None:
    write(repository, base(), "old")
    with repository.session(message="new") as session:
        zarr.create_array(session.store, name="air/t", data=np.zeros(4), overwrite=True)
    found = repository.diff("main")["air/t"]
    with pytest.raises(vz.InvalidInputError, match="2 dimensions on the old side and 1"):
        found.values()
    assert "air/t: changed" in str(found)
