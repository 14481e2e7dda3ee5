"""Changes the code in one small place at a time, and sees whether a test fails.

Knows which changes there are and which tests are likely to see one. Each is made in a copy, never
in the checkout. A change that no test sees (it survives) either means nothing, or is a fact that no
test states yet. The sample is drawn by a seed, so that others can draw the same.

    python tools/mutants.py --seed 7 --count 60                    try so many
    python tools/mutants.py --seed 7 --count 60 --only refs.py     those of them in one module
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import environments

ROOT = environments.ROOT
PACKAGE = "versioned_zarr"
COPIED = (PACKAGE, "tests", "docs", "examples", "pyproject.toml", "README.md", "CHANGELOG.md")
# Each folder with the tests that are near to it; then come those of the whole engine, then all.
CONTRACTS = "tests/backends/test_contracts.py"
ORDER = "tests/repository/test_order_of_writes.py"
NEAR = {
    "backends/local": ("tests/backends/test_local.py", CONTRACTS, ORDER),
    "blocks": ("tests/blocks", CONTRACTS),
    "history": ("tests/history", CONTRACTS),
    "ipld": ("tests/ipld", "tests/tree", "tests/docs/test_design_pages.py"),
    "tree": ("tests/tree",),
    "engine": (CONTRACTS,),
    "repository": (CONTRACTS,),
}
ENGINE = ("tests/repository", "tests/properties", "tests/history", "tests/blocks")
ALL = ("tests", "--ignore=tests/compat", "--ignore=tests/servers")
FEWER = ("-m", "not slow and not compat and not torture")
CIRCLES = "what survives faces: 1, the tests near to it; 2, those of the engine; 3, all quick ones"
UNSEEN = frozenset({"__repr__", "_repr_html_"})
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
}  # fmt: skip
OTHER = {"min": "max", "max": "min"}


@dataclass(frozen=True)
class Mutant:
    """One change: what lies between two places of a file (bytes of its UTF-8) becomes a text."""

    path: Path
    line: int
    start: int
    end: int
    text: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.what}"

    def apply(self, root: Path) -> list[str]:
        """Make the change below a folder; gives it as a diff."""
        file = root / self.path
        old = file.read_bytes()
        new = old[: self.start] + self.text.encode() + old[self.end :]
        file.write_bytes(new)
        before, after = old.decode().splitlines(), new.decode().splitlines()
        return list(difflib.unified_diff(before, after, lineterm="", n=0))[2:]


class Finder(ast.NodeVisitor):
    """Finds the changes that a module allows; leaves out types, messages and what is only shown."""

    def __init__(self, path: Path, source: bytes) -> None:
        self.path = path
        self.found: list[Mutant] = []
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _add(self, node: ast.expr | ast.stmt, text: str, what: str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        self.found.append(Mutant(self.path, node.lineno, start, end, text, what))

    def _replace(self, node: ast.expr, new: ast.expr, what: str) -> None:
        self._add(node, f"({ast.unparse(new)})", what)

    def _negate(self, test: ast.expr) -> None:
        self._add(test, f"(not ({ast.unparse(test)}))", "negates a condition")

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Go into a function, but not into its types and decorators."""
        if node.name in UNSEEN:
            return
        for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        """Go into a class, unless it only says what others do."""
        if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
            for statement in node.body:
                self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """Go into a value, but not into its type."""
        if node.value is not None and "TypeAlias" not in ast.unparse(node.annotation):
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """An assertion is for who reads."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A message."""

    def visit_Raise(self, node: ast.Raise) -> None:
        """An error that is not raised; what it says is a message."""
        self._add(node, "pass", "removes an error")

    def visit_Expr(self, node: ast.Expr) -> None:
        """A call that nobody makes."""
        if isinstance(node.value, ast.Call):
            self._add(node, "pass", "removes a call")
        self.visit(node.value)

    def visit_Return(self, node: ast.Return) -> None:
        """Nothing returned."""
        if node.value is None:
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._add(node.value, "None", "returns None")
        self.visit(node.value)

    def visit_With(self, node: ast.With) -> None:
        """A context that does nothing."""
        for item in node.items:
            text = '__import__("contextlib").nullcontext(True)'
            self._add(item.context_expr, text, "removes a context")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """The other branch."""
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self._negate(node.test)
            self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        """A loop that begins when it should not."""
        if not isinstance(node.test, ast.Constant):
            self._negate(node.test)
            self.visit(node.test)
        for statement in (*node.body, *node.orelse):
            self.visit(statement)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """The other value."""
        self._negate(node.test)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Another comparison."""
        other = COMPARISONS[type(node.ops[0])]()
        new = ast.Compare(node.left, [other, *node.ops[1:]], node.comparators)
        self._replace(node, new, "changes a comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Or for and."""
        op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._replace(node, ast.BoolOp(op, node.values), "changes and, or")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Another operator."""
        other = OPERATORS.get(type(node.op))
        if other is not None and not is_text(node.left) and not is_text(node.right):
            new = ast.BinOp(node.left, other(), node.right)
            self._replace(node, new, "changes an operator")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """The other truth, or one more."""
        if isinstance(node.value, bool):
            self._add(node, str(not node.value), "changes a truth")
        elif isinstance(node.value, int):
            self._add(node, f"({node.value + 1})", "adds one")

    def visit_Call(self, node: ast.Call) -> None:
        """The greater for the smaller."""
        if isinstance(node.func, ast.Name) and node.func.id in OTHER:
            self._add(node.func, OTHER[node.func.id], "changes min, max")
        self.generic_visit(node)


def is_text(node: ast.expr) -> bool:
    """Whether an expression is text as it stands."""
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
    )


def mutants(root: Path, folders: Sequence[str]) -> Iterator[Mutant]:
    """All changes that there are, in the order of files."""
    for folder in folders:
        for file in sorted((root / PACKAGE / folder).glob("*.py")):
            finder = Finder(file.relative_to(root), file.read_bytes())
            finder.visit(ast.parse(file.read_bytes()))
            yield from finder.found


def tests_of(mutant: Mutant, root: Path) -> list[str]:
    """The tests that are near to a change, those that are called as the module first."""
    folder = mutant.path.parent.relative_to(PACKAGE).as_posix()
    named = sorted((root / "tests").glob(f"*/test_{mutant.path.stem}*.py"))
    return [*(str(file.relative_to(root)) for file in named), *NEAR[folder]]


@dataclass(frozen=True)
class Verdict:
    """What became of a change: the tests failed, or not, and what they said."""

    is_killed: bool
    said: str
    took_s: float


def run_tests(root: Path, tests: Sequence[str], limit_s: float) -> Verdict:
    """Run tests on a copy up to the first that fails; one that takes too long has failed."""
    command = (
        *(str(environments.python_of("py313-zarr")), "-m", "pytest", "-q", "-x"),
        *("-p", "no:cacheprovider", "--timeout=60", *FEWER, *tests),
    )
    paths = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env={**os.environ, **paths},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return Verdict(is_killed=True, said="too long", took_s=limit_s)
        finally:
            # Children that hang, too.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        said = output.read()
    lines = [line for line in said.splitlines() if line.startswith(("FAILED", "ERROR"))]
    last = [*lines, *said.splitlines()[-1:]][0]
    return Verdict(process.returncode != 0, last, time.monotonic() - started)


def copy(there: Path, root: Path) -> None:
    """Copy what the tests need."""
    for name in COPIED:
        source = there / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, root / name, ignore=skipped, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, root / name)


def attempt(mutant: Mutant, there: Path, limit_s: float, circles: int) -> tuple[Verdict, list[str]]:
    """Make a change in a copy of its own and run the tests there, the near ones first."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder)
        copy(there, root)
        diff = mutant.apply(root)
        verdict = run_tests(root, tests_of(mutant, root), limit_s)
        for tests in (ENGINE, ALL)[: circles - 1]:
            if not verdict.is_killed:
                verdict = run_tests(root, tests, 4 * limit_s)
        return verdict, diff


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="see whether the tests see small changes")
    parser.add_argument("--seed", type=int, default=0, help="draws the sample")
    parser.add_argument("--count", type=int, default=60, help="how many changes to try")
    parser.add_argument("--folder", choices=NEAR, action="append", help="only in this one")
    parser.add_argument("--limit", type=float, default=300, help="seconds for the tests of one")
    parser.add_argument("--only", help="only those of the sample whose place holds this text")
    parser.add_argument("--circles", type=int, choices=(1, 2, 3), default=3, help=CIRCLES)
    parser.add_argument("--list", action="store_true", help="only show the sample")
    parser.add_argument("--unchecked", action="store_true", help="do not run unchanged code first")
    options = parser.parse_args()
    # What is tried is the code as it is now, whoever goes on working at it meanwhile.
    with tempfile.TemporaryDirectory(prefix="unchanged-") as folder:
        copy(ROOT, Path(folder))
        return attempt_all(Path(folder), options)


def attempt_all(there: Path, options: argparse.Namespace) -> int:
    """Try the sample that was asked for; gives the exit code."""
    found = list(mutants(there, options.folder or list(NEAR)))
    chance = random.Random(options.seed)  # noqa: S311 - nobody is to be surprised
    sample = chance.sample(found, min(options.count, len(found)))
    sample = [mutant for mutant in sample if (options.only or "") in str(mutant)]
    print(f"{len(sample)} of {len(found)} changes, seed {options.seed}", flush=True)
    if options.list:
        print(*sample, sep="\n")
        return 0
    if not options.unchecked:
        verdict = run_tests(there, ALL, 4 * options.limit)
        print(f"unchanged: {verdict.said} ({verdict.took_s:.0f} s)", flush=True)
        if verdict.is_killed:
            raise SystemExit("the tests fail where nothing is changed: mend that first")
    survivors = 0
    for mutant in sample:
        verdict, diff = attempt(mutant, there, options.limit, options.circles)
        survivors += not verdict.is_killed
        word = "killed" if verdict.is_killed else "SURVIVED"
        print(f"{word} {mutant} ({verdict.took_s:.0f} s): {verdict.said}", flush=True)
        if not verdict.is_killed:
            print(*diff, sep="\n", flush=True)
    print(f"total: {len(sample) - survivors} killed, {survivors} survived, of {len(sample)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
