"""The map of the package: how full a folder may be, and that no name stands twice."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import versioned_zarr as vz
from tests.syntax import parsed

PACKAGE = Path(vz.__file__).parent
MODULES = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
MOST = 14
SHARED = {"__main__", "protocol", "client"}


def classes(path: Path) -> Iterator[str]:
    for node in parsed(path).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def test_no_folder_is_full() -> None:
    counts = Counter(path.parent for path in MODULES)
    assert {folder: count for folder, count in counts.items() if count > MOST} == {}


def test_no_module_name_stands_twice() -> None:
    counts = Counter(path.stem for path in MODULES)
    assert {name for name, count in counts.items() if count > 1} <= SHARED


def test_no_public_class_name_stands_twice() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for name in classes(path):
            places[name].append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_module_says_what_it_is() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = ast.get_docstring(parsed(path)) or ""
        assert text or path.name == "__init__.py", path


def test_no_example_creates_what_another_or_a_test_creates() -> None:
    """Repositories in memory are those of the process, which runs examples and tests."""
    created = re.compile(r"""\b(?:create|clone)\([^)\n]*["'](memory://[a-z0-9-]+)["']""")
    examples = Counter(
        name
        for path in MODULES
        for line in path.read_text("utf-8").splitlines()
        if line.lstrip().startswith((">>>", "..."))
        for name in created.findall(line)
    )
    tests = Path(__file__).parent
    in_tests = {
        name for path in tests.rglob("*.py") for name in created.findall(path.read_text("utf-8"))
    }
    assert {name for name, count in examples.items() if count > 1} == set()
    assert examples.keys() & in_tests == set()
