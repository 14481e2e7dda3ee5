"""What all tests share: hypothesis profiles, real servers, and which folder suits which zarr."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.servers.conformance import conformance
from tests.servers.daemon import node
from tests.servers.kubo import kubo
from tests.servers.lakefs import lakefs, lakefs_by_environment
from tests.servers.versity import s3, s3_by_environment

__all__ = [
    "conformance",
    "kubo",
    "lakefs",
    "lakefs_by_environment",
    "node",
    "s3",
    "s3_by_environment",
]

HERE = Path(__file__).parent
# tests/zarr2 runs in an environment of its own, which has nothing that the others need.
collect_ignore_glob = ["zarr2/*" if int(version("zarr").split(".")[0]) >= 3 else "[!z]*"]
if find_spec("distributed") is None:  # tests/engines, too
    collect_ignore_glob.append("engines/*")

# No deadlines: the machines are shared, and time is measured in benchmarks/. Nothing is kept
# between runs but where the profile says so.
settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
# CI fails for what changed, not for what it happened to draw.
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True)
settings.register_profile(
    "thorough", parent=settings.get_profile("default"), max_examples=1000, stateful_step_count=100
)
# A failing example as it was found: shrinking runs a machine of real repositories for minutes.
settings.register_profile(
    "quick-fail",
    parent=settings.get_profile("default"),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
USUAL = "ci" if os.environ.get("CI") else "default"
# A few examples each; `make test` tries as many as usual.
settings.register_profile("check", parent=settings.get_profile(USUAL), max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or USUAL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies in compat/, engines/ or zarr2/ needs a program written by others."""
    for item in items:
        if {"compat", "engines", "zarr2"} & set(item.path.relative_to(HERE.parent).parts):
            item.add_marker("compat")
