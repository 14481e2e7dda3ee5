"""Every example runs: scripts in a process of their own, notebooks from an empty kernel."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from versioned_zarr.ipld.cid import to_text

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
pytestmark = pytest.mark.slow

# Executed as a reader would, with what it prints thrown away and any error raised.
RUN_NOTEBOOK = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
"""


NEEDS_NODE = {"share_over_ipfs.py"}
NEEDS_LAKEFS = {"lakefs_branches.py"}
NEEDS_PACKS = {"read_pack.py"}
NEEDS_CLUSTER = {"cluster_on_object_store.py"}


def run(command: list[str], folder: Path, **variables: str) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "MPLBACKEND": "agg", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout


SET_UP = NEEDS_NODE | NEEDS_LAKEFS | NEEDS_PACKS | NEEDS_CLUSTER
ALONE = [path for path in sorted(EXAMPLES.glob("*.py")) if path.name not in SET_UP]


@pytest.mark.parametrize("script", ALONE, ids=lambda path: path.name)
def test_script_runs(script: Path, tmp_path: Path) -> None:
    pytest.importorskip("iris_sample_data")
    run([sys.executable, str(script)], tmp_path)


def test_packs_are_read_by_the_standard_library(tmp_path: Path) -> None:
    repository = vz.create(tmp_path / "r.vz")
    large = os.urandom(3 << 20)
    with repository.session(message="values") as session:
        session.write("small", b"12345")
        session.write("large", large)
    packs = [str(path) for path in (tmp_path / "r.vz" / "packs").iterdir()]
    script = [sys.executable, "-I", str(EXAMPLES / "read_pack.py")]
    listed = subprocess.check_output([*script, *packs], text=True).splitlines()
    assert len(listed) == repository.fsck().checked_blocks
    assert f"{hashlib.sha256(b'12345').hexdigest()} value 5" in listed
    for key, data in (("small", b"12345"), ("large", large)):
        link = repository.checkout()._find(key)
        assert link is not None
        cid = to_text(link.cid)
        assert subprocess.check_output([*script, "--cat", cid, *packs]) == data


@pytest.mark.compat
@pytest.mark.parametrize("script", sorted(NEEDS_NODE))
def test_script_runs_on_a_node(script: str, node: Daemon, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    command = [sys.executable, str(EXAMPLES / script)]
    run(command, tmp_path, IPFS_RPC=node.rpc, IPFS_GATEWAY=node.gateway, VERSIONED_ZARR_HOME=home)


@pytest.mark.compat
@pytest.mark.usefixtures("lakefs_by_environment")
@pytest.mark.parametrize("script", sorted(NEEDS_LAKEFS))
def test_script_runs_on_lakefs(script: str, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    run([sys.executable, str(EXAMPLES / script)], tmp_path)


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    run([sys.executable, "-c", RUN_NOTEBOOK, str(notebook)], tmp_path)


@pytest.mark.parametrize("notebook", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_is_kept_executed(notebook: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [out for cell in code for out in cell.outputs if out.output_type == "error"]
