"""What another place lacks is found with few waits, where to look at a block is to wait."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import versioned_zarr as vz
from tests.repository.moving import commit
from versioned_zarr.engine.transfer.missing_objects import MissingObjects
from versioned_zarr.ipld.cid import Cid, from_text, is_raw


class Slow:
    """A source of blocks; notes how many are looked at at once."""

    def __init__(self, get: object) -> None:
        self._get = get
        self._guard = threading.Lock()
        self._under_way = 0
        self._is_met = threading.Event()
        self.most = 0
        self.waits = False

    def get(self, cid: Cid) -> memoryview:
        with self._guard:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            if self._under_way > 1:
                self._is_met.set()
        if self.waits:
            self._is_met.wait(1)
        with self._guard:
            self._under_way -= 1
        return self._get(cid)


def test_nodes_beside_each_other_are_looked_at_at_once_and_give_the_same() -> None:
    repository = vz.create(f"memory://{uuid.uuid4()}")
    commit(repository, {f"{a}/{b}/v": b"%d %d" % (a, b) for a in range(6) for b in range(3)})
    root = from_text(repository.checkout().cid)
    blocks = repository._stores.blocks
    alone = [found.cid for found in MissingObjects(blocks.get).blocks(root, [])]
    slow = Slow(blocks.get)
    slow.waits = True
    with ThreadPoolExecutor(4) as pool:
        together = [found.cid for found in MissingObjects(slow.get, pool=pool).blocks(root, [])]
    assert slow.most > 1
    assert together == alone
    assert len(together) == len(set(together)) == 1 + 6 + 18 + 18
    assert sum(map(is_raw, together)) == 18
