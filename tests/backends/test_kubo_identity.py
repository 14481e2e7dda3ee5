"""Which repository on a node is which: not by its address, nor by its name alone."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

pytest.importorskip("httpx")

import versioned_zarr as vz
from tests.servers.daemon import Daemon
from tests.servers.proxy import proxy
from versioned_zarr.backends.kubo import KuboClient
from versioned_zarr.ipld.cid import to_text

pytestmark = pytest.mark.compat


@pytest.fixture
def url(node: Daemon) -> str:
    return f"{node.url}/{uuid.uuid4()}"


def test_sessions_are_found_whatever_address_the_node_answers_at(node: Daemon, url: str) -> None:
    session = vz.create(url).session()
    value = os.urandom(1_200_000)
    session.write("a", value)
    session.write("b", b"small")
    with proxy(node.rpc) as between:
        there = vz.open(url.replace(node.rpc, between.url))
        assert list(there.sessions) == [session.id]
        resumed = there.resume(session.id)
        assert bytes(resumed.read("a")) == value
        resumed.commit("x")
    assert vz.open(url).checkout().read("a") == value


def test_a_repository_made_again_is_another_in_the_same_process(node: Daemon, url: str) -> None:
    first = vz.create(url)
    left = first.session()
    left.write("left", b"1")
    with first.session(message="x") as session:
        session.write("a", b"1")
    node.ipfs("files", "rm", "-r", f"/versioned-zarr/{url.rpartition('/')[2]}")
    second = vz.create(url)
    assert list(second.checkout().mapping) == []
    assert [commit.message for commit in second.log()] == ["Create the repository"]
    assert not second.sessions
    with second.session(message="y") as session:
        session.write("b", b"2")
    assert dict(vz.open(url).checkout().mapping) == {"b": b"2"}


def test_two_of_one_name_on_two_paths_share_no_sessions(url: str) -> None:
    one, other = vz.create(url), vz.create(f"{url}-2")
    session = one.session()
    session.write("a", b"1")
    assert not other.sessions


def test_a_create_that_was_stopped_goes_on_as_the_same(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("versioned_zarr.backends.kubo.kubo_backend.KuboBackend.write_marker", stop)
        with pytest.raises(KeyboardInterrupt):
            vz.create(url)
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(url)
    repository = vz.create(url)
    assert list(repository.branches) == ["main"]
    assert len(list(repository.reflog())) == 1


@pytest.mark.parametrize("onto", ["node", "folder"])
def test_a_clone_that_failed_leaves_nothing_that_opens(
    node: Daemon, url: str, tmp_path: Path, onto: str
) -> None:
    source = vz.create(url)
    value = os.urandom(300_000)
    with source.session(message="x") as session:
        session.write("a", value)
    target = f"{url}-copy" if onto == "node" else str(tmp_path / "copy.vz")
    source._stores.blocks.cache.clear()
    node.ipfs("block", "rm", "--force", to_text(source._stores.hash.raw(value)))
    with pytest.raises(vz.VersionedZarrError):
        vz.clone(url, target)
    with pytest.raises(vz.RepositoryNotFoundError):
        vz.open(target)
    KuboClient(node.rpc).put_block(value)
    copy = vz.clone(url, target)
    assert copy.checkout().read("a") == value
    assert copy.fsck().is_clean
