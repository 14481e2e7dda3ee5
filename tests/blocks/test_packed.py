"""Blocks are found in packs, whatever the order in which they are asked for."""

from __future__ import annotations

import random
import threading
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from versioned_zarr.backends.memory import MemoryStorage
from versioned_zarr.blocks.packs import pack_registry
from versioned_zarr.blocks.packs.pack import PackWriter, pack_of
from versioned_zarr.blocks.packs.pack_format import blocks_of as pack_blocks
from versioned_zarr.blocks.packs.pack_format import read_tail
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.packs.verify_pack import check_pack
from versioned_zarr.errors import BlockNotFoundError, CorruptBlockError
from versioned_zarr.ipld.cid import Cid, hash_function

HASH = hash_function("sha2-256")
SIZES = (0, 1, 91, 92, 16_347, 16_348, 100_000, 1 << 20)


def blocks_of(sizes: tuple[int, ...]) -> list[tuple[Cid, bytes]]:
    chance = random.Random(1)
    return [(HASH.raw(data), data) for data in map(chance.randbytes, sizes)]


@pytest.fixture
def store() -> PackStore:
    return PackStore(MemoryStorage(str(uuid.uuid4())), HASH, verify=False)


def test_blocks_come_in_any_order(store: PackStore) -> None:
    blocks = blocks_of(SIZES * 4)
    half = len(blocks) // 2
    store.put(blocks[:half], blocks[0][0])
    store.put(blocks[half:], blocks[half][0])
    chance = random.Random(2)
    for _ in range(5):
        assert all(store.get(cid) == data for cid, data in blocks)
        chance.shuffle(blocks)


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
    found = list(draft.finished(first))
    assert [(cid, bytes(draft.read(low, high))) for cid, low, high in found] == expected[first:]
    draft.reserve(blocks_of((100,)))  # not written yet
    # An empty block that begins where the hole does may be told of later.
    assert [each for each in draft.finished(first) if each[1] < each[2]] == [
        each for each in found if each[1] < each[2]
    ]
    adopted = PackWriter(draft.draft, HASH)
    adopted.recover((at, [block]) for at, block in zip(begins, expected, strict=True))
    assert adopted.is_sound
    assert list(adopted.finished(first)) == found


def test_a_dead_writers_draft_with_a_gap_is_not_published(store: PackStore) -> None:
    blocks = blocks_of((10, 20, 30))
    draft = PackWriter(store.storage.open_draft("d"), HASH)
    begins = [draft.reserve([block]) for block in blocks]
    for begin, block in zip(begins, blocks, strict=True):
        draft.write(begin, [block])
    adopted = PackWriter(draft.draft, HASH)
    adopted.recover((begins[number], [blocks[number]]) for number in (0, 2))
    assert not adopted.is_sound


def test_a_flipped_bit_in_the_index_of_a_pack_hides_no_block(store: PackStore) -> None:
    blocks = [*blocks_of((40, 1000, 1, 300, 0)), (HASH.dag_pb(b"node"), b"node")]
    store.put(blocks, blocks[0][0])
    (pack,) = store.storage.list(pack_registry.PACKS)
    whole = bytes(store.storage.read(pack.path))
    start = sum(len(data) for _, data in blocks)
    for at in range(start, len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            storage = MemoryStorage(str(uuid.uuid4()))
            storage.put(pack.path, [damaged])
            again = PackStore(storage, HASH, verify=True)
            assert [again.get(cid) for cid, _ in blocks] == [data for _, data in blocks], (at, bit)
            checked = check_pack(memoryview(damaged), HASH, pack.path, read_all=False)
            assert len(checked.faults) == 1
            assert {block.cid for block in checked.blocks} == {cid for cid, _ in blocks}, (at, bit)


def test_a_pack_that_is_cut_off_is_told_and_read_by_an_index_file(store: PackStore) -> None:
    blocks = blocks_of((40, 1000, 1, 300))
    store.put(blocks, blocks[0][0])
    store.registry.merge(everything=True)
    (pack,) = store.storage.list(pack_registry.PACKS)
    cut = bytes(store.storage.read(pack.path))[:1040]
    store.storage.put(pack.path, [cut])
    checked = check_pack(memoryview(cut), HASH, pack.path, read_all=True)
    assert [fault.problem for fault in checked.faults] == [
        "it is truncated, or its tail is damaged: not all of its blocks can be found"
    ]
    for again in (PackStore(store.storage, HASH, verify=False), store):
        assert [again.get(cid) for cid, _ in blocks[:2]] == [data for _, data in blocks[:2]]
        with pytest.raises(BlockNotFoundError):
            again.get(blocks[3][0])
        again.rebuild_index()


@pytest.mark.parametrize("is_far", [False, True])
def test_a_pack_is_opened_by_its_tail(monkeypatch: pytest.MonkeyPatch, is_far: bool) -> None:
    storage = MemoryStorage(str(uuid.uuid4()))
    blocks = [(HASH.raw(data), data) for data in (n.to_bytes(2, "big") * 50 for n in range(3000))]
    storage.put("packs/x.pack", pack_of(blocks, blocks[7][0], HASH))
    read: list[int] = []
    real = MemoryStorage.read

    def counted(self: MemoryStorage, path: str, start: int = 0, end: int | None = None) -> Any:
        found = real(self, path, start, end)
        read.append(len(found))
        return found

    monkeypatch.setattr(MemoryStorage, "read", counted)
    if is_far:
        monkeypatch.setattr(MemoryStorage, "view", lambda *_: None)
    tail = read_tail(storage, "packs/x.pack", HASH.code)
    assert tail.root == blocks[7][0]
    assert {block.cid for block in pack_blocks(tail.entries, HASH.code)} == dict(blocks).keys()
    assert len(read) == (2 if is_far else 0)
    assert sum(read) <= 3000 * 48 + (64 << 10)


def test_a_flipped_bit_in_an_index_file_hides_no_block(store: PackStore) -> None:
    blocks = blocks_of((40, 1000, 1, 300))
    store.put(blocks[:2], blocks[0][0])
    store.put(blocks[2:], blocks[2][0])
    store.registry.merge(everything=True)
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
            again.registry.merge(everything=True)
            assert [again.get(cid) for cid, _ in blocks] == [data for _, data in blocks], (at, bit)


class Counting(MemoryStorage):
    """Counts how often it is looked at, once for what is read side by side."""

    def __init__(self) -> None:
        super().__init__(str(uuid.uuid4()))
        self.looks = 0

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


def test_blocks_side_by_side_are_no_copy_and_verified(store: PackStore) -> None:
    blocks = blocks_of((1000, 1000, 17))
    apart = blocks[1]
    store.put([apart], apart[0])  # another pack holds one of them, too
    store.put(blocks, blocks[0][0])
    found = store.get_joined(*told(blocks))
    assert isinstance(found.obj, bytearray)  # that of the storage
    assert found == b"".join(data for _, data in blocks)
    store.verify = True
    place = store.registry.find(blocks[2][0])
    assert place is not None
    pack = store.storage._items[pack_registry.pack_path(place.pack)]
    pack.data[place.start] ^= 1
    with pytest.raises(CorruptBlockError):
        store.get_joined(*told(blocks))


def test_threads_take_in_new_packs_one_at_a_time(store: PackStore) -> None:
    """Else one might go on from what another has just replaced, and forget a pack."""
    ((cid, data),) = blocks_of((10,))
    writer = threading.Thread(target=store.put, args=([(cid, data)], cid))
    with store.registry._guard:
        writer.start()
        writer.join(0.3)  # one that does not wait is through by then
        assert store.find_known(cid) is None
    writer.join()
    assert store.find_known(cid) == data
