"""What the pages show in Python and in the shell runs as it stands there, page by page.

The blocks of a page run in order, in one namespace, each in the folder where the last one left off.
Each line of a block of text was printed by a block before it. A block in an HTML comment is not
shown; it prepares what the page takes to be there. Pages that need servers have tests of their own
in test_guides.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs import test_guides
from tests.docs.test_guides import run_shell

pytest.importorskip("xarray")
pytest.importorskip("click")

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(python|sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BY_OTHERS = {
    "design/write-a-backend.md": "test_write_a_backend",
    "guides/clusters-and-hpc.md": "test_clusters_and_hpc",
    "guides/coming-from-lakefs-spec.md": "test_lakefs",
    "guides/fast-arrays.md": "test_fast_arrays",
    "guides/import-and-export.md": "test_import_and_export",
    "guides/ipfs-node.md": "test_ipfs_node",
    "guides/lakefs.md": "test_lakefs",
    "guides/object-stores.md": "test_object_stores",
    "guides/shared-file-systems.md": "test_shared_file_systems",
    "guides/snapshots-from-anywhere.md": "test_ipfs_node",
}


def pages() -> Iterator[str]:
    for page in sorted(DOCS.rglob("*.md")):
        kinds = {kind for kind, _ in FENCE.findall(page.read_text("utf-8"))}
        if kinds & {"python", "sh"}:
            yield page.relative_to(DOCS).as_posix()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("name", [page for page in pages() if page not in BY_OTHERS])
def test_what_a_page_shows_runs(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: set[str] = set()
    for kind, code in FENCE.findall((DOCS / name).read_text("utf-8")):
        if kind == "text":
            printed.update(capsys.readouterr().out.splitlines())
            assert set(code.splitlines()) <= printed
            continue
        if kind == "python":
            exec(compile(code, name, "exec"), names)
            continue
        followed = f'{code}\nprintf %s "$PWD" > {tmp_path}/left-in\n'
        printed.update(run_shell(followed, tmp_path / "home").splitlines())
        monkeypatch.chdir((tmp_path / "left-in").read_text())


def test_every_page_with_code_has_a_test() -> None:
    assert set(BY_OTHERS) <= {*pages()}
    for page, test in BY_OTHERS.items():
        assert hasattr(test_guides, test) or page == "design/write-a-backend.md"
