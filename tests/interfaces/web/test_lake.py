"""A repository on lakeFS, served: what others committed, and CIDs that this machine never saw."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import versioned_zarr as vz
from tests.interfaces.web.served import client_of, serving
from tests.servers.lakefs import LakefsServer
from versioned_zarr.ipld import cid as cids
from versioned_zarr.repository.repository import Repository
from versioned_zarr.tree.dag import resolve

pytestmark = pytest.mark.compat

PATHS = [["a"], ["a", "0"], ["a", "big"]]
VALUE = os.urandom(2_500_000)


@pytest.fixture
def repository(lakefs: LakefsServer) -> Repository:
    made = lakefs.create()
    with made.session(message="one") as session:
        session.write("a/0", b"1")
        session.write("a/big", VALUE)
    return made


@pytest.fixture
def far(
    lakefs: LakefsServer,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[httpx.Client]:
    """A server on a machine that has an empty cache."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
    there = vz.open(repository.url, **lakefs.options)
    with serving(there) as port, client_of(port) as web:
        yield web


def test_a_branch_whose_head_others_committed_is_served(
    lakefs: LakefsServer, repository: Repository, far: httpx.Client
) -> None:
    others = lakefs.client(repository.url.removeprefix("lakefs://"))
    others.upload("main", "a/theirs", b"theirs", {})
    others.commit("main", "theirs", {})
    assert far.get("/main/a/theirs").content == b"theirs"
    assert far.get("/main/a/0").content == b"1"


@pytest.mark.parametrize("key", ["a/0", "a/big"])
def test_cids_are_served_by_a_machine_that_never_saw_them(
    repository: Repository, far: httpx.Client, key: str
) -> None:
    snapshot = repository.checkout("main")
    value = bytes(snapshot.read(key))
    assert far.get(f"/ipfs/{snapshot.cid}/{key}").content == value


def test_blocks_are_served_by_a_machine_that_never_saw_them(
    repository: Repository, far: httpx.Client
) -> None:
    root = cids.from_text(repository.checkout("main").cid)
    wanted = [root, *(resolve(repository._stores.blocks.get, root, path).end for path in PATHS)]
    for cid in reversed(wanted):
        block = far.get(f"/ipfs/{cids.to_text(cid)}?format=raw")
        assert block.status_code == 200, cids.to_text(cid)
        assert cids.matches(cid, block.content)
    assert far.get(f"/ipfs/{cids.to_text(repository._stores.hash.raw(b'no'))}").status_code == 404


@pytest.mark.parametrize("chosen", ["main", "theirs"])
def test_what_others_committed_is_offered_where_its_branch_is(
    lakefs: LakefsServer, repository: Repository, chosen: str
) -> None:
    others = lakefs.client(repository.url.removeprefix("lakefs://"))
    repository.branches.create("theirs")
    others.upload("theirs", "a/theirs", b"theirs", {})
    others.commit("theirs", "theirs", {})
    head = repository.branches["theirs"].cid
    is_offered = chosen == "theirs"
    with serving(repository, refs=[chosen]) as port, client_of(port) as web:
        assert (web.get("/theirs/a/theirs").content == b"theirs") == is_offered
        assert (web.get(f"/{head}/a/theirs").content == b"theirs") == is_offered
        value = cids.to_text(repository._stores.hash.raw(b"theirs"))
        assert (web.get(f"/ipfs/{value}").content == b"theirs") == is_offered
