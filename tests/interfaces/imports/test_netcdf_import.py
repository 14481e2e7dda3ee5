"""netCDF and HDF5 files are imported so that xarray reads the same values."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import versioned_zarr as vz
from tests.servers.threaded import threaded
from versioned_zarr.repository.repository import Repository

xr = pytest.importorskip("xarray")
netcdf = pytest.importorskip("netCDF4")

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return vz.create(tmp_path / "r.vz")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with packed values, times, texts, a scalar, an empty dimension and groups."""
    path = tmp_path / "air.nc"
    with netcdf.Dataset(path, "w") as root:
        for name, size in (("time", None), ("lat", 4), ("lon", 5), ("n", 3), ("s", 8)):
            root.createDimension(name, size)
        root.createDimension("none", None)
        root.title, root.numbers, root.count = "Air", np.array([1.5, np.nan]), np.int64(4)
        time = root.createVariable("time", "f8", ("time",))
        time.units, time.calendar = "days since 2000-01-01", "standard"
        time[:] = np.arange(6)
        root.createVariable("lat", "f4", ("lat",))[:] = np.arange(4)
        t2m = root.createVariable(
            "t2m", "i2", ("time", "lat", "lon"), fill_value=-999, zlib=True, chunksizes=(2, 4, 5)
        )
        t2m.scale_factor, t2m.add_offset = 0.1, np.float32(5)
        t2m.valid_range, t2m.grid_mapping = np.array([0, 300], "i2"), "crs"
        t2m[:] = np.ma.masked_less(np.arange(120).reshape(6, 4, 5), 7)
        root.createVariable("crs", "i4", ()).grid_mapping_name = "latitude_longitude"
        letters = root.createVariable("letters", "S1", ("n", "s"))
        letters[:] = netcdf.stringtochar(np.array([b"ab", b"cd", b"x"], "S8"))
        letters._Encoding = "utf-8"
        root.createVariable("text", str, ("n",))[:] = np.array(["ab", "lónger", "x"], object)
        unsigned = root.createVariable("unsigned", "i1", ("lat",))
        unsigned._Unsigned = "true"
        unsigned[:] = -1
        root.createVariable("empty", "f4", ("none",))
        lead = root.createVariable("lead", "i4", ("lat",))
        lead.units = "hours"
        lead[:] = 3
        big = root.createVariable("big_endian", ">i4", ("lat",), endian="big")
        big[:] = np.arange(4)
        below = root.createGroup("model/run")
        below.note = "hello"
        wind = below.createVariable("wind", "f8", ("lat",), fill_value=np.nan)
        wind[:] = [1, np.nan, 3, 4]
    return path


def check_equal(repository: Repository, file: Path, path: str = "") -> None:
    with xr.open_datatree(file, decode_timedelta=True) as expected:
        start = f"{path}/" if path else ""
        for node in expected.subtree:
            group = f"{start}{node.path.strip('/')}".strip("/")
            options: dict[str, Any] = {"decode_timedelta": True, "chunks": None}
            found = repository.checkout().to_xarray(group or None, **options)
            want = node.to_dataset(inherit=False)
            assert set(found.variables) == set(want.variables)
            for name in want.variables:
                np.testing.assert_array_equal(found[name].values, want[name].values)
                assert found[name].dims == want[name].dims
                assert found[name].attrs.keys() == want[name].attrs.keys(), name
                np.testing.assert_equal(
                    {k: np.asarray(v).tolist() for k, v in found[name].attrs.items()},
                    {k: np.asarray(v).tolist() for k, v in want[name].attrs.items()},
                )
            assert found.attrs.keys() == want.attrs.keys()


def test_values_attributes_and_groups_are_those_of_the_file(
    repository: Repository, file: Path
) -> None:
    told: list[vz.Progress] = []
    commit = vz.import_from(repository, file, progress=told.append)
    assert commit.message == f"Import {file}"
    check_equal(repository, file)
    snapshot = repository.checkout()
    assert "_FillValue" not in snapshot.open("lat").attrs
    packed = snapshot.open("t2m")
    assert (packed.dtype, packed.shape) == (np.dtype("i2"), (6, 4, 5))
    assert dict(packed.attrs)["scale_factor"] == 0.1
    assert snapshot.to_xarray().t2m.encoding["scale_factor"] == 0.1
    assert told[-1].done == told[-1].total
    assert told[-1].done_bytes == told[-1].total_bytes
    assert not repository.sessions


def test_a_file_is_imported_into_a_group(repository: Repository, file: Path) -> None:
    vz.import_from(repository, file, path="era5", message="ERA5")
    check_equal(repository, file, "era5")
    with pytest.raises(vz.AlreadyExistsError, match="overwrite"):
        vz.import_from(repository, file, path="era5")
    with pytest.raises(vz.NothingToCommitError):
        vz.import_from(repository, file, path="era5", overwrite=True)


def test_chunks_of_the_file_become_chunks(repository: Repository, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 128, 128)).astype("f4")
    dataset = xr.Dataset({"a": (("t", "y", "x"), values), "b": (("t", "y", "x"), values)})
    encoding = {"a": {"chunksizes": (1, 128, 128)}, "b": {"contiguous": True}}
    dataset.to_netcdf(tmp_path / "c.nc", encoding=encoding)
    vz.import_from(repository, tmp_path / "c.nc")
    snapshot = repository.checkout()
    assert snapshot.open("a").chunks == (1, 128, 128)
    assert snapshot.open("b").chunks == (4, 128, 128)
    check_equal(repository, tmp_path / "c.nc")


def test_a_netcdf_3_file(repository: Repository, tmp_path: Path) -> None:
    dataset = xr.Dataset({"a": ("x", np.arange(5, dtype="i4"))}, {"x": [1.0, 2, 3, 4, 5]})
    dataset.to_netcdf(tmp_path / "old.cdf", format="NETCDF3_64BIT", engine="netcdf4")
    vz.import_from(repository, tmp_path / "old.cdf")
    check_equal(repository, tmp_path / "old.cdf")


def test_an_hdf5_file_without_netcdf_dimensions(repository: Repository, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "p.h5", "w") as root:
        root["group/values"] = np.arange(12.0).reshape(3, 4)
        root["group"].attrs["who"] = "us"
    vz.import_from(repository, tmp_path / "p.h5")
    group = repository.checkout().open("group")
    np.testing.assert_array_equal(group["values"][:], np.arange(12.0).reshape(3, 4))
    assert group.attrs["who"] == "us"


def test_data_types_that_zarr_lacks_are_named(repository: Repository, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "compound.h5", "w") as root:
        root["c"] = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
    with pytest.raises(vz.InvalidInputError, match=r"'c' of .* has the compound data type"):
        vz.import_from(repository, tmp_path / "compound.h5")
    with netcdf.Dataset(tmp_path / "lists.nc", "w") as root:
        root.createDimension("x", 2)
        lists = root.createVariable("v", root.createVLType(np.int32, "list"), ("x",))
        lists[0], lists[1] = np.array([1, 2], "i4"), np.array([1], "i4")
    with pytest.raises(vz.InvalidInputError, match=r"the values of 'v' of .* are lists"):
        vz.import_from(repository, tmp_path / "lists.nc")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def test_a_file_on_a_web_server(repository: Repository, tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    pytest.importorskip("h5py")
    path = tmp_path / "web" / "w.nc"
    path.parent.mkdir()
    xr.Dataset({"a": ("x", np.arange(5.0))}).to_netcdf(path)
    with threaded(partial(Quiet, directory=str(path.parent))) as url:
        vz.import_from(repository, f"{url}/w.nc")
        with pytest.raises(vz.NotFoundError, match="no such file"):
            vz.import_from(repository, f"{url}/other.nc", path="x")
    check_equal(repository, path)


class _StopError(Exception):
    pass


def test_an_interrupted_import_continues(repository: Repository, tmp_path: Path) -> None:
    values = np.arange(1, 64 * 16384 + 1, dtype="i4").reshape(64, 128, 128)
    dataset = xr.Dataset({"a": (("t", "y", "x"), values)})
    dataset.to_netcdf(tmp_path / "c.nc", encoding={"a": {"chunksizes": (1, 128, 128)}})

    def stop(progress: vz.Progress) -> None:
        if progress.done == 20:
            raise _StopError

    with pytest.raises(_StopError):
        vz.import_from(repository, tmp_path / "c.nc", progress=stop, workers=1)
    (session,) = repository.sessions
    told: list[vz.Progress] = []
    vz.import_from(repository, tmp_path / "c.nc", progress=told.append)
    assert told[0].done >= 20
    assert told[0].total == told[-1].done == 64
    assert session not in repository.sessions
    check_equal(repository, tmp_path / "c.nc")


def test_a_file_that_changed_in_between_is_imported_as_it_is_now(
    repository: Repository, tmp_path: Path
) -> None:
    def write(size: int) -> None:
        values = np.ones((size, 128, 128), "i4")
        dataset = xr.Dataset({"a": (("t", "y", "x"), values)})
        dataset.to_netcdf(tmp_path / "c.nc", encoding={"a": {"chunksizes": (1, 128, 128)}})

    def stop(progress: vz.Progress) -> None:
        if progress.done == 5:
            raise _StopError

    write(9)
    with pytest.raises(_StopError):
        vz.import_from(repository, tmp_path / "c.nc", progress=stop, workers=1)
    write(3)
    vz.import_from(repository, tmp_path / "c.nc")
    check_equal(repository, tmp_path / "c.nc")
    assert len(list(repository.checkout().keys("a"))) == 4


def test_what_is_no_such_file_is_said(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "bad.nc").write_bytes(b"\x89HDF\r\n\x1a\nrubbish")
    with pytest.raises(vz.InvalidInputError, match=r"cannot read .*bad\.nc' as netCDF or HDF5"):
        vz.import_from(repository, tmp_path / "bad.nc")
    with pytest.raises(vz.NotFoundError, match=r"gone\.nc"):
        vz.import_from(repository, tmp_path / "gone.nc")
    with pytest.raises(vz.InvalidInputError, match="no format 'netCDF'; supported: zarr "):
        vz.import_from(repository, tmp_path / "bad.nc", format="netCDF")


def test_a_variable_of_countless_chunks_is_refused(repository: Repository, tmp_path: Path) -> None:
    with netcdf.Dataset(tmp_path / "a.nc", "w") as root:
        root.createDimension("x", 10**7)
        root.createDimension("y", 10**6)
        root.createVariable("t", "f4", ("x", "y"), chunksizes=(10, 10))
    with pytest.raises(vz.InvalidInputError, match=r"'t' .* has the shape \(10000000, 1000000\)"):
        vz.import_from(repository, tmp_path / "a.nc")
    assert not list(repository.sessions)
