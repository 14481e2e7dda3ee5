"""Places on snapshots, sessions, commits where higher layers put their view of them.

A snapshot has a `store` for zarr and a commit a picture for notebooks, and the core imports
neither. The package's `__init__` names who makes each; they are imported when first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

_MAKERS: dict[str, str] = {}


def register(**makers: str) -> None:
    """Say who makes each face: `name="package.module:callable"`, called with the owner."""
    _MAKERS.update(makers)


def maker(name: str) -> Callable[..., Any]:
    """The callable that was registered under a name, imported now if need be."""
    module, _, attribute = _MAKERS[name].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found
