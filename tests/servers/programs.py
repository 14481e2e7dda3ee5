"""Where the built servers are, and what a test does where one is not."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import NoReturn

import pytest


def find_program(variable: str, folder: str, name: str) -> Path:
    """A built server, from an environment variable or where tools/build_server.py keeps it."""
    named = os.environ.get(variable)
    if named:
        return Path(named)
    root = os.environ.get("VERSIONED_ZARR_SERVERS")
    servers = Path(root) if root else Path.home() / ".cache" / "versioned-zarr" / "servers"
    return servers / folder / name


def missing(what: str, refusal: Path | None = None) -> NoReturn:
    """Skip the test, for a reason; in CI nothing may be missing, so there it fails.

    Args:
        what: the reason.
        refusal: where tools/build_server.py says that what is missing could not be had. Nobody who
            runs the tests can change that, so where it does, the test is skipped in CI, too.
    """
    if refusal is not None and refusal.is_file():
        said = refusal.read_text("utf-8").strip()
        pytest.skip(f"{what}; its download was refused: {said}")
    if os.environ.get("CI"):
        pytest.fail(f"{what}; this is CI, where nothing may be missing")
    pytest.skip(f"{what}; `make servers` builds it")


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
