"""What all tests of backends share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for caches and sessions, and no gateways but those it names."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VERSIONED_ZARR_GATEWAYS", raising=False)
    return tmp_path / "home"
