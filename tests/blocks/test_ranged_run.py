"""An index file that is read by ranges says what all of it says, for a fraction of its bytes."""

from __future__ import annotations

import gc
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz
from versioned_zarr.backends.memory import MemoryStorage
from versioned_zarr.blocks.packs.index import Run, checks_of, run_from_file
from versioned_zarr.blocks.packs.pack_store import PackStore
from versioned_zarr.blocks.packs.ranged_run import RangedRun
from versioned_zarr.errors import CorruptError
from versioned_zarr.ipld.cid import hash_function

HASH = hash_function("sha2-256")
CODE = HASH.code
PACKS = ["0" * 24, "1" * 24]


def stored(digests: Sequence[bytes]) -> MemoryStorage:
    """A storage with an index file of these digests, the nth at `10 * n` with `n` bytes."""
    told = sorted((digest, number) for number, digest in enumerate(digests))
    prefixes = np.array([int.from_bytes(digest[:8], "big") for digest, _ in told], "<u8")
    numbers = np.array([number for _, number in told], "<u8")
    tails = np.array([np.void(digest[8:]) for digest, _ in told], "V24")
    places = 10 * numbers, (numbers % 2).astype("<u4"), numbers.astype("<u4")
    run = Run(PACKS, [prefixes, *places, checks_of(*places), tails])
    storage = MemoryStorage("index")
    storage.put("i.idx", run.to_bytes(CODE))
    return storage


def ranged(storage: MemoryStorage) -> RangedRun:
    return RangedRun(storage, "i.idx", CODE)


def whole(storage: MemoryStorage) -> Run:
    return run_from_file(storage.read("i.idx"), CODE, "i.idx", check=True)


# Few prefixes, so that many are equal, and at the ends of what there is.
DIGESTS = st.builds(
    lambda prefix, tail: prefix.to_bytes(8, "big") + tail * 24,
    st.one_of(st.integers(0, 3), st.integers(2**64 - 4, 2**64 - 1), st.integers(0, 2**64 - 1)),
    st.sampled_from([b"a", b"b"]),
)


@given(st.lists(DIGESTS, max_size=600), st.lists(DIGESTS, max_size=5))
def test_it_finds_what_the_whole_file_names(digests: list[bytes], others: list[bytes]) -> None:
    storage = stored(digests)
    by_range, by_file = ranged(storage), whole(storage)
    assert by_range.packs == by_file.packs
    assert len(by_range) == len(by_file)
    for digest in (*digests[:20], *others):
        assert list(by_range.find(digest)) == list(by_file.find(digest))
        assert by_range.first(digest) == by_file.first(digest)
    assert b"".join(by_range.to_bytes(CODE)) == b"".join(by_file.to_bytes(CODE))


def test_many_equal_prefixes_are_all_looked_at() -> None:
    digests = [bytes(8) + number.to_bytes(24, "big") for number in range(3000)]
    by_range = ranged(stored(digests))
    assert [place.size for place in by_range.find(digests[2999])] == [2999]
    assert [place.size for place in by_range.find(digests[0])] == [0]


def test_a_file_that_was_replaced_is_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStorage, "view", lambda *_: None)
    storage = MemoryStorage("replaced")
    writer, reader = (PackStore(storage, HASH, verify=False) for _ in range(2))
    blocks = [(HASH.raw(bytes([number])), bytes([number])) for number in range(40)]
    for block in blocks[:20]:
        writer.put([block], block[0])
    reader.refresh()
    for block in blocks[20:]:
        writer.put([block], block[0])
    writer.registry.merge(everything=True)
    assert all(cid in reader for cid, _ in blocks[:20])
    reader.registry.merge(everything=True)
    assert all(reader.get(cid) == data for cid, data in blocks)


def test_an_index_that_cannot_be_read_keeps_nobody_from_storing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(MemoryStorage, "view", lambda *_: None)
    storage = MemoryStorage("cut")
    store = PackStore(storage, HASH, verify=False)
    blocks = [(HASH.raw(bytes([number])), bytes([number])) for number in range(60)]
    for block in blocks[:20]:
        store.put([block], block[0])
    for stored_file in storage.list("index"):
        storage.put(stored_file.path, [bytes(storage.read(stored_file.path))[:200]])
    for block in blocks[20:]:
        store.put([block], block[0])
    assert all(PackStore(storage, HASH, verify=False).get(cid) == data for cid, data in blocks)


def test_a_file_that_is_cut_short_names_nothing_wrong() -> None:
    digests = [bytes([number]) * 32 for number in range(200)]
    storage = stored(digests)
    data = bytes(storage.read("i.idx"))
    for length in (len(data) - 1, len(data) // 2, 100):
        storage.put("i.idx", [data[:length]])
        by_range = ranged(storage)
        for number, digest in enumerate(digests):
            assert all(place.size == number for place in by_range.find(digest))
    storage.put("i.idx", [data[:20]])
    with pytest.raises(CorruptError):
        ranged(storage)


@pytest.fixture
def read_bytes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many bytes each read of memory brought, which gives no views."""
    counts: list[int] = []
    real = MemoryStorage.read

    def read(self: MemoryStorage, path: str, start: int = 0, end: int | None = None) -> memoryview:
        found = real(self, path, start, end)
        counts.append(len(found))
        return found

    monkeypatch.setattr(MemoryStorage, "view", lambda *_: None)
    monkeypatch.setattr(MemoryStorage, "read", read)
    return counts


@pytest.mark.slow
def test_one_value_of_a_hundred_thousand_costs_a_hundredth_of_the_bytes(
    read_bytes: list[int],
) -> None:
    url = f"memory://{uuid.uuid4()}"
    repository = vz.create(url)
    with repository.session(message="many") as session:
        for number in range(100_000):
            session.write(f"a/c/{number}", number.to_bytes(4, "big") * 25)
    storage = MemoryStorage.named(url.removeprefix("memory://"))
    stored_bytes = sum(stored.size for stored in storage.list(""))
    del repository, session
    gc.collect()
    read_bytes.clear()
    assert vz.open(url).checkout().read("a/c/77777") == (77777).to_bytes(4, "big") * 25
    assert sum(read_bytes) <= stored_bytes // 100, (sum(read_bytes), stored_bytes)
