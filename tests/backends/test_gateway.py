"""Snapshots from gateways: what they cost, and what gateways that misbehave can do: cost time."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import chain

import numpy as np
import pytest
import zarr

import versioned_zarr as vz
from tests.interfaces.web.served import serving
from tests.servers import gateway as gateways
from tests.servers.gateway import Gateway, Mood, gateway
from versioned_zarr.blocks.remote.readahead_policy import REQUEST_BYTES
from versioned_zarr.ipld.address.ipfs_address import read_pasted
from versioned_zarr.ipld.cid import hash_function, to_text

BIG = random.Random(7).randbytes((9 << 20) + 5)
VALUES = {
    "zarr.json": b'{"zarr_format": 3, "node_type": "group", "attributes": {}}',
    "big": BIG,
    "empty": b"",
    "a/b/small": b"small",
    "a/b/medium": BIG[: 2 << 20],
    **{f"many/{number:050d}": b"%d" % number for number in range(5000)},
}


@pytest.fixture(scope="module")
def repository():
    made = vz.create("memory://gateway-tests")
    with made.session(message="values") as session:
        for key, value in VALUES.items():
            session.write(key, value)
    return made


@pytest.fixture(scope="module")
def snapshot(repository):
    return repository.checkout("main")


@pytest.fixture(scope="module")
def target(repository) -> Iterator[str]:
    with serving(repository) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def start(target: str):
    """Start a gateway in some mood, before the honest one."""
    with ExitStack() as stack:
        yield lambda mood=gateways.honest: stack.enter_context(gateway(target, mood))


def check(found: vz.Snapshot) -> None:
    """Read in every way; whatever comes must be right."""
    assert bytes(found.read("a/b/small")) == b"small"
    assert bytes(found.read("big")) == BIG
    assert bytes(found.read("big", 6 << 20, (6 << 20) + 9)) == BIG[6 << 20 : (6 << 20) + 9]
    assert bytes(found.read("empty")) == b""
    assert bytes(found.read("a/b/medium")) == VALUES["a/b/medium"]
    assert bytes(found.read(f"many/{4321:050d}")) == b"4321"
    assert found.get("many/none") is None
    assert sum(1 for _ in found.keys("many")) == 5000


# What it is


def test_a_snapshot_is_the_same_as_in_the_repository(snapshot, start, tmp_path):
    server = start()
    found = vz.open_snapshot(f"ipfs://{snapshot.cid}", gateways=[server.url])
    check(found)
    assert found == snapshot
    assert found.cid == snapshot.cid
    assert dict(found.mapping) == VALUES
    assert list(found._links()) == list(snapshot._links())
    assert found.open().metadata == snapshot.open().metadata
    below = found.path("a")
    assert below.cid == snapshot.path("a").cid
    assert pickle.loads(pickle.dumps(below)).read("b/small") == b"small"
    assert pickle.loads(pickle.dumps(found.store)) == found.store
    found.to_folder(str(tmp_path / "out"))
    assert (tmp_path / "out" / "big").read_bytes() == BIG
    found.to_folder(str(tmp_path / "out"))


def test_a_path_and_a_commit_are_opened_too(repository, snapshot, start):
    server = start()
    below = vz.open_snapshot(f"{server.url}/ipfs/{snapshot.cid}/a/b")
    assert below.cid == snapshot.path("a/b").cid
    commit = snapshot.commit
    found = vz.open_snapshot(commit.cid, gateways=[server.url])
    assert found == snapshot
    assert found.commit == commit
    assert vz.open_snapshot(f"ipfs://{commit.cid}/tree/a", gateways=[server.url]).cid == (
        snapshot.path("a").cid
    )


def test_gateways_come_from_the_environment(snapshot, start, monkeypatch):
    server = start()
    monkeypatch.setenv("VERSIONED_ZARR_GATEWAYS", f"http://127.0.0.1:1, {server.url}/")
    assert vz.open_snapshot(snapshot.cid).read("a/b/small") == b"small"
    monkeypatch.delenv("VERSIONED_ZARR_GATEWAYS")
    opened = vz.open_snapshot(f"{server.url}/ipfs/{snapshot.cid}")
    assert opened.repository.gateways == (server.url,)


def test_a_gateway_is_known_by_its_multiaddr_too(snapshot, start, monkeypatch):
    server = start()
    address = f"/ip4/127.0.0.1/tcp/{server.url.rpartition(':')[2]}"
    for given in (address, f"{address}/http/", f" {address} "):
        found = vz.open_snapshot(snapshot.cid, gateways=[given, server.url])
        assert found.repository.gateways == (server.url,)
        assert found.read("a/b/small") == b"small"
    monkeypatch.setenv("VERSIONED_ZARR_GATEWAYS", f"/dns4/localhost/tcp/1/https, {address}")
    found = vz.open_snapshot(snapshot.cid)
    assert found.repository.gateways == ("https://localhost:1", server.url)
    for wrong, why in (("/udp/4001/quic-v1", "'/udp'"), ("/tcp/8080/p2p/12D3KooW", "'/p2p'")):
        with pytest.raises(vz.InvalidUrlError, match=why):
            vz.open_snapshot(snapshot.cid, gateways=[f"/ip4/127.0.0.1{wrong}"])


def test_credentials_of_a_gateway_are_never_shown(snapshot, start):
    server = start()
    secret = server.url.replace("//", "//me:secret@")
    found = vz.open_snapshot(snapshot.cid, gateways=[secret])
    assert "secret" not in repr([found, found.repository, found.store, found.repository._stores])
    server.mood = gateways.dead
    with pytest.raises(vz.StorageError) as caught:
        found.read("big")
    assert "secret" not in str(caught.value)
    assert server.url in str(caught.value)


def test_what_is_not_there_is_said_so(snapshot, start):
    server = start()
    with pytest.raises(vz.KeyNotFoundError, match="a/c"):
        vz.open_snapshot(f"ipfs://{snapshot.cid}/a/c", gateways=[server.url])
    with pytest.raises(vz.InvalidCidError, match="not a folder"):
        vz.open_snapshot(f"ipfs://{snapshot.cid}/a/b/small", gateways=[server.url])
    nobody = to_text(hash_function("sha2-256").dag_pb(b"nobody has this"))
    with pytest.raises(vz.BlockNotFoundError, match=server.url):
        vz.open_snapshot(f"ipfs://{nobody}", gateways=[server.url])
    for wrong in ("ftp://x", "x"):
        with pytest.raises(vz.InvalidUrlError, match="base URL"):
            vz.open_snapshot(snapshot.cid, gateways=[wrong])
    with pytest.raises(vz.InvalidInputError, match="list"):
        vz.open_snapshot(snapshot.cid, gateways=server.url)


def test_a_snapshot_cannot_be_written_to(snapshot, start):
    found = vz.open_snapshot(snapshot.cid, gateways=[start().url])
    with pytest.raises(vz.ReadOnlyError):
        found.repository._stores.blocks.put([], read_pasted(snapshot.cid).cid)
    assert found.store.read_only


# What it costs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Consolidated metadata")
def test_a_consolidated_zarr_of_20000_chunks_opens_with_two_requests(tmp_path):
    repository = vz.create("memory://gateway-consolidated")
    values = np.arange(20_000, dtype="i4")
    with repository.session(message="zarr") as session:
        root = zarr.open_group(session.store)
        for name, size, chunk in (
            ("tas", 20_000, 1),
            ("time", 1000, 100),
            ("pr", 1 << 20, 1 << 17),
        ):
            array = root.create_array(
                name, shape=(size,), chunks=(chunk,), dtype="i4", compressors=None
            )
            if name == "tas":
                for number in range(size):
                    session.write(f"tas/c/{number}", values[number].tobytes())
            else:
                array[:] = np.arange(size)
        zarr.consolidate_metadata(session.store.with_consolidated_metadata())
    cid = repository.checkout("main").cid
    with serving(repository) as port, gateway(f"http://127.0.0.1:{port}") as server:

        def cost() -> int:
            spent = len(server.targets)
            server.targets.clear()
            return spent

        found = vz.open_snapshot(f"ipfs://{cid}", gateways=[server.url])
        group = found.open(use_consolidated=True)
        assert cost() == 2
        assert (group["time"][:] == np.arange(1000)).all()
        assert cost() == 1  # a small folder comes whole
        assert (group["pr"][:] == np.arange(1 << 20)).all()
        assert cost() == 2 + 8  # two directories and the chunks
        assert (group["tas"][5000:5100] == values[5000:5100]).all()
        assert cost() <= 2 + 100
        assert len(list(found._links())) > 20_000
        assert cost() == 0

        again = pickle.loads(pickle.dumps(found))
        assert (again.open()["pr"][:] == np.arange(1 << 20)).all()
        assert cost() <= 1  # pr/zarr.json, which was not read before


def test_what_comes_unasked_is_bounded_by_what_was_asked_for():
    repository = vz.create("memory://gateway-foresight")
    leaf = 16 << 10
    values = {
        f"c/{row}/{column}": random.Random(f"{row}/{column}").randbytes(leaf)
        for row in range(32)
        for column in range(80)
    }
    with repository.session(message="chunks") as session:
        for key, value in values.items():
            session.write(key, value)
    cid = repository.checkout("main").cid
    sent: list[int] = []

    def counting(target: str, answer: gateways.Answer) -> gateways.Answer:
        sent.append(len(answer.body))
        return answer

    with serving(repository) as port, gateway(f"http://127.0.0.1:{port}", counting) as server:
        url = server.url
        through = vz.open_snapshot(cid, gateways=[url], cache_bytes=0)
        assert all(bytes(through.read(key)) == value for key, value in values.items())
        assert len(sent) <= 2 * 32 + 24  # not one for each of 2560 values
        assert sum(sent) <= 1.1 * leaf * len(values)

        sent.clear()
        here_and_there = vz.open_snapshot(cid, gateways=[url], cache_bytes=0)
        asked = random.Random(3).sample(sorted(values), 60)
        assert all(bytes(here_and_there.read(key)) == values[key] for key in asked)
        time.sleep(0.2)  # what is under way arrives
        assert sum(sent) <= len(asked) * (leaf + REQUEST_BYTES) + 34 * (8 << 10)


FORKS = """
import hashlib, os, sys
import versioned_zarr as vz

cid, url = sys.argv[1:]
snapshot = vz.open_snapshot(cid, gateways=[url], cache_bytes=0)

def tell(who, rows):
    values = [snapshot.read(f"c/{row:02}/{column:02}") for row in rows for column in range(40)]
    print(who, hashlib.sha256(b"".join(values)).hexdigest(), flush=True)

tell("before", range(2))
sys.stdin.readline()
child = os.fork()
if child:
    print("forked", flush=True)
    os.waitpid(child, 0)
tell("parent" if child else "child", range(6))
os._exit(0)
"""


def test_a_fork_while_requests_are_under_way_leaves_both_with_all_bytes():
    repository = vz.create("memory://gateway-fork")
    rows = [
        [random.Random(f"{row}/{column}").randbytes(4 << 10) for column in range(40)]
        for row in range(64)
    ]
    with repository.session(message="chunks") as session:
        for row, values in enumerate(rows):
            for column, value in enumerate(values):
                session.write(f"c/{row:02}/{column:02}", value)
    snapshot = repository.checkout()
    ahead = snapshot.path("c/02").cid
    is_under_way, has_forked = threading.Event(), threading.Event()

    def slow(target: str, answer: gateways.Answer) -> gateways.Answer:
        if ahead in target:
            is_under_way.set()
            has_forked.wait(30)
        return answer

    def said(who: str, count: int) -> str:
        return f"{who} {hashlib.sha256(b''.join(chain(*rows[:count]))).hexdigest()}\n"

    with (
        serving(repository) as port,
        gateway(f"http://127.0.0.1:{port}", slow) as server,
        watched_process([sys.executable, "-c", FORKS, snapshot.cid, server.url]) as process,
    ):
        assert process.stdout.readline() == said("before", 2)
        assert is_under_way.wait(30)
        assert process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.stdout.readline() == "forked\n"
        has_forked.set()
        assert process.stdout.readline() == said("child", 6)
        assert process.stdout.readline() == said("parent", 6)
        assert sum(ahead in target for target in server.targets) > 1  # the child asked for itself


@contextmanager
def watched_process(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program; after 30 seconds it ends with all that it forked, and so does its output."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    guard = threading.Timer(30, os.killpg, (process.pid, signal.SIGKILL))
    guard.start()
    try:
        with process:
            yield process
    finally:
        guard.cancel()


def test_a_large_value_costs_two_requests_and_a_range_of_it_no_more(snapshot, start):
    server = start()
    found = vz.open_snapshot(snapshot.cid, gateways=[server.url], cache_bytes=0)
    server.targets.clear()
    assert bytes(found.read("big", 8 << 20, (8 << 20) + 3)) == BIG[8 << 20 : (8 << 20) + 3]
    assert len(server.targets) == 2
    found.read("big")
    assert len(server.targets) == 3
    found.read("a/b/medium")
    assert len(server.targets) == 3 + 3


def test_threads_that_want_the_same_share_a_request(snapshot, start):
    server = start()
    found = vz.open_snapshot(snapshot.cid, gateways=[server.url])
    server.targets.clear()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: bytes(found.read(f"many/{7:050d}")), range(32))) == {b"7"}
    assert len(server.targets) == 1


def test_the_cache_serves_the_next_process(snapshot, start):
    server = start()
    found = vz.open_snapshot(snapshot.cid, gateways=[server.url])
    check(found)
    found.repository._stores.blocks.cache.flush()
    del found
    server.mood = gateways.dead
    check(vz.open_snapshot(snapshot.cid, gateways=[server.url, "http://127.0.0.1:1"]))


def test_a_damaged_cache_is_not_believed(snapshot, start, home):
    server = start()
    found = vz.open_snapshot(snapshot.cid, gateways=[server.url])
    check(found)
    found.repository._stores.blocks.cache.flush()
    for pack in (home / "gateway" / "sha2-256" / "packs").iterdir():
        data = bytearray(pack.read_bytes())
        for at in range(1000, len(data), 997):
            data[at] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)
    del found
    check(vz.open_snapshot(snapshot.cid, gateways=[f"{server.url}/"], timeout_s=29))


# Gateways that misbehave

MOODS = {
    "lying": gateways.lying,
    "lying_first": gateways.lying_first,
    "truncating": gateways.truncating,
    "shortening": gateways.shortening,
    "silent": gateways.silent,
    "dripping": gateways.dripping,
    "dead": gateways.dead,
    "empty": gateways.empty,
    "without_blocks": gateways.without_blocks,
    "without_car": gateways.without_car,
    "page": gateways.page,
    "busy": gateways.failing(429, Retry_After="1000"),
    "broken": gateways.failing(500),
    "forbidden": gateways.failing(403),
    "absent": gateways.failing(404),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MOODS)
def test_one_that_misbehaves_beside_an_honest_one_costs_time_only(name, snapshot, start):
    bad, good = start(MOODS[name]), start()
    began = time.monotonic()
    found = vz.open_snapshot(snapshot.cid, gateways=[bad.url, good.url], timeout_s=10)
    check(found)
    assert time.monotonic() - began < 20
    assert bad.targets


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(MOODS) - {"without_car", "without_blocks"}))
def test_one_that_misbehaves_alone_is_named_with_what_it_did(name, snapshot, start):
    bad = start(MOODS[name])
    began = time.monotonic()
    with pytest.raises((vz.StorageError, vz.BlockNotFoundError)) as caught:
        check(vz.open_snapshot(snapshot.cid, gateways=[bad.url], timeout_s=2))
    assert time.monotonic() - began < 15
    assert bad.url in str(caught.value)
    assert "VERSIONED_ZARR_GATEWAYS" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MOODS))
def test_one_that_turns_bad_after_a_while_never_gives_a_wrong_byte(name, snapshot, start):
    server, good = start(), start()
    found = vz.open_snapshot(snapshot.cid, gateways=[server.url, good.url], timeout_s=10)
    assert bytes(found.read("a/b/small")) == b"small"
    server.mood = MOODS[name]
    check(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "mood",
    [
        gateways.failing(429, Retry_After="1"),
        gateways.failing(503),
        gateways.truncating,
    ],
)
def test_one_that_recovers_is_asked_again(mood: Mood, snapshot, start):
    server = start(gateways.at_first(2, mood))
    check(vz.open_snapshot(snapshot.cid, gateways=[server.url], timeout_s=10))


def test_retry_after_is_respected(snapshot, start):
    server = start(gateways.at_first(1, gateways.failing(429, Retry_After="2")))
    began = time.monotonic()
    vz.open_snapshot(snapshot.cid, gateways=[server.url], timeout_s=10)
    assert time.monotonic() - began >= 1.9
    assert len(server.targets) == 2


def test_a_gateway_without_cars_is_asked_for_one_only_once(snapshot, start):
    server = start(gateways.without_car)
    check(vz.open_snapshot(snapshot.cid, gateways=[server.url]))
    assert sum("format=car" in target for target in server.targets) == 1


def test_a_slow_one_is_raced_once_and_then_left(snapshot, start):
    slow, good = start(gateways.silent), start()
    began = time.monotonic()
    check(vz.open_snapshot(snapshot.cid, gateways=[slow.url, good.url]))
    assert time.monotonic() - began < 10
    assert len(slow.targets) == 1


def test_when_all_are_dead_each_is_named(snapshot, start):
    servers = [start(gateways.dead), start(gateways.failing(500)), start(gateways.lying_first)]
    urls = [*(server.url for server in servers), "http://127.0.0.1:1"]
    with pytest.raises(vz.StorageError) as caught:
        vz.open_snapshot(snapshot.cid, gateways=urls, timeout_s=3)
    for url in urls:
        assert url in str(caught.value)
    assert "answered 500" in str(caught.value)


def test_moods_at_random_never_give_a_wrong_byte(snapshot, start):
    random_ = random.Random(11)
    names = sorted(set(MOODS) - {"silent", "dripping"})

    def moody(target, answer):
        name = random_.choice([*names, *["honest"] * len(names)])
        return answer if name == "honest" else MOODS[name](target, answer)

    servers: list[Gateway] = [start(moody) for _ in range(3)]
    for _ in range(4):
        found = vz.open_snapshot(
            snapshot.cid, gateways=[server.url for server in servers], cache_bytes=0, timeout_s=5
        )
        for key in ("a/b/small", "big", "a/b/medium", f"many/{9:050d}"):
            try:
                assert bytes(found.read(key)) == VALUES[key]
            except vz.StorageError:
                continue
