"""What the page "Write a backend" tells others to do works for the backend that is its example."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from versioned_zarr import testing
from versioned_zarr.storage.locks import Locks
from versioned_zarr.storage.object_store import ObjectStore
from versioned_zarr.storage.protocol import PackStorage, Storage
from versioned_zarr.storage.session_storage import SessionStorage

PAGE = Path(__file__).parents[2] / "docs" / "design" / "write-a-backend.md"
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \|", re.MULTILINE)


def methods(protocol: type) -> set[str]:
    """The methods that a protocol itself asks for."""
    return {
        name for name, it in vars(protocol).items() if inspect.isfunction(it) and name[0] != "_"
    }


def test_the_suites_run_as_the_page_shows(tmp_path: Path) -> None:
    (code,) = CODE.findall(PAGE.read_text("utf-8"))
    module = tmp_path / "test_mine.py"
    module.write_text(code, "utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(module)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    classes = [node.name for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    tests = ["TestStorage", "TestBlocks", "TestRefs", "TestBackend", "TestRepository"]
    assert classes == ["OnMemory", *tests]
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) > 100


def test_every_suite_is_on_the_page() -> None:
    text = PAGE.read_text("utf-8")
    left_out = {"BlockReadContract"}  # a part of the two that go on from it
    assert {name for name in testing.__all__ if name not in text} == left_out


@pytest.mark.parametrize("protocol", [ObjectStore, SessionStorage, Locks])
def test_the_page_names_each_method(protocol: type) -> None:
    rows = dict(ROW.findall(PAGE.read_text("utf-8")))
    assert set(re.findall(r"`(\w+)`", rows[protocol.__name__])) == methods(protocol)


def test_the_page_names_what_else_there_is() -> None:
    text = PAGE.read_text("utf-8")
    assert all(f"`{name}`" in text for name in methods(Storage) | methods(PackStorage))
