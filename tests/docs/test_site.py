"""The site is complete: names, errors, variables, commands, links; `help` shows docstrings."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.syntax import parsed
from versioned_zarr import errors
from versioned_zarr.blocks.protocol import ByteRange
from versioned_zarr.engine.hierarchy.blame import Blame
from versioned_zarr.engine.open_options import Options, ServerOptions
from versioned_zarr.engine.ref_mappings import Branches, Tags
from versioned_zarr.engine.sessions.open_sessions import Sessions
from versioned_zarr.history.log import Log
from versioned_zarr.history.refs import RefEntry
from versioned_zarr.interfaces.zarr.array_diff import ArrayDiff, ValueChanges
from versioned_zarr.repository.citation import Citation
from versioned_zarr.repository.mapping import SessionMapping, SnapshotMapping

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DIRECTIVE = re.compile(r"^\.\. auto(?:class|function|exception):: ([\w.]+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def generated() -> set[str]:
    """The names whose docstrings are on a page."""
    api = DOCS / "reference" / "api"
    return {name for page in api.glob("*.md") for name in DIRECTIVE.findall(page.read_text())}


def test_every_public_name_is_in_the_reference() -> None:
    made = {name.removeprefix("versioned_zarr.") for name in generated()}
    assert {*vz.__all__} - {"__version__"} <= made
    assert "`vz.__version__`" in (DOCS / "reference" / "api" / "functions.md").read_text()


def test_every_error_says_what_to_do() -> None:
    text = (DOCS / "troubleshooting" / "errors.md").read_text()
    parts = re.split(r"^#{2,3} (\w+Error)$", text, flags=re.MULTILINE)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert found.keys() == {*errors.__all__}
    bases = {"VersionedZarrError", "NotFoundError"}
    assert {name for name, body in found.items() if "**Do**: " not in body} == bases


def environment_names(tree: ast.AST, constants: dict[str, set[str]]) -> Iterator[str]:
    """The names of environment variables that a module reads, by the constants of all modules."""
    for node in ast.walk(tree):
        asked: ast.expr | None = None
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            asked = node.slice
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("os.environ.get", "os.getenv", "from_environment"):
                asked = node.args[0]
            for word in node.keywords:
                if word.arg == "envvar":
                    asked = word.value
        if isinstance(asked, ast.Constant):
            yield str(asked.value)
        elif isinstance(asked, ast.Name):
            yield from constants.get(asked.id, set())


def variables() -> set[str]:
    """The environment variables that the package reads."""
    modules = [parsed(path) for path in (ROOT / "versioned_zarr").rglob("*.py")]
    constants: dict[str, set[str]] = {}
    for tree in modules:
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                texts = {
                    each.value
                    for each in ast.walk(node.value)
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                }
                names = {each for each in texts if re.fullmatch(r"_?[A-Z][A-Z0-9_]+", each)}
                if isinstance(target, ast.Name) and target.id.isupper():
                    constants.setdefault(target.id, set()).update(names)
    # Read in a loop over this table, one of them by a local name.
    found = set(constants["_VARIABLES"])
    for tree in modules:
        found.update(environment_names(tree, constants))
    return found - {"_VZ_COMPLETE"}  # click's own, between the shell and `vz`


def test_every_environment_variable_is_listed() -> None:
    text = (DOCS / "reference" / "configuration.md").read_text()
    listed = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", text))
    found = variables()
    assert "VERSIONED_ZARR_HOME" in found
    assert "VERSIONED_ZARR_IPFS_AUTH" in found
    assert found <= listed
    ours = {name for name in listed if name.startswith("VERSIONED_ZARR_")}
    assert ours - found == {"VERSIONED_ZARR_COMMIT"}  # which is set, not read


def commands_shown() -> Iterator[tuple[str, list[str]]]:
    """Each command line that a page shows, without `vz` and `-C`, with the page that shows it."""
    inline = re.compile(
        r"`(vz [^`]+)`|^(?: {4})?(vz .+?)(?: {2,}#.*| > .*| \|\| .*)?$", re.MULTILINE
    )
    for page in pages():
        if page.name == "CHANGELOG.md":  # which names what was removed, too
            continue
        for match in inline.finditer(page.read_text("utf-8")):
            words = (match[1] or match[2]).split()[1:]
            while words and words[0] in ("-C", "--storage-option"):
                words = words[2:]
            if words:
                yield str(page.relative_to(ROOT)), words


def test_the_commands_on_pages_are_those_that_vz_has() -> None:
    click = pytest.importorskip("click")
    from versioned_zarr.cli.app import cli

    text = (DOCS / "reference" / "cli.md").read_text()
    assert ".. click:: versioned_zarr.cli.app:cli" in text
    assert ":nested: full" in text
    shown = [*commands_shown()]
    assert len(shown) > 100
    for page, words in shown:
        if words[0].startswith("-") or not words[0].islower():
            continue
        command: Any = cli.commands.get(words[0])
        assert command is not None, (page, words)
        rest = words[1:]
        if isinstance(command, click.Group) and rest and rest[0].islower():
            command = command.commands.get(rest[0])
            assert command is not None, (page, words)
        known = {option for param in command.params for option in param.opts} | {"--help"}
        asked = [word.partition("=")[0] for word in rest if re.match("--[a-z]", word)]
        if words[0] != "bisect":  # after it stands another program
            assert set(asked) <= known, (page, words)


def pages() -> list[Path]:
    tops = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
    return [*(ROOT / top for top in tops if (ROOT / top).exists()), *DOCS.rglob("*.md")]


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Sphinx checks those of the site, too; not those of README."""
    text = FENCED.sub("", page.read_text("utf-8"))
    for target in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            anchors = {slug(each) for each in HEADING.findall(found.read_text("utf-8"))}
            assert anchor in anchors, target


def test_no_page_installs_from_an_index_before_the_release() -> None:
    for page in pages():
        for line in page.read_text("utf-8").splitlines():
            if re.search(r"pip install .*versioned-zarr", line):
                assert "from a clone" in line, f"{page}: {line}"


def classes() -> list[type]:
    made: list[Any] = [getattr(vz, name) for name in vz.__all__]
    returned = [ArrayDiff, Blame, ByteRange, Citation, Log, Options, RefEntry, ServerOptions]
    returned += [ValueChanges]
    mappings = [Branches, SessionMapping, Sessions, SnapshotMapping, Tags]
    return [*(each for each in made if inspect.isclass(each)), *returned, *mappings]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_help_shows_a_docstring_for_each_member(kind: type) -> None:
    assert (kind.__doc__ or "").strip()
    assert not (kind.__doc__ or "").startswith(f"{kind.__name__}(")  # made by dataclass
    for name, member in inspect.getmembers_static(kind):
        is_data = not (inspect.isroutine(member) or isinstance(member, property | classmethod))
        if name.startswith("_") or is_data or name not in dir(kind):
            continue
        where = next(base for base in kind.__mro__ if name in vars(base))
        if where.__module__.startswith("versioned_zarr"):
            assert (inspect.getdoc(member) or "").strip(), f"{kind.__name__}.{name}"


@pytest.mark.parametrize(
    "name", [name for name in vz.__all__ if inspect.isroutine(getattr(vz, name))]
)
def test_help_shows_an_example_of_each_function(name: str) -> None:
    text = inspect.getdoc(getattr(vz, name)) or ""
    assert re.search(rf"^Examples?:.*\bvz\.{name}\(", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("kind", [vz.Repository, vz.Session, vz.Snapshot])
def test_help_shows_an_example_of_what_is_used_most(kind: type) -> None:
    assert ">>> " in (kind.__doc__ or "")
