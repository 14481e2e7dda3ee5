"""netCDF-C, which reads Zarr v2 by itself, reads what we export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import versioned_zarr as vz

netcdf = pytest.importorskip("netCDF4")
xr = pytest.importorskip("xarray")

SHAPE = (5, 40, 30)


def dataset() -> Any:
    random = np.random.default_rng(4)
    temperature = (("time", "y", "x"), random.normal(280, 10, SHAPE).astype("f4"))
    return xr.Dataset(
        {"temperature": temperature, "count": ("time", np.arange(5, dtype="i4"))},
        coords={"x": np.arange(30.0), "y": np.linspace(50, 60, 40)},
        attrs={"title": "as netCDF-C sees it"},
    )


@pytest.mark.parametrize("compressor", ["zlib", None])
def test_netcdf_c_reads_an_exported_snapshot(tmp_path: Path, compressor: str | None) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    codec = None if compressor is None else numcodecs.get_codec({"id": compressor})
    written = dataset()
    encoding = {name: {"compressors": codec} for name in written.variables}
    encoding["temperature"]["chunks"] = (2, 16, 30)
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="For netCDF") as session:
        written.to_zarr(session.store, zarr_format=2, consolidated=False, encoding=encoding)
    # A second version, so that the export has chunks of both.
    with repository.session(message="Another time step") as session:
        later = written.isel(time=slice(2, 4)) + 1
        region = {"time": slice(2, 4)}
        later.drop_vars(["x", "y"]).to_zarr(session.store, region=region, consolidated=False)
    snapshot = repository.checkout()
    folder = tmp_path / "plain.zarr"
    snapshot.to_folder(str(folder))

    expected = snapshot.to_xarray().load()
    assert float((expected - written).temperature[2, 0, 0]) == 1
    with netcdf.Dataset(f"{folder.as_uri()}#mode=zarr,file") as read:
        assert read.title == "as netCDF-C sees it"
        assert set(read.variables) == {"temperature", "count", "x", "y"}
        for name, variable in expected.variables.items():
            assert read[name].dimensions == variable.dims
            np.testing.assert_array_equal(read[name][:], variable.values)


def test_xarray_reads_an_exported_snapshot_through_netcdf_c(tmp_path: Path) -> None:
    written = dataset()
    repository = vz.create(tmp_path / "r.vz")
    with repository.session(message="For netCDF") as session:
        plain = {name: {"compressors": None} for name in written.variables}
        written.to_zarr(session.store, zarr_format=2, consolidated=False, encoding=plain)
    folder = tmp_path / "plain.zarr"
    repository.checkout().to_folder(str(folder))
    with xr.open_dataset(f"{folder.as_uri()}#mode=zarr,file", engine="netcdf4") as read:
        xr.testing.assert_equal(read.load(), written)
