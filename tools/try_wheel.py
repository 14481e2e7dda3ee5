"""Builds the sdist, and from it the wheel; installs that as a user does, and runs README's code.

Knows what must be in both files, and what must not. The wheel is installed into an environment made
afresh, first alone, with what it depends on, then with the extras that README's code and commands
need. Nothing of the source is on the path there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
VENV = ROOT / ".venvs" / "wheel"
IN_SDIST = ("README.md", "LICENSE", "CHANGELOG.md", "Makefile", "docs/conf.py", "tests/conftest.py")
IN_WHEEL = ("versioned_zarr/__init__.py", "versioned_zarr/py.typed")
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CORE = """
import zarr, versioned_zarr as vz
repo = vz.create("core.vz")
with repo.session(message="An array") as session:
    zarr.create_array(session, name="a", shape=(4,), dtype="f8")[:] = 1
assert repo.checkout()["a"][:].sum() == 4
try:
    repo.checkout().to_xarray()
except vz.MissingDependencyError as error:
    assert error.extra == "xarray"
else:
    raise SystemExit("xarray came with the core")
"""


def run(*command: str, folder: Path = ROOT) -> str:
    """Run a command; return what it printed, and end the program where it fails."""
    environment = {
        **os.environ,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_REQUIRE_VIRTUALENV": "0",
    }
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"failed: {' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def build() -> tuple[Path, Path]:
    """The sdist, and the wheel built from it."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(DIST))
    (sdist,) = DIST.glob("*.tar.gz")
    (wheel,) = DIST.glob("*.whl")
    return sdist, wheel


def check_content(sdist: Path, wheel: Path) -> None:
    """End the program where a file is missing, or the wheel has more than the package."""
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    missing = [name for name in IN_SDIST if name not in found]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing += [name for name in IN_WHEEL if name not in names]
    others = sorted({name.partition("/")[0] for name in names} - {"versioned_zarr"})
    if missing or [name for name in others if not name.endswith(".dist-info")]:
        sys.exit(f"missing: {missing}; at the top of the wheel: {others}")


def install(*requirements: str) -> None:
    """Install into the environment of the wheel."""
    run(str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements)


def main() -> None:
    """Build, look, install, run."""
    sdist, wheel = build()
    check_content(sdist, wheel)
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", str(VENV))
    python, vz = str(VENV / "bin" / "python"), str(VENV / "bin" / "vz")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(str(wheel))
        run(python, "-W", "error", "-c", CORE, folder=folder)
        install(f"{wheel}[cli,xarray]")
        (code,) = PYTHON_BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
        run(python, "-c", code, folder=folder)
        place = run(python, "-c", "import versioned_zarr as vz; print(vz.__file__)", folder=folder)
        if not Path(place.strip()).is_relative_to(VENV):
            sys.exit(f"the wheel was not used, but {place}")
        if "Two degrees more" not in run(vz, "-C", "climate.vz", "log", folder=folder):
            sys.exit("vz log does not show README's commits")
        run(vz, "-C", "climate.vz", "export", "main", "new.zarr", folder=folder)
    print(f"{sdist.name} and {wheel.name}: README's code runs")


if __name__ == "__main__":
    main()
