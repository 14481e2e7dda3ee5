"""The syntax tree of a file, for the tests that read the package's own code."""

from __future__ import annotations

import ast
import gc
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """Parse a file while no garbage is collected.

    A collection may log an error that nobody asked for, with a traceback that `ast` formats; on
    Python 3.11 that fails the parsing it came amidst.
    """
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()
