"""Default gateways and default timeouts."""

from __future__ import annotations

GATEWAYS_VARIABLE = "VERSIONED_ZARR_GATEWAYS"
"""Holds the base URLs of the gateways to ask, with commas between."""
LOCAL_GATEWAY = "http://127.0.0.1:8080"
"""Where a Kubo node has its gateway, unless it is told otherwise."""
TIMEOUT_S = 30.0
HEDGE_S = 1.0
"""After so long without a first block, another gateway is asked as well."""
