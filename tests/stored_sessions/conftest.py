"""Repositories that several machines use, and those machines."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

import versioned_zarr as vz


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for caches and spools."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """From now on, this is a machine that knows nothing."""
    number = iter(range(100))

    def move() -> None:
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / f"machine{next(number)}"))

    return move


@pytest.fixture(params=["s3", "kubo", "shared folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new repository, on a real server or in a folder."""
    if request.param == "shared folder":
        return vz.create(tmp_path / "shared.vz", shared=True).url
    if request.param == "s3":
        request.getfixturevalue("s3_by_environment")
        url = f"s3://bucket/{uuid.uuid4()}"
    else:
        url = f"{request.getfixturevalue('node').url}/{uuid.uuid4()}"
    vz.create(url)
    return url
