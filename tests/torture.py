"""How much of the proofs that could go on for ever is done: a little by default, more if asked.

`make torture` sets `VERSIONED_ZARR_TORTURE` to how many times as much, and `VERSIONED_ZARR_SEED` to
where the random choices begin. A test that fails names its seed.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

TIMES = int(os.environ.get("VERSIONED_ZARR_TORTURE", "1"))
SEED = int(os.environ.get("VERSIONED_ZARR_SEED", "0"))


def cases(count: int) -> range:
    """The seeds of as many cases as are to be tried, `count` of them by default."""
    return range(SEED, SEED + count * TIMES)


def chances(count: int) -> Iterator[tuple[int, random.Random]]:
    """A source of random choices for each case, with its seed."""
    return ((seed, random.Random(seed)) for seed in cases(count))
