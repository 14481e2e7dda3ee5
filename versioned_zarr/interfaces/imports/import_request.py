"""Import request: what the caller of an import asked for, whatever the format."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from versioned_zarr.engine.progress import OnProgress
from versioned_zarr.errors import MissingDependencyError
from versioned_zarr.interfaces.files.parallel_copy import WORKERS
from versioned_zarr.repository.repository import Repository


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
