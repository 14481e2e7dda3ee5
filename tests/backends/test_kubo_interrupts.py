"""An exception at any point of a request leaves no connection's turn, lock or waiter behind.

A tracer raises at each call, line and return of the package's code in turn; real signals come when
they like.
"""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("httpx")

import versioned_zarr as vz
from tests.repository.test_interrupts import Stopper
from tests.servers.daemon import Daemon
from tests.torture import SEED, TIMES
from versioned_zarr.backends.http.http_transport import HttpTransport
from versioned_zarr.backends.kubo import KuboBlocks, KuboClient
from versioned_zarr.backends.kubo.client import CONNECTIONS
from versioned_zarr.ipld.cid import from_text
from versioned_zarr.ipld.dag_pb import Link

pytestmark = [
    pytest.mark.compat,
    # What is closed because nobody holds it any more cannot raise to anybody.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

STRIDE = max(1, 7 // TIMES)


def free(client: KuboClient) -> int:
    wire = client._client()._transport
    assert isinstance(wire, HttpTransport)
    turns = wire.turns
    for _ in range(100):
        if turns.free == CONNECTIONS:
            break
        gc.collect()  # httpx has cycles of references
        time.sleep(0.05)  # another thread may still be sending what it was given
    return turns.free


def stopped_everywhere(act: Callable[[], object], check: Callable[[str], None]) -> int:
    """Stop an action at a later point each time, until it is not; how often it was."""
    at, count = 1 + SEED % STRIDE, 0
    while True:
        stopper = Stopper(at)
        if not stopper.stops(act):
            return count
        check(stopper.where)
        at, count = at + STRIDE, count + 1


def test_no_point_of_a_request_loses_a_connection(node: Daemon) -> None:
    client = KuboClient(node.rpc)

    def check(where: str) -> None:
        assert free(client) == CONNECTIONS, where

    assert stopped_everywhere(lambda: client.stat("/"), check) > 10
    assert stopped_everywhere(lambda: client.put_block(b"x"), check) > 10
    assert client.stat("/")


def test_real_interrupts_lose_no_connection(node: Daemon) -> None:
    client = KuboClient(node.rpc)
    chance = random.Random(SEED)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    stopped = 0
    try:
        for _ in range(400 * TIMES):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 1.5e-3))
                client.stat("/")
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped > 2 * CONNECTIONS
    assert free(client) == CONNECTIONS


def test_who_waits_for_a_block_outlives_the_interrupt_of_who_fetches_it(node: Daemon) -> None:
    url = f"{node.url}/{uuid.uuid4()}"
    vz.create(url)
    blocks = vz.open(url, cache_bytes=0)._stores.blocks
    assert isinstance(blocks, KuboBlocks)
    cid = from_text(blocks.client.put_block(os.urandom(100)))

    def forget() -> None:
        blocks.cache.clear()
        blocks._recent.clear()

    def check(where: str) -> None:
        found: list[object] = []
        waiter = threading.Thread(target=lambda: found.append(blocks.get(cid)), daemon=True)
        waiter.start()
        waiter.join(20)
        assert found, where
        forget()

    forget()
    assert stopped_everywhere(lambda: blocks.get(cid), check) > 10
    assert free(blocks.client) == CONNECTIONS


def test_leaves_that_come_together_outlive_the_interrupt_of_who_fetches_them(node: Daemon) -> None:
    url = f"{node.url}/{uuid.uuid4()}"
    vz.create(url)
    blocks = vz.open(url, cache_bytes=0)._stores.blocks
    assert isinstance(blocks, KuboBlocks)
    fetcher = blocks._fetcher
    leaves = [os.urandom(100) for _ in range(8)]
    links = [Link(str(n), from_text(blocks.client.put_block(x)), 100) for n, x in enumerate(leaves)]
    fetcher.saw(blocks.hash.raw(b"the node above"), links)
    fetcher.fetch(links[0].cid)

    def check(where: str) -> None:
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(lambda link: bytes(fetcher.fetch(link.cid)), links)
            assert list(found) == leaves, where

    assert stopped_everywhere(lambda: fetcher.fetch(links[1].cid), check) > 10


@pytest.mark.torture
def test_no_point_of_a_commit_stops_later_ones(node: Daemon) -> None:
    url = f"{node.url}/{uuid.uuid4()}"
    repository = vz.create(url)
    client = repository._stores.blocks.client
    stride = max(1, 1499 // TIMES)
    at = 1 + SEED % stride
    while True:
        session = repository.session()
        stopper = Stopper(at)
        session.write("a", os.urandom(100))
        session.write("b", os.urandom(1_200_000))
        is_stopped = stopper.stops(lambda: session.commit("x"))  # noqa: B023 - called at once
        assert free(client) == CONNECTIONS, stopper.where
        session.write("c", os.urandom(100))
        session.commit("after")
        assert repository.checkout().read("c") == session.read("c"), stopper.where
        session.discard()
        if not is_stopped:
            break
        at += stride
    assert repository.fsck().is_clean


def test_a_draft_whose_move_into_the_cache_was_interrupted_stops_no_commit(
    node: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = vz.create(f"{node.url}/{uuid.uuid4()}")
    session = repository.session()
    session.write("a", os.urandom(1_200_000))
    rename = os.rename

    def renames_and_stops(source: Path, target: Path) -> None:
        rename(source, target)
        if source.suffix == ".draft":
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", renames_and_stops)
    with pytest.raises(KeyboardInterrupt):
        session.commit("stopped when it was done")
    monkeypatch.undo()
    session.write("b", b"1")
    session.commit("after")
    assert repository.checkout().read("a") == session.read("a")
