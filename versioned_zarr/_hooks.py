"""Hooks: the functions of higher layers that show snapshots, sessions and commits.

A snapshot has a `store` for zarr and a commit a picture for notebooks, and the core imports
neither. The package's `__init__` names who makes each; they are imported when first asked for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, ClassVar

_MAKERS: dict[str, str] = {}


def register(**makers: str) -> None:
    """Say who makes each face: `name="package.module:callable"`, called with the owner."""
    _MAKERS.update(makers)


def maker(name: str) -> Callable[..., Any]:
    """The callable that was registered under a name, imported now if need be."""
    module, _, attribute = _MAKERS[name].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


class Shown:
    """Shows itself by `print` and in notebooks.

    Attributes:
        face: with `_text` and `_html` behind it, the name of who makes what is shown.
    """

    face: ClassVar[str]

    def __str__(self) -> str:
        text: str = maker(f"{self.face}_text")(self)
        return text

    def _repr_html_(self) -> str:
        html: str = maker(f"{self.face}_html")(self)
        return html
