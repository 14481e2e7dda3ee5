"""fsspec's own suite for file systems, on a branch of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fsspec.tests.abstract")
from fsspec.tests import abstract

import versioned_zarr as vz
from tests.compat.places import Place, in_folder, in_memory, in_objects
from versioned_zarr.interfaces.fsspec.filesystem import VersionedFileSystem


class BranchFixtures(abstract.AbstractFixtures):
    @pytest.fixture(params=[in_memory, in_folder, in_objects])
    def fs(self, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[VersionedFileSystem]:
        place: Place = request.param
        where = place(tmp_path)
        repository = vz.create(where)
        options = {} if isinstance(where, str) else {"store": where}
        files = VersionedFileSystem(
            repository.url, target_options=options, skip_instance_cache=True
        )
        yield files
        files.end_session(commit=False)

    @pytest.fixture(params=["", "root"])
    def fs_path(self, request: pytest.FixtureRequest) -> str:
        return request.param

    @pytest.fixture
    def fs_join(self):
        return lambda *parts: "/".join(part for part in parts if part)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, BranchFixtures):
    pass


class TestGet(abstract.AbstractGetTests, BranchFixtures):
    pass


class TestPut(abstract.AbstractPutTests, BranchFixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, BranchFixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, BranchFixtures):
    pass
