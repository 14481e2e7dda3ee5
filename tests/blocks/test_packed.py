"""Blocks are found in packs, whatever the order in which they are asked for."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.backends.memory import MemoryStorage
from versioned_zarr.blocks.packs import pack_registry
from versioned_zarr.blocks.packs.pack import PackWriter, read_entries
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.car import (
    FIRST_SECTION,
    block_at,
    header_size_in,
    pack_head,
    read_pack_head,
    section_header,
)
from versioned_zarr.ipld.cid import CID_SIZE, Cid, hash_function

HASH = hash_function("sha2-256")
SIZES = (0, 1, 91, 92, 16_347, 16_348, 100_000, 1 << 20)
"""Around every length at which what stands before a block grows."""


def blocks_of(sizes: tuple[int, ...]) -> list[tuple[Cid, bytes]]:
    chance = random.Random(1)
    return [(HASH.raw(data), data) for data in map(chance.randbytes, sizes)]


@pytest.fixture
def store() -> PackStore:
    return PackStore(MemoryStorage(str(uuid.uuid4())), HASH, verify=False)


@given(st.sampled_from(SIZES), st.binary(max_size=50), st.integers(0, 60))
def test_a_block_is_found_where_its_section_begins(size: int, before: bytes, cut: int) -> None:
    ((cid, data),) = blocks_of((size,))
    buffer = memoryview(before + section_header(cid, size) + data)
    span = block_at(buffer, len(before), cid)
    assert span is not None
    assert buffer[span[0] : span[1]] == data
    assert block_at(buffer, len(before), HASH.dag_pb(data)) is None
    if cut:
        assert block_at(buffer[:-cut], len(before), cid) is None


def test_blocks_come_in_any_order(store: PackStore) -> None:
    blocks = blocks_of(SIZES * 4)
    half = len(blocks) // 2
    store.put(blocks[:half], blocks[0][0])
    store.put(blocks[half:], blocks[half][0])
    chance = random.Random(2)
    for _ in range(5):
        assert all(store.get(cid) == data for cid, data in blocks)
        chance.shuffle(blocks)


def test_blocks_read_as_they_were_written_are_not_looked_up(
    store: PackStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = blocks_of((20_000,) * 100)
    store.put(blocks, blocks[0][0])
    looked_up: list[Cid] = []
    find = pack_registry.KnownPacks.find

    def count(known: pack_registry.KnownPacks, cid: Cid) -> pack_registry.BlockLocation | None:
        looked_up.append(cid)
        return find(known, cid)

    monkeypatch.setattr(pack_registry.KnownPacks, "find", count)
    assert [store.get(cid) for cid, _ in blocks] == [data for _, data in blocks]
    assert looked_up == [blocks[0][0]]


def test_a_pack_that_went_is_not_read_any_more(store: PackStore) -> None:
    (first, _), (second, _) = blocks = blocks_of((1000, 1000))
    store.put(blocks, first)
    store.get(first)
    for stored in store.storage.list(pack_registry.PACKS):
        store.storage.delete(stored.path)
    store.refresh()
    assert store.find(second) is None


@given(st.lists(st.sampled_from(SIZES), min_size=1, max_size=12), st.data())
def test_a_draft_tells_where_its_blocks_lie(sizes: list[int], data: st.DataObject) -> None:
    storage = MemoryStorage(str(uuid.uuid4()))
    draft = PackWriter(storage.open_draft("d"), HASH)
    expected: list[tuple[Cid, bytes]] = []
    begins: list[int] = []
    for number, (cid, content) in enumerate(blocks_of(tuple(sizes))):
        block = (HASH.dag_pb(content), content) if number % 3 == 2 else (cid, content)
        begins.append(draft.reserve([block]))
        draft.write(begins[-1], [block])
        expected.append(block)
    first = data.draw(st.integers(0, len(begins) - 1))
    found = list(draft.finished(begins[first]))
    assert [(cid, bytes(draft.read(low, high))) for cid, low, high in found] == expected[first:]
    draft.reserve(blocks_of((100,)))  # not written yet
    assert list(draft.finished(begins[first])) == found
    adopted = PackWriter(draft.draft, HASH)
    adopted.recover()
    assert list(adopted.finished(begins[first])) == found


@pytest.mark.parametrize("bits", [7, 14, 21, 28])
def test_what_stands_before_a_block_is_told_from_the_whole_section(bits: int) -> None:
    for size in range((1 << bits) - 45, (1 << bits) + 5):
        before = len(section_header(HASH.raw(b""), size))
        assert header_size_in(before + size) == before


def test_a_flipped_bit_in_the_index_of_a_pack_hides_no_block(store: PackStore) -> None:
    blocks = blocks_of((40, 1000, 1, 300))
    store.put(blocks, blocks[0][0])
    (pack,) = store.storage.list(pack_registry.PACKS)
    whole = bytes(store.storage.read(pack.path))
    _, start = read_entries(memoryview(whole), HASH, pack.path)
    for at in range(start, len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            storage = MemoryStorage(str(uuid.uuid4()))
            storage.put(pack.path, [damaged])
            again = PackStore(storage, HASH, verify=True)
            assert [again.get(cid) for cid, _ in blocks] == [data for _, data in blocks], (at, bit)


def test_a_flipped_bit_in_an_index_file_hides_no_block(store: PackStore) -> None:
    blocks = blocks_of((40, 1000, 1, 300))
    store.put(blocks[:2], blocks[0][0])
    store.put(blocks[2:], blocks[2][0])
    store.catalogue.merge(everything=True)
    files = {
        stored.path: bytes(store.storage.read(stored.path))
        for folder in (pack_registry.PACKS, pack_registry.INDEX)
        for stored in store.storage.list(folder)
    }
    (index,) = (path for path in files if path.startswith(pack_registry.INDEX))
    for at in range(len(files[index])):
        for bit in range(8):
            damaged = bytearray(files[index])
            damaged[at] ^= 1 << bit
            storage = MemoryStorage(str(uuid.uuid4()))
            for path, data in {**files, index: damaged}.items():
                storage.put(path, [data])
            again = PackStore(storage, HASH, verify=True)
            assert [again.get(cid) for cid, _ in blocks] == [data for _, data in blocks], (at, bit)
            again.put([(HASH.raw(b"new"), b"new")], HASH.raw(b"new"))
            again.catalogue.merge(everything=True)
            assert [again.get(cid) for cid, _ in blocks] == [data for _, data in blocks], (at, bit)


def test_a_damaged_head_is_told_or_names_another_root() -> None:
    for head in (bytes(FIRST_SECTION), pack_head(HASH.raw(b"x"), 200)):
        told = 0
        for at in range(FIRST_SECTION):
            damaged = bytearray(head)
            damaged[at] ^= 1
            try:
                _, end = read_pack_head(damaged, "the pack")
            except CorruptError:
                told += 1
            else:
                assert end == 200
        assert told >= FIRST_SECTION - CID_SIZE


class Counting(MemoryStorage):
    """Counts how often it is looked at, once for what is read side by side."""

    def __init__(self) -> None:
        super().__init__(str(uuid.uuid4()))
        self.looks = 0

    def read_into(self, path: str, start: int, buffers: Sequence[memoryview]) -> None:
        self.looks += 1
        super().read_into(path, start, buffers)

    def view(self, path: str) -> memoryview:
        self.looks += 1
        return super().view(path)


def told(blocks: list[tuple[Cid, bytes]]) -> tuple[list[Cid], list[int]]:
    return [cid for cid, _ in blocks], [len(data) for _, data in blocks]


@pytest.mark.parametrize("last", [0, 1, 999, 1000])
def test_blocks_side_by_side_are_read_at_once(last: int) -> None:
    storage = Counting()
    store = PackStore(storage, HASH, verify=False)
    blocks = blocks_of((1000,) * 20 + ((last,) if last else ()))
    store.put(blocks, blocks[0][0])
    apart = blocks_of((1000,) * 3)[::-1]
    joined = b"".join(data for _, data in blocks)
    store.get(blocks[0][0])
    storage.looks = 0
    assert store.get_joined(*told(blocks)) == joined
    assert storage.looks == 1
    joined = b"".join(data for _, data in apart)
    assert store.get_joined(*told(apart)) == joined


def test_threads_take_in_new_packs_one_at_a_time(store: PackStore) -> None:
    """Else one might go on from what another has just replaced, and forget a pack."""
    ((cid, data),) = blocks_of((10,))
    writer = threading.Thread(target=store.put, args=([(cid, data)], cid))
    with store.catalogue._guard:
        writer.start()
        writer.join(0.3)  # one that does not wait is through by then
        assert store.find_known(cid) is None
    writer.join()
    assert store.find_known(cid) == data
