"""The example of a cluster that writes into a bucket runs, and its hash is reproduced."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.compat


@pytest.mark.usefixtures("s3_by_environment")
def test_a_cluster_writes_and_a_second_process_reproduces(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("iris_sample_data")
    pytest.importorskip("netCDF4")
    command = [sys.executable, str(EXAMPLES / "cluster_on_object_store.py")]
    done = subprocess.run(
        [*command, f"s3://bucket/{uuid.uuid4()}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one process was killed" in done.stdout
    by_cluster, by_one = (line.split()[0] for line in done.stdout.splitlines()[-2:])
    assert by_cluster == by_one
