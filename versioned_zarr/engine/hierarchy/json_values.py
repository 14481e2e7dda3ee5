"""JSON values in documents: equality, absent values, and values that JSON cannot represent."""

from __future__ import annotations

import json
import math
from typing import Any, Final


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The value of a field on a side that does not have it."""


def dump(document: dict[str, Any]) -> bytes:
    """A document as bytes, formatted like zarr-python."""
    return json.dumps(document, indent=2).encode("utf-8")


def plain(value: Any) -> Any:
    """A value as valid JSON: NaN and infinities, which JSON does not have, as in Zarr v3."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Equality that distinguishes 1 from True and from 1.0, as JSON readers do."""
    if one is MISSING or other is MISSING:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
