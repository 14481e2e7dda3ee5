"""One repository, and a server before it, for all tests that only read."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import versioned_zarr as vz
from tests.interfaces.web.served import client_of, serving

BIG = random.Random(5).randbytes((5 << 19) + 17)
VALUES = {
    "zarr.json": b'{"zarr_format": 3, "node_type": "group", "attributes": {}}',
    "a/c/0/0": b"chunk",
    "a/c/0/1": b"",
    "big/v": BIG,
    "same/x": BIG,
    "odd/ą ę%2F:?#<b>": b"odd",
    "page.html": b"<script>alert(1)</script>",
}


@pytest.fixture(scope="session")
def repository():
    made = vz.create("memory://web-tests")
    with made.session(message="values") as session:
        for key, value in VALUES.items():
            session.write(key, value)
        for number in range(4000):
            session.write(f"many/{number:060d}", b"%d" % number)
    made.branches.create("feature/x")
    made.tags.create("v1")
    return made


@pytest.fixture(scope="session")
def snapshot(repository):
    return repository.checkout("main")


@pytest.fixture(scope="session")
def port(repository) -> Iterator[int]:
    with serving(repository, cors=["https://example.org"]) as number:
        yield number


@pytest.fixture(scope="session")
def web(port):
    with client_of(port) as client:
        yield client
