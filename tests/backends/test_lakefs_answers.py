"""What answers in the place of lakeFS, and what stopped processes leave on the server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("lakefs_sdk")

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer
from tests.servers.scripted import server
from versioned_zarr import process_identity
from versioned_zarr.backends.lakefs.api.client import LakefsClient
from versioned_zarr.backends.lakefs.api.credentials import Connection
from versioned_zarr.backends.lakefs.commits import hidden_branches

PAGE = b"<!doctype html><title>Sign in</title>"
ACTS: dict[str, Callable[[LakefsClient], object]] = {
    "exists": lambda client: client.exists(),
    "create": lambda client: client.create_repository("local://a"),
    "default_namespace": lambda client: client.default_namespace(),
    "head": lambda client: client.head("main"),
    "branches": lambda client: list(client.branches()),
    "create_branch": lambda client: client.create_branch("a", "main"),
    "delete_branch": lambda client: client.delete_branch("a"),
    "hard_reset": lambda client: client.hard_reset("a", "main"),
    "merge_base": lambda client: client.merge_base("a", "main"),
    "is_protected": lambda client: client.is_protected("main"),
    "tag": lambda client: client.tag("v1"),
    "create_tag": lambda client: client.create_tag("v1", "main"),
    "delete_tag": lambda client: client.delete_tag("v1"),
    "resolve": lambda client: client.resolve("main"),
    "log": lambda client: list(client.log("main")),
    "commit": lambda client: client.commit("main", "x", {}),
    "merge": lambda client: client.merge("a", "main", "x", {}),
    "diff": lambda client: list(client.diff("a", "main")),
    "uncommitted": lambda client: list(client.uncommitted("main")),
    "list": lambda client: list(client.list("main")),
    "stat": lambda client: client.stat("main", "a"),
    "upload": lambda client: client.upload("main", "a", b"1", {}),
    "delete": lambda client: client.delete("main", "a"),
    "delete_many": lambda client: client.delete_many("main", ["a"]),
}


def answer(status: bytes, body: bytes) -> bytes:
    head = (
        b"HTTP/1.1 " + status,
        b"content-length: %d" % len(body),
        b"connection: close",
        b"",
        b"",
    )
    return b"\r\n".join(head) + body


@pytest.mark.parametrize("name", ACTS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (b"200 OK", PAGE),
        (b"404 Not Found", PAGE),
        (b"404 Not Found", b"404 page not found\n"),
        (b"409 Conflict", b""),
        (b"500 Internal Server Error", PAGE),
    ],
    ids=["200", "404", "404 as text", "409 with nothing", "500"],
)
def test_what_is_no_answer_of_lakefs_is_told(name: str, status: bytes, body: bytes) -> None:
    with server(*[answer(status, body)] * 20, hangs_up=True) as (url, _):
        client = LakefsClient(Connection(url.removesuffix("/api"), "id", "secret"), "repository")
        with pytest.raises(vz.StorageError, match="answer is not from lakeFS") as caught:
            ACTS[name](client)
    assert not isinstance(caught.value, (KeyError, FileNotFoundError, FileExistsError))
    assert "is a proxy or another server at this address?" in str(caught.value)


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b'{"id": 1', b"\xff", b'"text"'])
@pytest.mark.parametrize("name", ["head", "branches", "resolve", "commit", "merge", "stat"])
def test_json_of_another_form_is_told(name: str, body: bytes) -> None:
    with server(*[answer(b"200 OK", body)] * 20, hangs_up=True) as (url, _):
        client = LakefsClient(Connection(url.removesuffix("/api"), "id", "secret"), "repository")
        with pytest.raises(vz.StorageError, match="answer is not from lakeFS"):
            ACTS[name](client)


def test_a_page_in_the_place_of_an_object_is_not_read_as_one() -> None:
    with server(*[answer(b"404 Not Found", PAGE)] * 3, hangs_up=True) as (url, _):
        client = LakefsClient(Connection(url.removesuffix("/api"), "id", "secret"), "repository")
        with pytest.raises(vz.StorageError, match="answer is not from lakeFS"):
            client.read("main", "a")


@pytest.mark.compat
def test_an_object_that_comes_with_another_length_is_not_hashed(
    lakefs: LakefsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repository = lakefs.create()
    client = lakefs.client(repository.url.removeprefix("lakefs://"))
    client.upload("main", "a", b"what others wrote", {})
    client.commit("main", "theirs", {})
    with monkeypatch.context() as cut:
        cut.setattr(LakefsClient, "read", lambda *_, **__: PAGE)
        with pytest.raises(vz.StorageError, match=r"'a' at .*, which has 17; try again"):
            repository.checkout()
    assert bytes(repository.checkout().read("a")) == b"what others wrote"


@pytest.fixture
def left(lakefs: LakefsServer) -> tuple[vz.Repository, LakefsClient]:
    repository = lakefs.create()
    return repository, lakefs.client(repository.url.removeprefix("lakefs://"))


def of_a_dead_process() -> str:
    code = "from versioned_zarr import process_identity; print(process_identity.current())"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().strip().replace(":", "-")


def until(client: LakefsClient, expected: set[str]) -> set[str]:
    """The hidden branches, once they are those, or after a while."""
    for _ in range(100):
        found = {name for name, _ in client.branches("vz-", hidden=True)}
        if found == expected:
            break
        time.sleep(0.05)
    return found


def commit(lakefs: LakefsServer, url: str) -> None:
    with lakefs.reopen(vz.open(url, **lakefs.options)).session(message="x") as session:
        session.write("b", str(time.time_ns()).encode())


@pytest.mark.compat
def test_a_name_that_was_deleted_just_now_is_told(
    lakefs: LakefsServer, left: tuple[vz.Repository, LakefsClient]
) -> None:
    repository, client = left
    client.ask("DELETE", client.within(""), "delete the repository")
    with pytest.raises(vz.AlreadyExistsError, match="keeps the name for some seconds: try again"):
        vz.create(repository.url, storage_namespace=f"{lakefs.namespace}/again", **lakefs.options)


@pytest.mark.compat
def test_what_killed_processes_left_is_removed(
    lakefs: LakefsServer, left: tuple[vz.Repository, LakefsClient]
) -> None:
    repository, client = left
    old = client.head("main")
    commit(lakefs, repository.url)
    own, now = process_identity.current().replace(":", "-"), hidden_branches._now_h()
    kept = {f"vz-work-00-{now - 99}-{own}", f"vz-work-01-{now}-elsewhere-1-2"}
    digest = hidden_branches._digest("main")
    gone = {
        f"vz-claim-{digest}-{old[:24]}-0",
        f"vz-claim-{'0' * 16}-{old[:24]}-1",
        f"vz-work-02-{now}-{of_a_dead_process()}",
        f"vz-work-03-{now - 99}-elsewhere-1-2",
        f"vz-work-04-{now - 99}",
    }
    for name in kept | gone:
        client.create_branch(name, "main", hidden=True)
    commit(lakefs, repository.url)
    assert until(client, kept) == kept
