"""Cubed writes into one session from processes: by a store, by an array and by a URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

cubed = pytest.importorskip("cubed")

SHAPE, CHUNKS = (12, 10), (4, 5)


def plus_one(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return block + 1


def by_store(lazy: Any, session: vz.Session, executor: Any) -> None:
    cubed.to_zarr(lazy, store=session.store, path="air", executor=executor)


def by_array(lazy: Any, session: vz.Session, executor: Any) -> None:
    made = {"shape": SHAPE, "chunks": CHUNKS, "dtype": "f8"}
    cubed.store([lazy], [zarr.create_array(session.store, name="air", **made)], executor=executor)


def by_url(lazy: Any, session: vz.Session, executor: Any) -> None:
    cubed.to_zarr(lazy, store=session.url.replace("@/", "@/air"), executor=executor)


@pytest.mark.filterwarnings("ignore:fs .* was not created with:UserWarning")
@pytest.mark.parametrize("write", [by_store, by_array, by_url])
def test_an_array_is_written_by_processes_and_one_commit(
    repository: vz.Repository, tmp_path: Path, write: Callable[..., None]
) -> None:
    from cubed.runtime.create import create_executor

    data = np.arange(1.0, 121.0).reshape(SHAPE)
    spec = cubed.Spec(work_dir=str(tmp_path / "work"), allowed_mem="200MB")
    lazy = cubed.map_blocks(plus_one, cubed.from_array(data, CHUNKS, spec=spec), dtype=data.dtype)
    session = repository.session()
    write(lazy, session, create_executor("processes", {"max_workers": 2}))
    assert not session.missing("air")
    snapshot = repository.checkout(session.commit("By Cubed").cid)
    np.testing.assert_array_equal(snapshot.open("air")[:], data + 1)
    assert sum(1 for _ in repository.log()) == 2
    session.discard()
