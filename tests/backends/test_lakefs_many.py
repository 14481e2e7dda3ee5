"""Many keys in one session: what a commit costs does not grow with each of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer
from tests.servers.proxy import proxy

pytestmark = [pytest.mark.compat, pytest.mark.slow]

KEYS = 20_000


def key(number: int) -> str:
    return f"a/{number // 1000}/{number % 1000}"


def value(number: int) -> bytes:
    return number.to_bytes(4, "little") * 5


def is_listing(request: bytes) -> bool:
    return b"/objects/ls?" in request or b"/diff" in request


def test_twenty_thousand_keys_are_written_committed_and_read(
    lakefs: LakefsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "writer"))
    repository = lakefs.create()
    session = repository.session()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(lambda number: session.write(key(number), value(number)), range(KEYS)))
    assert len(list(session.status())) == KEYS
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
    with proxy(lakefs.endpoint) as before:
        there = vz.open(repository.url, **{**lakefs.options, "endpoint": before.url})
        resumed = there.resume(session.id)
        made = resumed.commit("many")
        other = [each for each in before.requests if not is_listing(each)]
        assert len(other) < 20, other
        assert len(before.requests) < 8 * KEYS // 1000
        before.requests.clear()
        assert len(list(there.diff("main~1", "main"))) == KEYS
        assert len(before.requests) < 10, before.requests
    assert repository.branches["main"].cid == made.cid
    mapping = repository.checkout().mapping
    assert len(mapping) == KEYS
    for number in range(0, KEYS, KEYS // 20):
        assert mapping[key(number)] == value(number)
    with repository.session(message="one more") as session:
        session.write(key(7), b"other")
    assert len(list(repository.diff("main~1", "main"))) == 1
