"""Membership: which blocks are in given packs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from versioned_zarr.blocks.packs.index import Run, checks_of
from versioned_zarr.ipld.cid import Cid

_FEW: Final = 64
"""Up to so many blocks are looked up one by one."""


class Membership:
    """The blocks in some packs, by runs that may also cover others.

    Args:
        runs: the runs; those without any of the packs are not read.
        packs: the names of the packs.
    """

    def __init__(self, runs: Iterable[Run], packs: AbstractSet[str]) -> None:
        self._runs = [run for run in runs if not packs.isdisjoint(run.packs)]
        self._packs = packs

    def __contains__(self, cid: Cid) -> bool:
        """Whether a block is in one of the packs."""
        return any(self._has(run, cid) for run in self._runs)

    def _has(self, run: Run, cid: Cid) -> bool:
        return any(place.pack in self._packs for place in run.find(cid[-32:]))

    def missing(self, wanted: Iterable[Cid]) -> set[Cid]:
        """The blocks that are in none of the packs. About a microsecond a block and run."""
        left = list(wanted)
        for run in self._runs:
            if len(left) <= _FEW:
                left = [cid for cid in left if not self._has(run, cid)]
            else:
                held = self._held(run, left)
                left = [left[number] for number in np.flatnonzero(~held)]
        return set(left)

    def _held(self, run: Run, wanted: Sequence[Cid]) -> npt.NDArray[np.bool_]:
        """For each block whether a sound entry of a run locates it in one of the packs."""
        joined = b"".join(cid[-32:] for cid in wanted)
        digests: npt.NDArray[Any] = np.frombuffer(joined, "u1").reshape(-1, 32)
        prefixes = np.ascontiguousarray(digests[:, :8]).view(">u8").ravel().astype("<u8")
        tails = np.ascontiguousarray(run.tails).view("u1").reshape(-1, 24)
        allowed = np.array([*(name in self._packs for name in run.packs), False])
        rows = np.searchsorted(run.prefixes, prefixes)
        held = np.zeros(len(wanted), bool)
        open_ = np.arange(len(wanted))
        while len(open_ := open_[rows[open_] < len(run)]):
            open_ = open_[run.prefixes[rows[open_]] == prefixes[open_]]
            at = rows[open_]
            numbers = run.numbers[at]
            is_it = allowed[np.minimum(numbers, len(run.packs))]
            is_it &= (tails[at] == digests[open_, 8:]).all(axis=1)
            is_it &= checks_of(run.starts[at], numbers, run.sizes[at]) == run.checks[at]
            held[open_[is_it]] = True
            open_ = open_[~is_it]
            rows[open_] += 1  # equal prefixes follow each other
        return held
