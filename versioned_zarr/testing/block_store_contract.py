"""The contract of a `BlockStore`."""

from __future__ import annotations

import secrets

import pytest

from versioned_zarr.blocks.protocol import Block, BlockStore
from versioned_zarr.errors import BlockNotFoundError
from versioned_zarr.ipld.cid import Cid
from versioned_zarr.storage.protocol import Bytes


class BlockStoreContract:
    """Subclass it with a fixture `blocks` that returns an empty block store."""

    def test_a_block_that_was_put_is_there(self, blocks: BlockStore) -> None:
        data = b"some bytes"
        cid = blocks.hash.raw(data)
        assert cid not in blocks
        blocks.put([(cid, data)], cid)
        assert cid in blocks
        assert blocks.get(cid) == data
        assert blocks.get(cid).readonly

    def test_a_missing_block_is_named(self, blocks: BlockStore) -> None:
        with pytest.raises(BlockNotFoundError, match="bafkr"):
            blocks.get(blocks.hash.raw(b"never stored"))

    def test_raw_and_node_of_the_same_bytes_are_both_there(self, blocks: BlockStore) -> None:
        data = b"\x0a\x02\x08\x01"
        blocks.put([(blocks.hash.dag_pb(data), data)], blocks.hash.dag_pb(data))
        assert blocks.get(blocks.hash.raw(data)) == data
        assert blocks.get(blocks.hash.dag_pb(data)) == data

    def test_blocks_of_all_sizes_come_back(self, blocks: BlockStore) -> None:
        sizes = [0, 1, 91, 92, 93, 127, 128, 16_347, 16_348, 16_349, 1 << 20]
        batch = [(blocks.hash.raw(bytes([7]) * size), bytes([7]) * size) for size in sizes]
        blocks.put(batch, batch[0][0])
        for cid, data in batch:
            assert blocks.get(cid) == data

    def test_many_puts_stay_found(self, blocks: BlockStore) -> None:
        stored: dict[Cid, Bytes] = {}
        for number in range(100):
            batch: list[Block] = []
            for part in range(number % 7 + 1):
                data = f"{number}/{part}".encode()
                batch.append((blocks.hash.raw(data), data))
            blocks.put(batch, batch[0][0])
            stored.update(batch)
        for cid, value in stored.items():
            assert blocks.get(cid) == value

    def test_keep_says_whether_blocks_are_there(self, blocks: BlockStore) -> None:
        data = secrets.token_bytes(16)  # others may share the store
        cid = blocks.hash.raw(data)
        with blocks.keep([cid]) as is_kept:
            assert not is_kept
        blocks.put([(cid, data)], cid)
        with blocks.keep([cid]) as is_kept:
            assert is_kept

    def test_blocks_that_were_expected_are_put_as_others_are(self, blocks: BlockStore) -> None:
        batch: list[Block] = []
        for _ in range(3):
            data = secrets.token_bytes(100)
            batch.append((blocks.hash.raw(data), data))
        never = secrets.token_bytes(100)
        blocks.expect(batch[:2])
        blocks.expect([(blocks.hash.raw(never), never)])
        blocks.put(batch, batch[0][0])
        assert not blocks.missing([cid for cid, _ in batch])
        assert [blocks.get(cid) for cid, _ in batch] == [value for _, value in batch]
