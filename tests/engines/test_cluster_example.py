"""The example of a cluster that writes into a bucket runs, and its hash is reproduced."""

from __future__ import annotations

import runpy
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

import versioned_zarr as vz

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.compat


@pytest.mark.usefixtures("s3_by_environment")
@pytest.mark.parametrize("left", [0, 5])
def test_a_cluster_writes_and_a_second_process_reproduces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("iris_sample_data")
    pytest.importorskip("netCDF4")
    url = f"s3://bucket/{uuid.uuid4()}"
    if left:  # of an earlier run, which was interrupted
        example = runpy.run_path(str(EXAMPLES / "cluster_on_object_store.py"))
        session, array = example["begin"](vz.create(url))
        assert session.url
        for period in range(left):
            array[0, period] = example["normal"](0, period)
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "another machine"))
    command = [sys.executable, str(EXAMPLES / "cluster_on_object_store.py")]
    done = subprocess.run(
        [*command, url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{16 - left} maps by " in done.stdout
    assert "one process was killed" in done.stdout
    by_cluster, by_one = (line.split()[0] for line in done.stdout.splitlines()[-2:])
    assert by_cluster == by_one
