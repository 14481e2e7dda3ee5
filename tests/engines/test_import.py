"""The workers of a Dask cluster import one source into one session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.engines.conftest import cluster

pytest.importorskip("distributed")


def test_a_cluster_imports_the_tree_of_one_process(
    repository: vz.Repository, tmp_path: Path
) -> None:
    plain = tmp_path / "plain.zarr"
    array = zarr.create_array(str(plain), shape=(200,), chunks=(1,), dtype="i4", fill_value=-1)
    array[:] = np.arange(200)
    repository.branches.create("alone")
    expected = vz.import_zarr(repository, plain, into="alone").tree
    told: list[vz.Progress] = []
    with cluster() as client:
        commit = vz.import_zarr(repository, plain, executor=client, progress=told.append)
    assert commit.tree == expected
    assert (told[-1].done, told[-1].total) == (201, 201)
    assert not repository.sessions
