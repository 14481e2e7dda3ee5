"""No order and no range of a history depends on clocks, nor on what is known of its depths."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

import pytest

from tests.torture import chances
from versioned_zarr.history import walk
from versioned_zarr.history.commit_object import Commit


class Made(NamedTuple):
    """As much of a commit as a walk looks at."""

    cid: str
    parents: tuple[str, ...]
    time: datetime
    depth: int


def history(chance: random.Random, unknown: float) -> dict[str, Made]:
    """A history whose clocks say anything, and of which some depths are not known."""
    made: dict[str, Made] = {}
    for number in range(chance.randint(1, 14)):
        count = min(len(made), chance.choice([0, 1, 1, 1, 2, 2, 3]))
        parents = tuple(chance.sample(sorted(made), count))
        depths = [made[parent].depth for parent in parents]
        is_unknown = chance.random() < unknown or 0 in depths
        depth = 0 if is_unknown else max(depths, default=0) + chance.randint(1, 4)
        time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=chance.randint(-5, 5))
        cid = f"{chance.random()}-{number}"
        made[cid] = Made(cid, parents, time, depth)
    return made


def reached(made: dict[str, Made], starts: Iterable[str]) -> set[str]:
    found: set[str] = set()
    left = list(starts)
    while left:
        cid = left.pop()
        if cid not in found:
            found.add(cid)
            left += made[cid].parents
    return found


def is_ordered(made: dict[str, Made], order: list[str]) -> bool:
    places = {cid: number for number, cid in enumerate(order)}
    return len(places) == len(order) and all(
        places[parent] > places[cid]
        for cid in order
        for parent in made[cid].parents
        if parent in places
    )


@pytest.mark.parametrize("unknown", [0.0, 0.1, 0.6])
def test_walks_are_exact_whatever_clocks_say(unknown: float) -> None:
    for _, chance in chances(150):
        made = history(chance, unknown)

        def read(cid: str, made: dict[str, Made] = made) -> Commit:
            return cast("Commit", made[cid])

        some = [chance.sample(sorted(made), min(len(made), chance.randint(1, 3))) for _ in "ab"]
        starts, known = some
        order = [commit.cid for commit in walk.log(starts, read)]
        assert {*order} == reached(made, starts)
        assert is_ordered(made, order)
        order = walk.beyond(starts, known, read)
        assert {*order} == reached(made, starts) - reached(made, known)
        assert is_ordered(made, order)
        ours, theirs = (chance.choice(sorted(made)) for _ in "ab")
        assert walk.is_ancestor(ours, theirs, read) == (ours in reached(made, [theirs]))
        common = reached(made, [ours]) & reached(made, [theirs])
        best = {
            cid for cid in common if not any(cid in reached(made, made[x].parents) for x in common)
        }
        assert {*walk.merge_bases(ours, theirs, read)} == best


def test_a_log_of_a_long_line_reads_only_what_it_gives() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = {
        str(number): Made(
            str(number), (str(number - 1),) if number else (), start - timedelta(number), number + 1
        )
        for number in range(10_000)
    }
    seen: set[str] = set()

    def read(cid: str) -> Commit:
        seen.add(cid)
        return cast("Commit", made[cid])

    log = walk.log(["9999"], read)
    assert [next(log).cid for _ in range(5)] == ["9999", "9998", "9997", "9996", "9995"]
    assert len(seen) <= 8
    seen.clear()
    assert walk.beyond(["9999"], ["9990"], read) == [
        str(number) for number in range(9999, 9990, -1)
    ]
    assert len(seen) <= 12


def test_what_does_not_descend_is_ordered_by_time() -> None:
    hours = [5, 1, 9, 3]
    made = {"root": Made("root", (), datetime(2026, 1, 1, 23, tzinfo=UTC), 1)}
    for hour in hours:
        made[str(hour)] = Made(str(hour), ("root",), datetime(2026, 1, 1, hour, tzinfo=UTC), 2)
    order = [
        commit.cid for commit in walk.log(map(str, hours), lambda cid: cast("Commit", made[cid]))
    ]
    assert order == ["9", "5", "3", "1", "root"]
