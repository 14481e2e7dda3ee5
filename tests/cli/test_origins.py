"""Commands that find where a change is from: diff --values, blame, bisect."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import versioned_zarr as vz

pytest.importorskip("click")
from versioned_zarr.cli.app import run as run_vz


def run(arguments: list[str]) -> int:
    """The exit code of a command."""
    try:
        run_vz(arguments)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> vz.Repository:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    repository = vz.create(tmp_path / "r.vz")
    for number in range(4):
        with repository.session(message=f"number {number}") as session:
            array = zarr.create_array(
                session.store, name="t", shape=(4, 2), chunks=(2, 2), dtype="f8", overwrite=True
            )
            data = np.ones((4, 2))
            data[:2] += number
            array[:] = data
    monkeypatch.chdir(tmp_path / "r.vz")
    return repository


def test_values_are_compared(repository: vz.Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["diff", "main~2", "--values"]) == 0
    out = capsys.readouterr().out
    assert "4 of 4 values changed; by up to 2, 2 on average; from [0, 0] to [1, 1]" in out
    assert run(["diff", "main~2", "main", "--values", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["values"]["t"]
    assert found["values"]["largest"] == 2.0
    assert found["labels"] == {"axis 0": "0 … 1", "axis 1": "0 … 1"}


def test_blame_names_a_commit_for_each_chunk(
    repository: vz.Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["blame", "t"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 chunk in [0, 0]  number 3" in lines[0]
    assert "1 chunk in [1, 0]  number 0" in lines[1]
    assert run(["blame", "t", "main~2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [commit["message"] for commit in found["commits"]] == ["number 1", "number 0"]
    assert run(["blame", "nothing"]) == 1
    assert "no array" in capsys.readouterr().err


CHECK = """
import os, sys
import versioned_zarr as vz
assert sys.argv[1] == os.environ["VERSIONED_ZARR_COMMIT"]
snapshot = vz.open(os.environ["VERSIONED_ZARR_REPO"]).checkout(sys.argv[1])
sys.exit(int(snapshot.open("t")[0, 0] >= 3))
"""


def test_bisect_runs_a_command(
    repository: vz.Repository, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    check = tmp_path / "check.py"
    check.write_text(CHECK)
    assert run(["bisect", "main~3", "main", sys.executable, str(check), "{}"]) == 0
    out = capfd.readouterr().out
    assert "first bad commit:" in out
    assert "number 2" in out.partition("first bad commit:")[2]
    command = ["bisect", "--json", "main~3", "main", "--", sys.executable, str(check), "{}"]
    assert run(command) == 0
    assert json.loads(capfd.readouterr().out)["message"] == "number 2"
    assert run(["bisect", "main~3", "main", str(tmp_path / "nothing")]) == 1
    assert "cannot run" in capfd.readouterr().err
