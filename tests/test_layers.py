"""The map of the package: what imports what, type-checking imports counted, and what asks for what.

`lint-imports` checks that imports go down; this checks what it has no contract for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import versioned_zarr
from tests.syntax import parsed

ROOT = Path(versioned_zarr.__file__).parent
NAME = ROOT.name
MODULES = {
    ".".join((NAME, *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
IMPLEMENTATIONS = tuple(f"{NAME}.{part}" for part in ("blocks.packs", "blocks.remote", "backends"))


@cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(parsed(MODULES[module])))


def imported(module: str) -> dict[str, str]:
    """The names that a module imports, each with the dotted name of what it is."""
    names = {}
    for node in nodes(module):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    return names


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports."""
    parts = (
        whole if whole in MODULES else whole.rpartition(".")[0]
        for whole in imported(module).values()
    )
    return {part for part in parts if part in MODULES and part != module}


def check_no_circle(graph: Mapping[str, Iterable[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"imports go in a circle: {' <- '.join(error.args[1])}")


def test_no_modules_import_each_other() -> None:
    check_no_circle({module: imports(module) for module in MODULES})


def test_no_folders_of_the_engine_import_each_other() -> None:
    engine = f"{NAME}.engine"
    folders = {path.name for path in (ROOT / "engine").iterdir() if path.is_dir()}

    def folder(module: str) -> str | None:
        part = module.removeprefix(f"{engine}.").partition(".")[0]
        return part if module.startswith(f"{engine}.") and part in folders else None

    graph: dict[str, set[str]] = {}
    for module in MODULES:
        own = folder(module)
        if own is not None:
            others = {there for each in imports(module) if (there := folder(each)) is not None}
            graph.setdefault(own, set()).update(others - {own})
    assert {"maintenance", "transfer"} <= graph.keys()
    check_no_circle(graph)


def classes_asked_for(module: str) -> set[str]:
    """What a module asks of values that they are instances of, by `isinstance` or `match`."""
    names = imported(module)
    asked: list[ast.AST] = []
    for node in nodes(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"isinstance", "issubclass"}:
            asked.append(node.args[1])
        elif isinstance(node, ast.MatchClass):
            asked.append(node.cls)
    found = set()
    for node in (each for whole in asked for each in ast.walk(whole)):
        if isinstance(node, (ast.Name, ast.Attribute)):
            first, dot, rest = ast.unparse(node).partition(".")
            found.add(names.get(first, first) + dot + rest)
    return found


@pytest.mark.parametrize("layer", ["engine", "interfaces", "cli"])
def test_what_a_store_can_do_is_asked_of_a_protocol_and_not_of_its_class(layer: str) -> None:
    found = {
        module: wrong
        for module in MODULES
        if module.startswith(f"{NAME}.{layer}.")
        and (wrong := [c for c in classes_asked_for(module) if c.startswith(IMPLEMENTATIONS)])
    }
    assert found == {}


def test_only_the_package_itself_imports_by_name() -> None:
    by_name = {"importlib", "importlib.import_module", "pkgutil", "pkgutil.resolve_name"}
    assert {module for module in MODULES if by_name & {*imported(module).values()}} == {NAME}
