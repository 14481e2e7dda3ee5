"""Runs commands in this process."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("click")
from versioned_zarr.cli.app import run


def vz_(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Run `vz` and give what it printed; for a failure, what it said on stderr."""
    capfd.readouterr()
    found: Any = 0
    try:
        run(list(arguments))
    except SystemExit as stop:
        found = stop.code or 0
    out, err = capfd.readouterr()
    assert found == code, (out, err)
    return err if code else out
