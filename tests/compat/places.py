"""Where the suites of others find a fresh repository: in memory, in a folder, on servers."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import versioned_zarr as vz
from tests.servers.shared_store import SharedStore
from versioned_zarr.engine.open_options import Location

_numbers = itertools.count()

Place = Callable[[Path], Location]


def in_memory(_folder: Path) -> str:
    """The URL of a repository that is not there yet, in this process's memory."""
    return f"memory://suite-{os.getpid()}-{next(_numbers)}"


def in_folder(folder: Path) -> str:
    """The path of a repository that is not there yet."""
    return str(folder / f"repository-{next(_numbers)}.vz")


def on_lakefs(_folder: Path) -> str:
    """The URL of a repository that is not there yet, on the server that the environment names."""
    return f"lakefs://suite-{uuid.uuid4().hex}"


def in_objects(_folder: Path) -> Location:
    """An object store in this process's memory."""
    return SharedStore()


def on_s3(_folder: Path) -> str:
    """The URL of a repository that is not there yet, on the server that the environment names."""
    return f"s3://bucket/suite-{uuid.uuid4().hex}"


def fresh_session(place: Place, folder: Path) -> vz.Session:
    """A session on the branch main of a new repository."""
    return vz.create(place(folder)).session("main")
