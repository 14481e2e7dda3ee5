"""Hooks: how core objects call the interfaces to display, open and export themselves.

A snapshot has a `store` for zarr, and a commit has a picture for notebooks, but the core imports
neither zarr nor HTML. The package's `__init__` sets `interfaces` before anything else in the
package can be imported; nothing is looked up by name.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    import xarray
    import zarr
    from matplotlib.figure import Figure
    from zarr.abc.store import Store
    from zarr.storage import StorePath


class ArrayDifference(Protocol):
    """The difference of one array in values; see `versioned_zarr.interfaces.zarr.array_diff`."""

    path: str
    old: zarr.Array[Any] | None
    new: zarr.Array[Any] | None

    @property
    def regions(self) -> list[tuple[slice, ...]]:
        """The changed chunks as slices of the array."""
        ...

    @property
    def labels(self) -> dict[str, str]:
        """The range of each dimension in which chunks changed."""
        ...

    @property
    def dimension_names(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        ...

    def changed_parts(self) -> Iterator[tuple[tuple[slice, ...], Any, Any]]:
        """The changed chunks that both sides have, with their values on each."""
        ...

    def values(self) -> Any:
        """How the elements of the changed chunks changed."""
        ...

    def plot(self) -> Figure:
        """A figure of the differences and the changed chunks."""
        ...

    def to_xarray(self) -> xarray.Dataset:
        """A Dataset of the old values, the new ones and their difference."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """The difference with its values as plain JSON data."""
        ...


class ExportCounts(Protocol):
    """What an export did; see `versioned_zarr.interfaces.files.zarr_export.Exported`."""

    @property
    def written(self) -> int:
        """The number of files written."""
        ...

    @property
    def unchanged(self) -> int:
        """The number of files that were there with the same content."""
        ...

    @property
    def deleted(self) -> int:
        """The number of files deleted."""
        ...

    @property
    def written_bytes(self) -> int:
        """The size of the files written."""
        ...


class Interfaces(Protocol):
    """The functions of the interfaces. `Any` is a snapshot, whose class is unknown here."""

    def text(self, shown: object) -> str:
        """What `print` shows of a repository, snapshot, session or log."""
        ...

    def html(self, shown: object) -> str:
        """What a notebook shows of those, and of a commit or diff."""
        ...

    def zarr_store(self, view: Any) -> Store:
        """A snapshot or session as a zarr v3 store."""
        ...

    def session_url(self, session: Any) -> str:
        """The fsspec URL that joins a session."""
        ...

    def store_path(self, view: Any, path: str) -> StorePath:
        """A path in the store of a snapshot or session."""
        ...

    def open_node(self, view: Any, path: str, **options: Any) -> zarr.Group | zarr.Array[Any]:
        """A group or array, opened by zarr."""
        ...

    def to_xarray(self, snapshot: Any, group: str | None, **options: Any) -> xarray.Dataset:
        """A group as a Dataset."""
        ...

    def to_datatree(self, snapshot: Any, group: str | None, **options: Any) -> xarray.DataTree:
        """A group and the groups below it as a DataTree."""
        ...

    def plot_blame(self, blame: Any) -> Figure:
        """A picture of the commits that last changed the chunks of an array."""
        ...

    def create_hierarchy(
        self, session: Any, template: Any, path: str, *, overwrite: bool
    ) -> zarr.Group | zarr.Array[Any]:
        """Groups and arrays of a template, created in a session."""
        ...

    def shown_progress(self, label: str) -> AbstractContextManager[Any]:
        """A function that draws progress while an operation runs; None where nobody looks."""
        ...

    def to_folder(self, snapshot: Any, path: str, **options: Any) -> ExportCounts:
        """All values as the files of a plain Zarr folder."""
        ...

    def to_zip(self, snapshot: Any, path: str, **options: Any) -> None:
        """All values as the entries of a zip file."""
        ...

    def array_diff(self, diff: Any, path: str) -> ArrayDifference:
        """The difference of an array in values."""
        ...


interfaces: Interfaces


_P = ParamSpec("_P")
_R = TypeVar("_R")


def shows_progress(label: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let a function with a parameter `progress` draw a bar in notebooks, unless one is given.

    Args:
        label: what the function does, such as "pushing".
    """

    def decorate(act: Callable[_P, _R]) -> Callable[_P, _R]:
        @functools.wraps(act)
        def shown(*arguments: _P.args, **named: _P.kwargs) -> _R:
            if named.get("progress") is not None or "IPython" not in sys.modules:
                return act(*arguments, **named)
            with interfaces.shown_progress(label) as bar:  # noqa: F821 - set by the package
                named["progress"] = bar
                return act(*arguments, **named)

        return shown

    return decorate


guesses: dict[str, Mapping[str, str]] = {}
"""What to type, by class and by the name that was guessed; `repository.guessed_names` fills it."""


def hint(owner: str, name: str) -> str:
    """The end of the error for a missing attribute; empty if nobody guesses this name."""
    line = guesses.get(owner, {}).get(name)
    return "" if line is None else f"; type: {line}"


class HintsAtNames:
    """Its errors for missing attributes name what to type. Other lookups cost nothing."""

    if not TYPE_CHECKING:  # for type checkers, a missing attribute is an error

        def __getattr__(self, name: str) -> Any:
            kind = type(self)
            if hasattr(kind, name):  # a property failed; its error says why
                return object.__getattribute__(self, name)
            owner = next((each.__name__ for each in kind.__mro__ if each.__name__ in guesses), "")
            found = "" if name.startswith("_") else hint(owner, name)
            # Python's own suggestion is for misspelled names.
            about = {} if found else {"name": name, "obj": self}
            raise AttributeError(
                f"{kind.__name__!r} object has no attribute {name!r}{found}", **about
            )


class Shown:
    """Shows itself by `print` and in notebooks."""

    def __str__(self) -> str:
        return interfaces.text(self)  # noqa: F821 - set by the package

    def _repr_html_(self) -> str:
        return interfaces.html(self)  # noqa: F821 - set by the package


_PROMPT_LINES = 24


class AtPrompt:
    """Shows the beginning of its text at an interactive prompt, and one line elsewhere."""

    def _name(self) -> str:
        """The line that names it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._text_at_prompt() if hasattr(sys, "ps1") else self._name()

    def _text_at_prompt(self) -> str:
        lines = str(self).splitlines()
        more = len(lines) - _PROMPT_LINES
        if more <= 1:
            return "\n".join(lines) or self._name()
        return "\n".join([*lines[:_PROMPT_LINES], f"… and {more} more lines: print(…)"])

    def _repr_pretty_(self, printer: Any, is_cycle: bool) -> None:
        printer.text(self._name() if is_cycle else self._text_at_prompt())


class ShownAtPrompt(AtPrompt, Shown):
    """Shows itself by `print`, in notebooks and at a prompt."""


class ZarrStoreLike:
    """Is accepted by zarr and xarray where they take a store: `zarr.open_group(snapshot)`.

    zarr takes its own classes only, and asks for them with `isinstance`. Of a `StorePath` it uses
    the attribute `store` and the operator `/`, so an object with both passes as one. `type` still
    returns its own class, and so do pickle and copy; zarr is not imported for it.
    """

    supports_consolidated_metadata = False

    @property
    def store(self) -> Store:
        """The object as a zarr v3 store."""
        raise NotImplementedError

    @property  # type: ignore[misc] # typeshed has an attribute
    def __class__(self) -> type[Any]:
        storage = sys.modules.get("zarr.storage")
        return getattr(storage, "StorePath", type(self))

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self)})  # `dir` asks for __class__

    def __truediv__(self, path: str) -> StorePath:
        return interfaces.store_path(self, path)  # noqa: F821 - set by the package
