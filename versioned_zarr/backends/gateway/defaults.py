"""Default gateways and default timeouts."""

from __future__ import annotations

GATEWAYS_VARIABLE = "VERSIONED_ZARR_GATEWAYS"
"""The base URLs of the gateways, separated by commas."""
LOCAL_GATEWAY = "http://127.0.0.1:8080"
"""The default address of a Kubo node's gateway."""
TIMEOUT_S = 30.0
HEDGE_S = 1.0
"""After this time without a first block, another gateway is asked as well."""
