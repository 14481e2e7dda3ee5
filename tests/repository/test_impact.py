"""What an unreadable block touches, and what it costs to find out."""

from __future__ import annotations

import uuid

import versioned_zarr as vz
from tests.repository.moving import commit
from versioned_zarr.engine.maintenance.damage_trace import trace
from versioned_zarr.ipld.cid import Cid, from_text


class Counting:
    """A block source that counts what is read."""

    def __init__(self, source: object) -> None:
        self._source = source
        self.count = 0

    def get(self, cid: Cid) -> memoryview:
        self.count += 1
        return self._source.get(cid)


def test_a_history_of_many_merges_is_gone_through_once() -> None:
    """It has 4,096 ways from its end to its beginning."""
    repository = vz.create(f"memory://{uuid.uuid4()}")
    for number in range(12):
        repository.branches.create(f"b{number}")
        commit(repository, {"theirs": b"%d" % number}, f"b{number}")
        commit(repository, {"ours": b"%d" % number})
        repository.merge(f"b{number}")
    commits = [from_text(each.cid) for each in repository.log()]
    assert len(commits) == 37
    blocks = Counting(repository._stores.blocks)
    reached: set[bytes] = set()
    assert trace(blocks, commits[:1], reached) == {}
    assert {cid[-32:] for cid in commits} <= reached
    assert blocks.count < 10 * len(commits)
