"""Counts the modules that a chunk, a commit, an open and a push pass through, on a folder.

Knows how the package is called, and nothing of what it does. Prints, for each act, the calls into
the package, the modules that they touch, and how often a call goes from one module to another.

    python tools/data_paths.py            a line for each act
    python tools/data_paths.py --modules  and the modules, in the order of their first call
    python tools/data_paths.py --to URL   and a push of a commit to a new repository at URL
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Self

import versioned_zarr as vz

PACKAGE = str(Path(vz.__file__).parent)
CHUNK = bytes(range(256)) * 64


class Trace:
    """The calls into the package while it is in use as a context."""

    def __init__(self) -> None:
        self.calls = self.moves = 0
        self.modules: dict[str, int] = {}
        self._last = ""

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Told of each call of a Python function."""
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(PACKAGE):
            return
        module = path.removeprefix(PACKAGE).strip("/").removesuffix(".py")
        self.calls += 1
        self.modules[module] = self.modules.get(module, 0) + 1
        self.moves += module != self._last
        self._last = module

    def __enter__(self) -> Self:
        sys.setprofile(self)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def acts(folder: Path, to: str) -> dict[str, Callable[[], object]]:
    """What is counted, each ready to be done; in an order in which it can be."""
    url = folder / "r.vz"
    repository = vz.create(url)
    with repository.session(message="first") as session:
        session.write("a/c/0", CHUNK)
    session = repository.session()
    session.write("a/c/1", CHUNK)
    found: dict[str, vz.Snapshot] = {}

    def checkout() -> None:
        found["snapshot"] = vz.open(url).checkout()

    pushed: dict[str, Callable[[], object]] = {}
    if to:
        vz.clone(url, to)
        repository.remotes.add("there", to)
        pushed["push of a commit"] = lambda: repository.push("there", "main")
    return {
        "chunk write": lambda: session.write("a/c/2", CHUNK),
        "commit": lambda: session.commit("second"),
        "open and check out": checkout,
        "chunk read, first": lambda: found["snapshot"].read("a/c/2"),
        "chunk read, again": lambda: found["snapshot"].read("a/c/1"),
        **pushed,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="count the modules on the data paths")
    parser.add_argument("--modules", action="store_true", help="list the modules, too")
    parser.add_argument("--to", default="", help="the URL of a repository to make and to push to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, act in acts(Path(folder), options.to).items():
            with Trace() as trace:
                act()
            print(f"{name}: {trace.calls} calls, {len(trace.modules)} modules, {trace.moves} moves")
            if options.modules:
                print("   ", ", ".join(trace.modules))
    return 0


if __name__ == "__main__":
    sys.exit(main())
