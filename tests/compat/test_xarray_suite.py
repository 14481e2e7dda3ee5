"""xarray's own tests of its Zarr backend on the store of a session: folder, lakeFS and S3.

They write, append, write regions, change attributes, and read back through the same store, in both
Zarr formats and with Dask; what they skip or expect to fail is xarray's choice.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from zarr.abc.store import Store

import versioned_zarr as vz
from tests.compat.places import fresh_session, in_folder, in_memory, on_lakefs, on_s3

pytest.importorskip("xarray")
pytest.importorskip("dask")

import xarray as xr
from xarray.tests.test_backends import (
    TestZarrRegionAuto as RegionAuto,
)
from xarray.tests.test_backends import (
    ZarrBase,
    default_zarr_format,
    tmp_store,
)

__all__ = ["default_zarr_format", "tmp_store"]

# What zarr says of data types and documents that Zarr v3 has not specified; xarray writes both.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Consolidated metadata:zarr.errors.ZarrUserWarning"),
    pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning"),
]

RegionAuto.__test__ = False  # it is collected here only as what we make of it


@contextlib.contextmanager
def session_store_in_a_folder() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="xarray-suite-") as folder:
        yield fresh_session(in_folder, Path(folder)).store


class TestSession(ZarrBase):
    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Store]:
        with session_store_in_a_folder() as store:
            yield store


@pytest.mark.filterwarnings("ignore:.* was opened before, at another version")
class TestEngine(ZarrBase):
    """What is read was committed, and is opened by the URL of its repository."""

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Store]:
        with tempfile.TemporaryDirectory(prefix="xarray-suite-") as folder:
            yield vz.create(Path(folder, "r.vz")).session().store

    @contextlib.contextmanager
    def open(self, path: Any, **options: Any) -> Iterator[xr.Dataset]:
        if isinstance(path, str):  # of plain Zarr, which xarray has with its own tests
            with super().open(path, **options) as dataset:
                yield dataset
            return
        session = path.view
        session.commit("written", allow_empty=True)
        with xr.open_dataset(
            session.repository.url, engine="versioned_zarr", **options, **self.version_kwargs
        ) as dataset:
            yield dataset

    def test_deprecate_auto_chunk(self) -> None:
        for value in (True, False):
            with (
                self.create_zarr_target() as store,
                pytest.raises(vz.InvalidInputError, match="auto_chunk"),
                self.open(store, auto_chunk=value),
            ):
                pass


@pytest.mark.usefixtures("lakefs_by_environment")
class TestSessionOnLakefs(ZarrBase):
    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Store]:
        session = fresh_session(on_lakefs, Path())
        yield session.store
        session.discard()


@pytest.mark.usefixtures("s3_by_environment")
class TestSessionOnS3(ZarrBase):
    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Store]:
        session = fresh_session(on_s3, Path())
        yield session.store
        session.discard()


@pytest.mark.usefixtures("s3_by_environment")
class TestRegionOnS3(RegionAuto):
    __test__ = True

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Store]:
        session = fresh_session(on_s3, Path())
        yield session.store
        session.discard()


class TestRegionInAFolder(RegionAuto):
    __test__ = True

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Store]:
        with session_store_in_a_folder() as store:
            yield store


class TestRegionInMemory(RegionAuto):
    __test__ = True

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Store]:
        yield fresh_session(in_memory, Path()).store
