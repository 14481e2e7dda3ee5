"""What the suites of others ask for: xarray's fixtures, and its marker that skips by parameter."""

from __future__ import annotations

import pytest

try:
    from xarray.tests.conftest import time_unit, use_dask
except ImportError:
    # Without xarray its suite is not collected, and nobody asks for its fixtures.
    __all__: list[str] = []
else:
    __all__ = ["time_unit", "use_dask"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Honour xarray's `skip_if_param`, whose own hook is not part of the published package."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", None)
        if parameters is None:
            continue
        for marker in item.iter_markers("skip_if_param"):
            wanted = dict(marker.kwargs)
            reason = wanted.pop("reason", "the suite skips these parameters")
            applies = wanted.pop("condition", True)
            if applies and all(_name(parameters.get(key)) == v for key, v in wanted.items()):
                item.add_marker(pytest.mark.skip(reason=reason))


def _name(value: object) -> object:
    return getattr(value, "__name__", value)
