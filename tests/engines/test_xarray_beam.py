"""xarray-beam writes into one session by its URL, from the processes of Beam's DirectRunner."""

from __future__ import annotations

import numpy as np
import pytest

import versioned_zarr as vz

beam = pytest.importorskip("apache_beam")
xbeam = pytest.importorskip("xarray_beam")
xr = pytest.importorskip("xarray")

OPTIONS = [
    "--runner=DirectRunner",
    "--direct_running_mode=multi_processing",
    "--direct_num_workers=2",
]


@pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part")
def test_a_dataset_is_written_by_processes_and_one_commit(repository: vz.Repository) -> None:
    from apache_beam.options.pipeline_options import PipelineOptions

    chunks = {"time": 2, "x": 6}
    dataset = xr.Dataset(
        {"t": (("time", "x"), np.arange(48.0).reshape(8, 6))},
        coords={"time": np.arange(8), "x": np.arange(6)},
    )
    lazy = dataset.chunk(chunks)
    session = repository.session()
    url = session.url.replace("@/", "@/set")
    with beam.Pipeline(options=PipelineOptions(OPTIONS)) as pipeline:
        parts = pipeline | xbeam.DatasetToChunks(lazy, chunks=chunks)
        _ = parts | xbeam.ChunksToZarr(url, xbeam.make_template(lazy), chunks)
    assert not session.missing()
    snapshot = repository.checkout(session.commit("By Beam").cid)
    xr.testing.assert_identical(snapshot.to_xarray("set").load(), dataset)
    assert sum(1 for _ in repository.log()) == 2
    session.discard()
