"""Values that come before they are asked for: never more bytes than were asked for so far."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer
from tests.servers.proxy import proxy
from versioned_zarr.backends.lakefs.trees.value_readahead import SMALL_BYTES, ValueReadAhead
from versioned_zarr.blocks.remote.singleflight import SingleFlight
from versioned_zarr.ipld.cid import Cid, hash_function
from versioned_zarr.ipld.dag_pb import Link

_DATA = np.arange(1.0, 201.0)
_RAW = hash_function("sha2-256").raw
_NODE = hash_function("sha2-256").dag_pb


class Source:
    """Blocks of so many bytes, and how often each was fetched."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.blocks = {_RAW(bytes([n]) * size): bytes([n]) * size for n, size in enumerate(sizes)}
        self.links = [Link(str(n), cid, len(self.blocks[cid])) for n, cid in enumerate(self.blocks)]
        self.fetched: Counter[Cid] = Counter()
        self.broken: set[Cid] = set()
        self.pause_s = 0.0
        self.is_open = threading.Event()
        self.is_open.set()
        self.ahead = ValueReadAhead(self.fetch, self.fetched.__contains__, lambda cid: ())
        self.ahead.saw(_NODE(b"directory"), self.links[::-1])

    def fetch(self, cid: Cid) -> memoryview:
        self.is_open.wait(10)
        time.sleep(self.pause_s)
        if cid in self.broken:
            raise OSError("broken")
        self.fetched[cid] += 1
        return memoryview(self.blocks[cid])

    def read(self, number: int) -> None:
        cid = self.links[number].cid
        was_near = cid in self.fetched
        found = memoryview(self.blocks[cid]) if was_near else self.ahead.get(cid)
        assert found == self.blocks[cid]
        self.ahead.asked(cid, len(found), was_near=was_near)

    def settle(self) -> None:
        while self.ahead._coming or len(self.ahead._flights):
            time.sleep(0.001)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.data())
def test_no_more_comes_unasked_than_was_asked_for(sizes: list[int], data: st.DataObject) -> None:
    source = Source(sizes)
    asked: set[int] = set()
    for number in data.draw(st.lists(st.integers(0, len(source.links) - 1), max_size=30)):
        source.read(number)
        asked.add(number)
        source.settle()
        came = sum(len(source.blocks[cid]) for cid in source.fetched)
        wanted = sum(source.links[each].tsize for each in asked)
        assert came <= 2 * wanted
    assert set(source.fetched.values()) <= {1}


def test_numbers_come_in_their_order() -> None:
    source = Source([100] * 40)
    source.read(0)
    source.settle()
    source.read(1)
    source.settle()
    assert set(source.fetched) == {link.cid for link in source.links[:4]}


def test_the_next_directory_comes_when_one_ends() -> None:
    one, other = Source([100] * 2), Source([200])
    first, second = _NODE(b"first"), _NODE(b"second")
    source = Source([])
    source.blocks = {**one.blocks, **other.blocks}
    known = {second: other.links}
    source.ahead = ValueReadAhead(source.fetch, source.fetched.__contains__, lambda cid: known[cid])
    source.ahead.saw(_NODE(b"root"), [Link("9", first, 200), Link("10", second, 200)])
    source.ahead.saw(first, one.links)
    source.links = one.links
    source.read(0)
    source.read(1)
    source.settle()
    assert other.links[0].cid in source.fetched


def test_long_values_come_when_they_are_asked_for() -> None:
    source = Source([SMALL_BYTES + 1] * 3)
    source.read(0)
    source.settle()
    assert len(source.fetched) == 1


def test_those_who_want_the_same_wait_for_one_request() -> None:
    source = Source([100])
    source.is_open.clear()
    with ThreadPoolExecutor(8) as threads:
        reads = [threads.submit(source.ahead.get, source.links[0].cid) for _ in range(8)]
        source.is_open.set()
        assert {bytes(each.result()) for each in reads} == {bytes(100)}
    assert source.fetched[source.links[0].cid] < 8


def test_nothing_that_was_read_counts_as_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    take = SingleFlight.take

    def taken(flights: Any, cid: Cid, fetch: Any) -> Any:
        found = take(flights, cid, fetch)
        if not threading.current_thread().name.startswith("reader"):
            time.sleep(0.002)  # who waited goes on before who fetched does
        return found

    monkeypatch.setattr(SingleFlight, "take", taken)
    source = Source([100] * 250)
    source.pause_s = 0.001  # so that others wait for it
    with ThreadPoolExecutor(8, "reader") as threads:
        list(threads.map(source.read, range(250)))
    source.settle()
    assert not source.ahead._unread
    assert source.ahead._unread_bytes == 0


def test_what_fails_unasked_is_told_only_to_who_asks() -> None:
    source = Source([100] * 3)
    source.broken.add(source.links[1].cid)
    source.read(0)
    source.settle()
    with pytest.raises(OSError, match="broken"):
        source.read(1)
    source.broken.clear()
    source.read(1)
    source.read(2)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_for_nothing_of_its_parent() -> None:
    source = Source([100] * 3)
    source.is_open.clear()
    waiting = threading.Thread(target=source.read, args=(0,))
    waiting.start()
    while not len(source.ahead._flights):
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        source.is_open = threading.Event()
        source.is_open.set()
        source.read(0)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    source.is_open.set()
    waiting.join()
    assert status == 0


@pytest.mark.compat
class TestOnLakefs:
    @pytest.fixture
    def url(self, lakefs: LakefsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "writer"))
        repository = lakefs.create()
        with repository.session(message="an array") as session:
            zarr.create_array(session.store, name="a", data=_DATA, chunks=(1,), compressors=None)
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "reader"))
        return repository.url

    def test_each_chunk_of_an_array_is_asked_for_once(self, lakefs: LakefsServer, url: str) -> None:
        with proxy(lakefs.endpoint) as before:
            there = vz.open(url, **{**lakefs.options, "endpoint": before.url})
            found = zarr.open_array(there.checkout().store, path="a", mode="r")[:]
            assert np.array_equal(found, _DATA)
            reads = [each for each in before.requests if b"objects?path=a%2Fc" in each]
        assert len(reads) == len(set(reads)) == 200

    @pytest.mark.parametrize(("cache_bytes", "most"), [(1 << 30, 2), (0, 1)])
    def test_one_chunk_costs_at_most_one_more(
        self, lakefs: LakefsServer, url: str, cache_bytes: int, most: int
    ) -> None:
        with proxy(lakefs.endpoint) as before:
            options = {**lakefs.options, "endpoint": before.url, "cache_bytes": cache_bytes}
            there = vz.open(url, **options)
            assert there.checkout().mapping["a/c/7"] == _DATA[7].tobytes()
            time.sleep(0.2)
            reads = [each for each in before.requests if b"objects?path=a%2Fc" in each]
        assert len(reads) == most
