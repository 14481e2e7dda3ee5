"""Runs every check there is, in every environment, and closes with one line that counts the tests.

Knows the steps of `make test` (all of it) and of `make check` (`--quick`: linters, types and the
tests that need no program written by others, in one environment). A step that fails does not stop
those after it; the last that it printed is shown again at the end. What the tests printed is summed
from the reports that pytest writes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import environments
from build_server import SERVERS, build, find_go

ROOT = environments.ROOT
REPORTS = ROOT / ".test-results"
NEWEST, OLDEST, ZARR2, ENGINES = "py313-zarr", "py311-zarr316", "zarr2", "engines"
LINES_REPEATED = 40  # of a step that failed
LINTED = ("versioned_zarr", "tests", "tools", "examples", "benchmarks", "docs")
SITE = "build/docs"
# Not collected at all: importing xarray's tests alone takes seconds.
QUICK = (
    *("-m", "not slow and not compat and not torture"),
    *("--ignore=tests/compat", "--ignore=tests/servers"),
    "--hypothesis-profile=check",
)
# A test works in processes of its own where it matters, and reads the clock nowhere else.
WORKERS = os.environ.get("VERSIONED_ZARR_TEST_WORKERS", "2")


@dataclass(frozen=True)
class Step:
    """One command of a run; `report` is where its pytest writes what it counted."""

    name: str
    command: tuple[str, ...]
    report: Path | None = None


@dataclass
class Counts:
    """How many tests ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    # The steps that failed, each with the end of what it printed, where that was kept.
    broken: dict[str, str] = field(default_factory=dict)

    def add_report(self, report: Path) -> None:
        """Add what one run of pytest wrote; an expected failure counts as skipped, as in pytest."""
        report_tree = ET.parse(report)  # noqa: S314  our own pytest wrote it
        for suite in report_tree.getroot().iter("testsuite"):
            failed = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            skipped = int(suite.get("skipped", 0))
            self.failed += failed
            self.skipped += skipped
            self.passed += int(suite.get("tests", 0)) - failed - skipped


def lint_steps(name: str) -> Iterator[Step]:
    """Style, format and layers, in one environment."""
    tools = environments.python_of(name).parent
    linted = [folder for folder in LINTED if (ROOT / folder).is_dir()]
    yield Step("ruff check", (str(tools / "ruff"), "check", *linted))
    yield Step("ruff format", (str(tools / "ruff"), "format", "--check", *linted))
    yield Step("import-linter", (str(tools / "lint-imports"), "--no-cache", "--no-logo"))
    yield type_step(name)


def type_step(name: str) -> Step:
    """Types, as the Python and the zarr of an environment have them."""
    # A cache for each: what one Python's run wrote says nothing to another's.
    cache = f"--cache-dir={ROOT / '.mypy_cache' / name}"
    command = (str(environments.python_of(name)), "-m", "mypy", "--show-traceback", cache)
    return Step(f"mypy, {name}", command)


def docs_step(name: str) -> Step:
    """The documentation site; a warning, such as a link that leads nowhere, fails it."""
    strict = ("-q", "-W", "--keep-going", "-n")
    command = (str(environments.python_of(name)), "-m", "sphinx", *strict, "docs", SITE)
    return Step("sphinx", command)


def test_step(name: str, *arguments: str, label: str = "") -> Step:  # noqa: PT028 - no test
    """A run of pytest in an environment."""
    report = REPORTS / f"{(label or name).replace(', ', '-')}.xml"
    command = ("-m", "pytest", "-q", "-n", WORKERS, f"--junitxml={report}", *arguments)
    return Step(f"pytest, {label or name}", (str(environments.python_of(name)), *command), report)


def run(steps: list[Step]) -> Counts:
    """Run the steps one after the other; return what they counted and which ones failed."""
    counts = Counts()
    for step in steps:
        print(f"\n--- {step.name}", flush=True)
        started = time.monotonic()
        if step.report:
            step.report.unlink(missing_ok=True)
        code, said = execute(step)
        if step.report and step.report.exists():
            counts.add_report(step.report)
        verdict = "ok" if code == 0 else f"FAILED with exit code {code}"
        if code:
            counts.broken[step.name] = said
        print(f"--- {step.name}: {verdict}, {time.monotonic() - started:.0f} s", flush=True)
    return counts


def execute(step: Step) -> tuple[int, str]:
    """Run a step in sight of all; return its exit code and the last that it printed."""
    last: deque[str] = deque(maxlen=LINES_REPEATED)
    with subprocess.Popen(
        step.command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last.append(line)
    return process.returncode, "".join(last)


def all_steps() -> Iterator[Step]:
    """What `make test` runs, once environments and servers are there."""
    made = [name for name in (NEWEST, OLDEST, ZARR2, ENGINES) if environments.make(name)]
    zarr3 = [name for name in made if name in (NEWEST, OLDEST)]
    if not zarr3:
        raise SystemExit("no environment could be made: Python 3.13 or 3.11 is needed")
    build_servers()
    yield from lint_steps(zarr3[0])
    yield from (type_step(name) for name in zarr3[1:])
    if NEWEST in zarr3:  # Sphinx and hatchling are there
        yield docs_step(NEWEST)
        yield Step("wheel", (str(environments.python_of(NEWEST)), "tools/try_wheel.py"))
    yield test_step(zarr3[0])
    # What may depend on the versions of Python and zarr: all that is quick, and what others wrote.
    # Servers, crashes and long stories are the same for all of them.
    for name in zarr3[1:]:
        yield test_step(name, *QUICK, label=f"{name}, quick")
        yield test_step(name, "tests/compat", label=f"{name}, compat")
    if ZARR2 in made:
        yield test_step(ZARR2, "tests/zarr2")
    if ENGINES in made:
        yield test_step(ENGINES, "tests/engines", "tests/stories")


def quick_steps() -> Iterator[Step]:
    """What `make check` runs."""
    name = next((name for name in (NEWEST, OLDEST) if environments.make(name)), None)
    if name is None:
        raise SystemExit("no environment could be made: Python 3.13 or 3.11 is needed")
    yield from lint_steps(name)
    yield test_step(name, *QUICK)


def docs_steps() -> Iterator[Step]:
    """What `make docs` runs."""
    if not environments.make(NEWEST):
        raise SystemExit("no environment could be made: Python 3.13 is needed")
    yield docs_step(NEWEST)


def torture_steps() -> Iterator[Step]:
    """What `make torture` runs: the proofs that could go on for ever, for as long as is asked."""
    if not environments.make(NEWEST):
        raise SystemExit("no environment could be made: Python 3.13 is needed")
    build_servers()
    yield test_step(NEWEST, "-m", "torture", "--timeout=0", "--ignore=tests/compat")


def build_servers() -> None:
    """Build the real servers, where there is Go; their tests skip, or in CI fail, without them."""
    if find_go() is None and not environments.IN_CI:
        print("servers: left out, as there is no Go here", flush=True)
        return
    for name in SERVERS:
        build(name)


def steps_of(options: argparse.Namespace) -> Callable[[], Iterator[Step]]:
    """The steps that the command line asks for."""
    if options.torture:
        return torture_steps
    if options.docs:
        return docs_steps
    return quick_steps if options.quick else all_steps


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="run every check of the project")
    parser.add_argument("--quick", action="store_true", help="only what takes under two minutes")
    parser.add_argument("--docs", action="store_true", help="only the documentation site")
    parser.add_argument("--torture", action="store_true", help="only what could go on for ever")
    options = parser.parse_args()
    REPORTS.mkdir(exist_ok=True)
    started = time.monotonic()
    counts = run(list(steps_of(options)()))
    print(f"\n{time.monotonic() - started:.0f} s in all", flush=True)
    for name, said in counts.broken.items():
        print(f"\n--- failed: {name}; the last that it printed:\n{said}")
    print(f"total: {counts.passed} passed, {counts.failed} failed, {counts.skipped} skipped")
    return 1 if counts.broken else 0


if __name__ == "__main__":
    sys.exit(main())
