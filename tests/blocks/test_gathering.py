"""Blocks gathered in memory: each is kept once, found until then, and nobody waits for others."""

from __future__ import annotations

import gc
import os
import threading

from versioned_zarr.blocks.cache.write_buffer import BATCH_BLOCKS, BATCH_BYTES, WriteBuffer
from versioned_zarr.blocks.protocol import Block
from versioned_zarr.ipld.cid import hash_function

_HASH = hash_function("sha2-256")


def block(size_bytes: int = 10) -> Block:
    data = os.urandom(size_bytes)
    return _HASH.raw(data), data


def test_a_block_is_found_until_it_is_kept() -> None:
    kept: list[Block] = []
    gathering = WriteBuffer(kept.extend)
    cid, data = block()
    assert gathering.get(cid) is None
    assert gathering.add(cid, data) == 0
    found = gathering.get(cid)
    assert found == data
    assert found is not None
    assert found.readonly
    assert cid in gathering
    assert gathering.add(cid, data) == 0
    assert gathering.flush() == len(data)
    assert kept == [(cid, data)]
    assert cid not in gathering
    assert gathering.flush() == 0


def test_enough_of_them_are_kept_together() -> None:
    batches: list[list[Block]] = []
    gathering = WriteBuffer(batches.append)
    kept_bytes = [gathering.add(*block()) for _ in range(BATCH_BLOCKS)]
    assert kept_bytes == [0] * (BATCH_BLOCKS - 1) + [10 * BATCH_BLOCKS]
    assert gathering.add(*block(BATCH_BYTES)) == BATCH_BYTES
    assert [len(batch) for batch in batches] == [BATCH_BLOCKS, 1]


def test_what_is_left_is_kept_in_the_end() -> None:
    kept: list[Block] = []
    gathering = WriteBuffer(kept.extend)
    one, other = block(), block()
    gathering.add(*one)
    gathering.flush()
    gathering.add(*other)
    del gathering
    gc.collect()
    assert kept == [one, other]


def test_what_is_forgotten_is_not_kept() -> None:
    kept: list[Block] = []
    gathering = WriteBuffer(kept.extend)
    gathering.add(*block())
    gathering.clear()
    assert gathering.flush() == 0
    assert not kept


def test_who_brings_a_block_does_not_wait_while_others_are_kept() -> None:
    begun, may_end = threading.Event(), threading.Event()
    batches: list[list[Block]] = []

    def keep(blocks: list[Block]) -> None:
        batches.append(blocks)
        begun.set()
        assert may_end.wait(30)

    gathering = WriteBuffer(keep)
    first, second = block(BATCH_BYTES), block(BATCH_BYTES)
    keeper = threading.Thread(target=gathering.add, args=first)
    keeper.start()
    try:
        assert begun.wait(30)
        assert gathering.add(*second) == 0
        assert gathering.get(first[0]) == first[1]
        assert gathering.get(second[0]) == second[1]
    finally:
        may_end.set()
        keeper.join()
    assert gathering.flush() == BATCH_BYTES
    assert batches == [[first], [second]]
