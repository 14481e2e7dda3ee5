"""A geodata story with rioxarray: coordinate reference systems survive commits and merges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import versioned_zarr as vz

pytest.importorskip("rioxarray", reason="rioxarray is installed in the environment of engines")

# affine multiplies with an operator that it will drop.
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")


def scene(value: float = 1.0) -> Any:
    """A raster in UTM zone 32, with nodata at one pixel."""
    data = np.full((1, 40, 60), value, "f4")
    data[0, 0, 0] = np.nan
    raster = xr.DataArray(
        data,
        dims=("band", "y", "x"),
        coords={"y": 5_000_000 - 10.0 * np.arange(40), "x": 500_000 + 10.0 * np.arange(60)},
        name="elevation",
    )
    raster = raster.rio.write_crs("EPSG:32632").rio.write_nodata(-9999, encoded=True)
    raster = raster.rio.write_transform()
    raster.encoding["chunks"] = (1, 20, 20)
    return raster


@pytest.fixture
def repository(tmp_path: Path) -> vz.Repository:
    repository = vz.create(tmp_path / "geo.vz")
    with repository.session(message="scene") as session:
        scene().to_dataset().to_zarr(session)
    return repository


def opened(repository: vz.Repository, ref: str = "main") -> Any:
    return xr.open_dataset(repository[ref], decode_coords="all")["elevation"]


def test_what_rioxarray_wrote_it_reads_again(repository: vz.Repository) -> None:
    found, want = opened(repository), scene()
    assert found.rio.crs.to_epsg() == 32632
    assert found.rio.transform() == want.rio.transform()
    assert found.rio.bounds() == want.rio.bounds()
    assert found.rio.encoded_nodata == -9999
    assert np.isnan(found[0, 0, 0])
    clipped = found.rio.clip_box(500_000, 4_999_700, 500_200, 5_000_000)
    assert clipped.rio.reproject("EPSG:4326").rio.crs.to_epsg() == 4326


def test_a_region_and_another_variable_are_merged(repository: vz.Repository) -> None:
    repository.branches.create("dev")
    with repository.session("dev", message="slope") as session:
        slope = scene(7.0).rename("slope").to_dataset()
        slope.to_zarr(session, mode="a")
    with repository.session(message="correct a corner") as session:
        part = scene(3.0).isel(y=slice(20, 40), x=slice(40, 60))
        part.to_dataset().drop_vars("spatial_ref").to_zarr(session, region="auto")
    repository.merge("dev", into="main")
    dataset = xr.open_dataset(repository["main"], decode_coords="all")
    assert dataset["elevation"].rio.crs == dataset["slope"].rio.crs
    assert float(dataset["elevation"][0, 30, 50]) == 3
    assert float(dataset["slope"][0, 30, 50]) == 7


def test_another_reference_system_is_told_on_a_short_line(repository: vz.Repository) -> None:
    with repository.session(message="move to zone 33") as session:
        wkt = scene().rio.write_crs("EPSG:32633").spatial_ref.attrs
        zarr.open_array(session, path="spatial_ref", mode="r+").attrs.update(wkt)
    assert opened(repository).rio.crs.to_epsg() == 32633
    assert opened(repository, "main~1").rio.crs.to_epsg() == 32632
    lines = str(repository.diff("main")).splitlines()
    assert any("crs_wkt" in line for line in lines)
    assert max(map(len, lines)) < 400


def test_nested_conventions_are_merged_key_by_key(repository: vz.Repository) -> None:
    """GeoZarr keeps its conventions in nested objects and in a list of named ones."""
    first = {
        "zarr_conventions": [{"name": "proj:", "uuid": "1"}],
        "proj": {"code": "EPSG:32632"},
        "spatial": {"dimensions": ["y", "x"]},
    }
    with repository.session(message="conventions") as session:
        zarr.open_group(session).attrs.update(first)
    repository.branches.create("dev")
    with repository.session("dev", message="bbox") as session:
        root = zarr.open_group(session)
        root.attrs["spatial"] = {**first["spatial"], "bbox": [0, 0, 1, 1]}
        root.attrs["zarr_conventions"] = [*first["zarr_conventions"], {"name": "multiscales"}]
    with repository.session(message="code") as session:
        root = zarr.open_group(session)
        root.attrs["proj"] = {"code": "EPSG:32633"}
        root.attrs["spatial"] = {**first["spatial"], "registration": "pixel"}
    repository.merge("dev", into="main")
    found = dict(repository.checkout().open().attrs)
    assert found["proj"] == {"code": "EPSG:32633"}
    assert found["spatial"] == {
        "dimensions": ["y", "x"],
        "registration": "pixel",
        "bbox": [0, 0, 1, 1],
    }
    assert [each["name"] for each in found["zarr_conventions"]] == ["proj:", "multiscales"]
