"""The contracts of a `BlockStore`: one for writable stores, one for read-only stores."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

from versioned_zarr.blocks.protocol import Block, BlockStore, Followable, WouldBlockError
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError, ReadOnlyError
from versioned_zarr.ipld import unixfs
from versioned_zarr.ipld.cid import Cid, HashFunction, hash_function
from versioned_zarr.storage.protocol import Bytes

_SIZES = [0, 1, 91, 92, 93, 127, 128, 16_347, 16_348, 16_349, 1 << 20]


def _folder(function: HashFunction) -> bytes:
    return unixfs.directory([("a", function.raw(b"a"), 1)])


def sample_values(hash_name: str = "sha2-256") -> Mapping[str, bytes]:
    """Keys and values whose tree has the blocks of `sample_blocks`.

    A read-only store serves this tree.
    """
    sizes = {f"sizes/{size}": bytes([7]) * size for size in _SIZES}
    return {"folder/a": b"a", "node": _folder(hash_function(hash_name)), **sizes}


def sample_blocks(function: HashFunction) -> list[Block]:
    """Values of all sizes, the directory `folder`, and a value with the bytes of the directory."""
    values = sample_values(function.name).values()
    folder = _folder(function)
    return [*((function.raw(value), value) for value in values), (function.dag_pb(folder), folder)]


class BlockReadContract:
    """The contract of every block store. Subclass it with a fixture `stored`: one with the samples.

    Attributes:
        has_them_near: whether the samples can be read without waiting for a network.
    """

    has_them_near = True

    def test_blocks_of_all_sizes_are_read(self, stored: BlockStore) -> None:
        for cid, data in sample_blocks(stored.hash):
            found = stored.get(cid)
            assert found == data
            assert found.readonly

    def test_a_block_that_was_read_is_there(self, stored: BlockStore) -> None:
        never = stored.hash.raw(b"never stored")
        wanted = [cid for cid, _ in sample_blocks(stored.hash)]
        for cid in wanted:
            stored.get(cid)
        assert all(cid in stored for cid in wanted)
        assert never not in stored
        assert stored.missing([wanted[0], never, *wanted[1:]]) == [never]

    def test_a_missing_block_is_named(self, stored: BlockStore) -> None:
        with pytest.raises(BlockNotFoundError, match="bafkr"):
            stored.get(stored.hash.raw(b"never stored"))

    def test_several_blocks_come_as_one(self, stored: BlockStore) -> None:
        cids, parts = zip(*sample_blocks(stored.hash), strict=True)
        sizes = [len(part) for part in parts]
        assert stored.get_joined(cids, sizes) == b"".join(map(bytes, parts))
        assert stored.get_joined(cids[:1], sizes[:1]) == parts[0]
        with pytest.raises(CorruptBlockError):
            stored.get_joined(cids, [*sizes[:-1], sizes[-1] + 1])
        with pytest.raises(BlockNotFoundError):
            stored.get_joined([cids[0], stored.hash.raw(b"never stored")], [sizes[0], 12])

    def test_who_does_not_want_to_wait_never_does(self, stored: BlockStore) -> None:
        cid, data = sample_blocks(stored.hash)[0]
        with stored.near():
            if self.has_them_near:
                assert stored.get(cid) == data
            else:
                assert stored.is_remote
                with pytest.raises(WouldBlockError):
                    stored.get(cid)
        assert stored.get(cid) == data
        with stored.near():
            assert stored.get(cid) == data  # it was fetched


class ReadOnlyBlocksContract(BlockReadContract):
    """The contract of a read-only block store."""

    def test_what_would_store_is_refused(self, stored: BlockStore) -> None:
        blocks: Sequence[Block] = [(stored.hash.raw(b"new"), b"new")]
        draft = cast("Followable", object())  # it is not used
        acts: list[Callable[[], object]] = [
            lambda: stored.put(blocks, blocks[0][0]),
            lambda: stored.expect(blocks),
            lambda: stored.follow(draft),
            lambda: stored.publish(draft, blocks[0][0]),
        ]
        for refuse in acts:
            with pytest.raises(ReadOnlyError):
                refuse()
        with pytest.raises(BlockNotFoundError):
            stored.get(blocks[0][0])

    def test_nobody_promises_that_a_block_stays(self, stored: BlockStore) -> None:
        wanted = [cid for cid, _ in sample_blocks(stored.hash)]
        with stored.keep(wanted) as is_kept:
            assert not is_kept


class BlockStoreContract(BlockReadContract):
    """Subclass it with a fixture `blocks` that returns an empty store.

    Attributes:
        finds_by_hash: whether a block is found by any CID with its digest, for example as a raw
            block if it was put as a node.
    """

    finds_by_hash = True

    @pytest.fixture
    def stored(self, blocks: BlockStore) -> BlockStore:
        """A store with the samples."""
        samples = sample_blocks(blocks.hash)
        blocks.put(samples, samples[-1][0])
        return blocks

    def test_a_block_that_was_put_is_there(self, blocks: BlockStore) -> None:
        data = b"some bytes"
        cid = blocks.hash.raw(data)
        assert cid not in blocks
        assert blocks.missing([cid]) == [cid]
        blocks.put([(cid, data)], cid)
        assert cid in blocks
        assert blocks.missing([cid]) == []
        assert blocks.get(cid) == data
        assert blocks.get(cid).readonly

    def test_raw_and_node_of_the_same_bytes_are_both_there(self, blocks: BlockStore) -> None:
        data = b"\x0a\x02\x08\x01"
        node, raw = blocks.hash.dag_pb(data), blocks.hash.raw(data)
        blocks.put([(node, data)], node)
        assert blocks.get(node) == data
        if self.finds_by_hash:
            assert blocks.get(raw) == data
        else:
            with pytest.raises(BlockNotFoundError):
                blocks.get(raw)
        blocks.put([(raw, data)], raw)
        assert [blocks.get(node), blocks.get(raw)] == [data, data]

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
