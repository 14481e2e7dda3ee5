"""Results, and how they are compared: ratios of medians within one run."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Result:
    """One figure: what was measured, what it should be, and whether it is."""

    name: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""

    @property
    def is_met(self) -> bool | None:
        return None if self.target is None else self.value <= self.target


@dataclass
class Stopwatch:
    """Times by name, several rounds of each."""

    times: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def measure(self, name: str, memory_bytes: int = 0) -> Iterator[None]:
        """Time what is done in the context.

        Args:
            name: what it is.
            memory_bytes: so much memory is used and freed before, so that the system has it at
                hand. A virtual machine's host may take idle memory back, and getting it again can
                cost more than all that is measured, for whoever asks first.
        """
        gc.collect()
        os.sync()  # what earlier rounds left to be written
        np.ones(memory_bytes, "u1")
        start = time.perf_counter()
        yield
        self.times.setdefault(name, []).append(time.perf_counter() - start)

    def median(self, name: str) -> float:
        return statistics.median(self.times[name])

    def ratio(self, name: str, other: str) -> float:
        """The median, round by round, of one time over another."""
        pairs = zip(self.times[name], self.times[other], strict=True)
        return statistics.median(one / two for one, two in pairs)
