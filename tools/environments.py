"""Makes the virtual environments that the project is run, checked and measured in.

Knows which there are, which Python each needs and what goes into it. One is made afresh when its
recipe, its Python or what pyproject.toml says of packages changed, and left alone otherwise. Runs
on a bare Python: nothing is installed before it.

    python tools/environments.py demo                  make it unless it is there and up to date
    python tools/environments.py py313-zarr zarr2      several, in this order
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

_EVERYTHING = ("-e", ".[all]")
_CHECKED = (*_EVERYTHING, "--group", "test-zarr3", "--group", "lint")


@dataclass(frozen=True)
class Environment:
    """One virtual environment.

    Attributes:
        folder: where it is, from the project's root.
        pythons: versions of Python that will do, best first.
        installs: what `pip install` is called with, one call after the other.
    """

    folder: str
    pythons: tuple[str, ...]
    installs: tuple[tuple[str, ...], ...]


ENVIRONMENTS: Mapping[str, Environment] = {
    # What a user of the README makes.
    "demo": Environment(".venv", ("3.13", "3.12", "3.11"), ((*_EVERYTHING, "--group", "demo"),)),
    # The newest Python and zarr; it also builds the documentation site.
    "py313-zarr": Environment(
        ".venvs/py313-zarr", ("3.13",), ((*_CHECKED, "--group", "docs", "--group", "package"),)
    ),
    # The oldest Python and zarr.
    "py311-zarr316": Environment(".venvs/py311-zarr316", ("3.11",), ((*_CHECKED, "zarr==3.1.6"),)),
    # zarr 2, which writes through a session's mapping. versioned_zarr asks for zarr 3, so it comes
    # without its dependencies; those that its core needs are in the group.
    "zarr2": Environment(
        ".venvs/zarr2", ("3.11",), (("--group", "test-zarr2"), ("--no-deps", "-e", "."))
    ),
    # Engines that write from several processes. Beam asks for an older numpy than the newest.
    "engines": Environment(
        ".venvs/engines", ("3.13",), ((*_EVERYTHING, "--group", "test-engines"),)
    ),
    "bench": Environment(
        ".venvs/bench",
        ("3.13",),
        (
            (*_EVERYTHING, "--group", "bench", "--group", "demo"),
            ("--no-deps", "py-hamt==3.6.0"),
        ),
    ),
}


def python_of(name: str) -> Path:
    """The interpreter of an environment, whether it was made yet or not."""
    return ROOT / ENVIRONMENTS[name].folder / "bin" / "python"


def make(name: str) -> bool:
    """Make an environment unless it is there and up to date.

    Returns:
        False where this machine has no Python for it; with CI set, that ends the program instead.
    """
    environment = ENVIRONMENTS[name]
    base = find_python(environment.pythons)
    if base is None:
        wanted = " or ".join(environment.pythons)
        if IN_CI:
            raise SystemExit(f"environment {name} needs Python {wanted}, and this is CI")
        print(f"environment {name}: left out, as there is no Python {wanted} here", flush=True)
        return False
    folder = ROOT / environment.folder
    stamp = folder / "made-from"
    recipe = fingerprint(environment, base)
    if stamp.exists() and stamp.read_text("utf-8") == recipe:
        return True
    print(f"environment {name}: making {environment.folder} with {base}", flush=True)
    started = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    # The pip that a Python brings is often older than dependency groups (25.1).
    run([base, "-m", "venv", "--upgrade-deps", str(folder)])
    for arguments in environment.installs:
        run([str(python_of(name)), "-m", "pip", "install", "--quiet", *arguments])
    stamp.write_text(recipe, "utf-8")
    print(f"environment {name}: made in {time.monotonic() - started:.0f} s", flush=True)
    return True


def find_python(versions: tuple[str, ...]) -> str | None:
    """The path of a Python of the first of these versions that this machine has."""
    found = subprocess.run(
        ["/bin/sh", str(ROOT / "tools" / "find-python"), *versions],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None


def fingerprint(environment: Environment, base: str) -> str:
    """Text that changes when the environment ought to be made afresh."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    parts = [
        # Not the rest, so that a change of ruff's settings makes nothing afresh.
        repr([project[table] for table in ("build-system", "project", "dependency-groups")]),
        repr(environment),
        base,
        str(ROOT),  # an environment cannot be moved
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def run(command: list[str]) -> None:
    """Run a command in the project's root; end the program where it fails."""
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="make the project's virtual environments")
    parser.add_argument("names", nargs="+", choices=list(ENVIRONMENTS))
    for name in parser.parse_args().names:
        make(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
