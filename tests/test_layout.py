"""The map of the package: how full a folder may be, and that no name stands twice."""

from __future__ import annotations

import ast
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
