"""GRIB files are imported as cfgrib opens them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import versioned_zarr as vz
from versioned_zarr.repository.repository import Repository

xr = pytest.importorskip("xarray")

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")
needs_cfgrib = pytest.mark.skipif(
    not importlib.util.find_spec("cfgrib"), reason="cfgrib is not installed"
)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r.vz")


def write(path: Path, *messages: dict[str, Any]) -> None:
    """Write messages on a grid of 31 times 16 points; one point of the first is missing."""
    import eccodes

    with path.open("wb") as file:
        for number, keys in enumerate(messages):
            handle = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
            for name, value in keys.items():
                eccodes.codes_set(handle, name, value)
            eccodes.codes_set(handle, "bitmapPresent", 1)
            eccodes.codes_set(handle, "missingValue", 9999)
            values = np.arange(eccodes.codes_get(handle, "numberOfPoints")) * 0.1 + number
            if not number:
                values[3] = 9999
            eccodes.codes_set_values(handle, values)
            eccodes.codes_write(handle, file)
            eccodes.codes_release(handle)


def pressure(name: str, step: int, level: int) -> dict[str, Any]:
    return {"shortName": name, "level": level, "step": step}


@needs_cfgrib
def test_fields_that_fit_together_become_one_group(repository: Repository, tmp_path: Path) -> None:
    path = tmp_path / "fc.grib2"
    write(path, *(pressure(n, s, lv) for n in ("t", "u") for s in (0, 6) for lv in (500, 850)))
    vz.import_from(repository, path)
    options = {"decode_timedelta": True}
    with xr.open_dataset(
        path, engine="cfgrib", backend_kwargs={"indexpath": ""}, **options
    ) as expected:
        found = repository.checkout().to_xarray(chunks=None, **options)
        assert set(found.variables) == set(expected.variables)
        assert bool(np.isnan(found.t.values).any())
        for name in expected.variables:
            np.testing.assert_array_equal(found[name].values, expected[name].values)
            assert found[name].dims == expected[name].dims
        assert found.t.attrs["GRIB_shortName"] == "t"
    assert repository.checkout().open("t").shape == (2, 2, 31, 16)
    assert [each.name for each in tmp_path.iterdir() if "idx" in each.name] == []


@needs_cfgrib
def test_fields_that_do_not_fit_become_groups(repository: Repository, tmp_path: Path) -> None:
    path = tmp_path / "mixed.grb"
    surface = {"typeOfLevel": "heightAboveGround", "shortName": "2t", "level": 2}
    write(path, pressure("t", 0, 500), surface, {**surface, "shortName": "10u", "level": 10})
    vz.import_from(repository, path)
    snapshot = repository.checkout()
    names = {"isobaricInhPa_500": "t", "heightAboveGround_2": "t2m", "heightAboveGround_10": "u10"}
    assert {name for name in snapshot.list_dir() if name != "zarr.json"} == set(names)
    for group, name in names.items():
        assert snapshot.open(f"{group}/{name}").shape == (31, 16)
    assert float(snapshot.open("heightAboveGround_10/u10")[0, 0]) == 2


@needs_cfgrib
def test_a_damaged_file_is_named(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "bad.grib").write_bytes(b"GRIBrubbish")
    with pytest.raises(vz.InvalidInputError, match=r"cannot read .*bad.grib' as GRIB"):
        vz.import_from(repository, tmp_path / "bad.grib")
    with pytest.raises(vz.NotFoundError, match="download it first"):
        vz.import_from(repository, "https://example.org/a.grib2")


def test_the_package_to_install_is_named(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.grib").write_bytes(b"GRIB")
    monkeypatch.setitem(sys.modules, "cfgrib", None)  # as if it were not there
    with pytest.raises(vz.MissingDependencyError, match=r"versioned-zarr\[grib\]"):
        vz.import_from(repository, tmp_path / "a.grib")
