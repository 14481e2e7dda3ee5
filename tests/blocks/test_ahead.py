"""Reading ahead: what is asked for beyond what is wanted, and what becomes of failures."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from versioned_zarr.blocks.protocol import WouldBlockError
from versioned_zarr.blocks.remote.daemon_pool import DaemonPool
from versioned_zarr.blocks.remote.nonblocking import NonBlocking
from versioned_zarr.blocks.remote.readahead import WHOLE_BYTES, ReadAhead
from versioned_zarr.blocks.remote.readahead_policy import REQUEST_BYTES
from versioned_zarr.errors import CorruptBlockError, StorageError
from versioned_zarr.ipld import dag_pb, unixfs
from versioned_zarr.ipld.cid import Cid, hash_function
from versioned_zarr.ipld.dag_pb import Link

HASH = hash_function("sha2-256")


class Awaited(DaemonPool):
    """Threads whose work can be waited for."""

    def __init__(self) -> None:
        super().__init__(4)
        self._under_way: list[threading.Event] = []

    def do(self, work: Callable[[], object]) -> None:
        done = threading.Event()
        self._under_way.append(done)

        def work_and_tell() -> None:
            try:
                work()
            finally:
                done.set()

        super().do(work_and_tell)

    def wait(self) -> None:
        """Return when all that was begun is done."""
        while self._under_way:
            assert self._under_way.pop().wait(10)


class Afar:
    """A folder of folders of values, elsewhere; notes what was asked for."""

    def __init__(self, folders: int, values: int, size_bytes: int) -> None:
        self.blocks: dict[Cid, memoryview] = {}
        self.near: dict[Cid, memoryview] = {}
        self.alone: list[Cid] = []
        self.whole: list[Cid] = []
        self.fails: Exception | None = None
        self.is_open = threading.Event()
        self.is_open.set()
        self.folders = []
        links = []
        for folder in range(folders):
            leaves = [self._leaf(folder * values + number, size_bytes) for number in range(values)]
            link = self._folder(str(folder), leaves)
            links.append(link)
            self.folders.append((link.cid, [leaf.cid for leaf in leaves]))
        self.root = self._folder("", links).cid
        self.nearness = NonBlocking()
        self.ahead = ReadAhead(
            find=self.near.get,
            fetch=self.fetch,
            fetch_all=self.fetch_all,
            can_fetch_all=lambda: True,
            sizes_below=lambda _, node: [
                (link.cid, link.tsize)
                for link in sorted(dag_pb.decode(node)[0], key=lambda link: int(link.name))
            ],
            nearness=self.nearness,
        )
        self.ahead._background = self.background = Awaited()

    def _leaf(self, number: int, size_bytes: int) -> Link:
        data = memoryview(number.to_bytes(4, "big") * (size_bytes // 4))
        cid = HASH.raw(data)
        self.blocks[cid] = data
        return Link(str(number), cid, len(data))

    def _folder(self, name: str, links: list[Link]) -> Link:
        block = unixfs.directory(sorted(links))
        cid = HASH.dag_pb(block)
        self.blocks[cid] = memoryview(block)
        return Link(name, cid, len(block) + sum(link.tsize for link in links))

    def fetch(self, cid: Cid, _: int | None, came: dict[Cid, memoryview]) -> None:
        self.is_open.wait(10)
        self.alone.append(cid)
        came[cid] = self.near[cid] = self.blocks[cid]

    def fetch_all(self, cid: Cid, _: int | None, came: dict[Cid, memoryview]) -> None:
        self.is_open.wait(10)
        self.whole.append(cid)
        if self.fails is not None:
            raise self.fails
        for below in self._below(cid):
            came[below] = self.near[below] = self.blocks[below]

    def _below(self, cid: Cid) -> Iterator[Cid]:
        yield cid
        if cid[1] == 0x70:
            for link in dag_pb.decode(self.blocks[cid])[0]:
                yield from self._below(link.cid)

    def read_all(self) -> Iterator[Cid]:
        """Read everything in order, as an array is; gives each value once it was read."""
        assert self.ahead.get(self.root) == self.blocks[self.root]
        for folder, leaves in self.folders:
            assert self.ahead.get(folder) == self.blocks[folder]
            for leaf in leaves:
                assert self.ahead.get(leaf) == self.blocks[leaf]
                yield leaf


def test_neighbours_come_before_they_are_asked_for() -> None:
    afar = Afar(folders=16, values=64, size_bytes=4096)
    assert len(list(afar.read_all())) == 16 * 64
    afar.background.wait()
    assert len(afar.alone) + len(afar.whole) <= 16 + 4
    assert len(set(afar.whole)) == len(afar.whole)


def test_what_came_unasked_is_never_more_than_what_was_asked_for() -> None:
    size_bytes = 32 << 10
    afar = Afar(folders=8, values=48, size_bytes=size_bytes)
    assert size_bytes * 48 > WHOLE_BYTES
    for read, _ in enumerate(afar.read_all(), 1):
        afar.background.wait()
        unread = sum(len(data) for cid, data in afar.near.items() if cid[1] == 0x55)
        unread -= read * size_bytes
        assert unread <= read * max(size_bytes, REQUEST_BYTES)
    assert len(afar.alone) < 8 * 48 / 4


@pytest.mark.parametrize(
    "fails", [StorageError("busy", where="afar"), CorruptBlockError("damaged", where="afar")]
)
def test_where_the_whole_does_not_come_each_block_is_asked_for(fails: Exception) -> None:
    afar = Afar(folders=2, values=64, size_bytes=32 << 10)
    afar.fails = fails
    assert len(list(afar.read_all())) == 2 * 64
    afar.background.wait()
    assert len(afar.alone) == 1 + 2 * 65


def test_a_block_is_fetched_once_however_many_want_it() -> None:
    afar = Afar(folders=1, values=1, size_bytes=WHOLE_BYTES)
    (leaf,) = afar.folders[0][1]
    afar.is_open.clear()
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(afar.ahead.get, leaf) for _ in range(8)]
        afar.is_open.set()
        assert all(each.result(10) == afar.blocks[leaf] for each in waiting)
    assert afar.alone == [leaf]


def test_an_empty_block_is_a_block() -> None:
    afar = Afar(folders=1, values=1, size_bytes=0)
    assert afar.ahead.get(afar.folders[0][1][0]) == b""
    assert len(afar.alone) == 1


def test_who_does_not_want_to_wait_is_told() -> None:
    afar = Afar(folders=1, values=2, size_bytes=4096)
    with afar.nearness.asked(), pytest.raises(WouldBlockError):
        afar.ahead.get(afar.root)
    afar.ahead.get(afar.root)
    with afar.nearness.asked():
        assert afar.ahead.get(afar.root) == afar.blocks[afar.root]


def test_a_child_does_not_wait_for_what_the_parent_fetches() -> None:
    afar = Afar(folders=1, values=1, size_bytes=WHOLE_BYTES)
    (leaf,) = afar.folders[0][1]
    afar.is_open.clear()
    other = threading.Thread(target=afar.ahead.get, args=(leaf,))
    other.start()
    child = os.fork()
    if not child:
        afar.is_open = threading.Event()
        afar.is_open.set()
        os._exit(0 if afar.ahead.get(leaf) == afar.blocks[leaf] else 1)
    afar.is_open.set()
    other.join(10)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_waits_for_nothing_that_is_under_way_in_its_parent() -> None:
    afar = Afar(folders=1, values=1, size_bytes=WHOLE_BYTES)
    (leaf,) = afar.folders[0][1]
    is_asked, may_come = threading.Event(), threading.Event()
    fetch = afar.fetch

    def slow_fetch(cid: Cid, size_bytes: int | None, came: dict[Cid, memoryview]) -> None:
        is_asked.set()
        may_come.wait()
        fetch(cid, size_bytes, came)

    afar.ahead._fetch_one = slow_fetch
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(afar.ahead.get, leaf)
        assert is_asked.wait(10)

        def read() -> None:
            may_come.set()
            assert afar.ahead.get(leaf) == afar.blocks[leaf]

        child = multiprocessing.get_context("fork").Process(target=read)
        child.start()
        child.join(30)
        if child.exitcode is None:
            child.kill()
        may_come.set()
        assert waiting.result(10) == afar.blocks[leaf]
    assert child.exitcode == 0
