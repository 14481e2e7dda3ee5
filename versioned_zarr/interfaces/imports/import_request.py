"""Import request: what the caller of an import asked for, whatever the format."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.errors import MissingDependencyError
from versioned_zarr.interfaces.files.parallel_copy import WORKERS
from versioned_zarr.repository.repository import Repository
from versioned_zarr.urls import without_user


@dataclass(frozen=True)
class ImportRequest:
    """The arguments of `import_from`.

    Attributes:
        repository: the repository to import into.
        source: a path, a URL, or an open Icechunk repository.
        into: the branch to commit to.
        path: the group to import into, without slashes around it; empty for the root.
        message: the commit message; None for one that names the source.
        overwrite: replace existing data at the path.
        workers: the number of values copied in parallel.
        storage_options: options for the source.
        progress: called as the import proceeds.
    """

    repository: Repository
    source: Any
    into: str = "main"
    path: str = ""
    message: str | None = None
    overwrite: bool = False
    workers: int = WORKERS
    storage_options: dict[str, Any] = field(default_factory=dict)
    progress: OnProgress | None = None

    @property
    def name(self) -> str:
        """The source as text."""
        try:
            return str(os.fspath(self.source))
        except TypeError:
            return str(self.source)

    @property
    def shown(self) -> str:
        """The source as text, without the user and password of a URL."""
        return self.name if self.is_local else without_user(self.name)

    def cause(self, error: Exception) -> Exception | None:
        """An error as the cause of ours; None if it may show a user or password."""
        return error if self.shown == self.name else None

    def said(self, error: Exception) -> str:
        """What an error says, without the user and password of the source."""
        text, name, shown = str(error), self.name, self.shown
        if shown == name:
            return text
        start = len(os.path.commonprefix([name, shown]))  # noqa: RUF071 - texts, not paths
        return without_user(text.replace(name[start : start + len(name) - len(shown)], ""))

    @property
    def is_local(self) -> bool:
        """Whether the source is a local path that exists."""
        return os.path.exists(self.name)


def missing(what: str, package: str, extra: str) -> MissingDependencyError:
    """The error for a package that an import needs and that is not installed."""
    return MissingDependencyError(
        f"importing {what} needs {package}: pip install 'versioned-zarr[{extra}]'",
        package=package,
        extra=extra,
    )
