"""What is sent again to a node that is busy, or to a proxy before one that starts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import pytest

pytest.importorskip("httpx")

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.proxy import Proxy, proxy, refusal
from versioned_zarr.backends.http.retry_after import retry_after_s
from versioned_zarr.backends.kubo import KuboClient

pytestmark = pytest.mark.compat

MIB = 1 << 20
LATER = ["429 Too Many Requests", "502 Bad Gateway", "503 Service Unavailable", "504 Timeout"]


@pytest.fixture
def url(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


def first(number: int, command: bytes = b"") -> Callable[[bytes], bool]:
    """Refuse so many requests of each kind of a command, those that come first."""
    seen: dict[bytes, int] = {}

    def is_busy(request: bytes) -> bool:
        name = request.split(b"?", 1)[0].split(b" HTTP", 1)[0]
        if command not in name:
            return False
        seen[name] = seen.get(name, 0) + 1
        return seen[name] <= number

    return is_busy


def sent(between: Proxy, command: bytes) -> int:
    return sum(command in request for request in between.requests)


@pytest.mark.parametrize("status", LATER)
def test_a_busy_node_is_asked_again(node: Daemon, url: str, status: str) -> None:
    with proxy(node.rpc, is_busy=first(2, b"files/stat"), refusal=refusal(status)) as between:
        client = KuboClient(between.url)
        assert client.stat("/")
        assert sent(between, b"files/stat") == 3


def test_a_busy_node_that_stays_so_is_named(
    node: Daemon, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versioned_zarr.backends.kubo.client._FIRST_PAUSE_S", 0.001)
    with proxy(node.rpc, is_busy=lambda request: True) as between:
        with pytest.raises(vz.StorageError, match=rf"{between.url}.*503"):
            vz.open(url.replace(node.rpc, between.url))
        assert sent(between, b"files/read") == 5


def test_what_must_not_be_done_twice_is_sent_once(node: Daemon, url: str) -> None:
    cid = KuboClient(node.rpc).put_block(b"once")
    with proxy(node.rpc, is_busy=first(1)) as between:
        client = KuboClient(between.url)
        with pytest.raises(vz.StorageError, match="503"):
            client.copy(cid, f"/{uuid.uuid4()}")
        assert sent(between, b"files/cp") == 1
        with pytest.raises(vz.StorageError, match="503"):
            client.make_key(str(uuid.uuid4()))
        assert sent(between, b"key/gen") == 1


def test_other_failures_are_told_at_once(node: Daemon, url: str) -> None:
    busy = refusal("500 Internal Server Error")
    with proxy(node.rpc, is_busy=lambda request: True, refusal=busy) as between:
        with pytest.raises(vz.StorageError, match="500"):
            vz.open(url.replace(node.rpc, between.url))
        assert len(between.requests) == 1


def test_a_whole_repository_works_on_a_node_that_is_busy(node: Daemon, url: str) -> None:
    vz.create(url)
    value = bytes(range(256)) * 4096 * 3

    often = first(2)

    def is_busy(request: bytes) -> bool:
        return b"files/cp" not in request.split(b"\r\n", 1)[0] and often(request)

    with proxy(node.rpc, is_busy=is_busy) as between:
        there = vz.open(url.replace(node.rpc, between.url), cache_bytes=0)
        with there.session(message="x") as session:
            session.write("a", value)
            session.write("b", b"small")
        assert there.checkout().read("a") == value
        assert there.checkout().read("b") == b"small"
        assert between.refused >= 8
        assert sent(between, b"dag/import") > 2


def test_what_a_node_wishes_is_honoured_for_a_few_seconds(
    node: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versioned_zarr.backends.kubo.client._LONGEST_WISH_S", 0.7)
    for wish, least_s, most_s in (("0", 0.1, 0.6), ("0.5", 0.5, 0.7), ("3600", 0.7, 3.0)):
        busy = refusal("503 Service Unavailable", f"Retry-After: {wish}")
        with proxy(node.rpc, is_busy=first(1), refusal=busy) as between:
            client = KuboClient(between.url)
            began = time.monotonic()
            assert client.stat("/")
            spent_s = time.monotonic() - began
            assert least_s <= spent_s
            assert spent_s < most_s + 2  # the machine may be busy too


def test_what_no_clock_knows_is_no_wish() -> None:
    for wish in (None, "", "soon", "nan", "inf", "Wed, 99 Feb 2026 00:00:00 GMT"):
        assert retry_after_s(wish) is None
    assert retry_after_s("-3") == retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_s("1.5") == 1.5
