"""Merges of branches: lakeFS's own where it comes to the same, and with two parents there."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from pathlib import Path

import pytest
import zarr

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer
from tests.servers.proxy import proxy
from versioned_zarr.backends.lakefs.api.api_errors import RefusedError
from versioned_zarr.backends.lakefs.api.client import LakefsClient
from versioned_zarr.errors import ConflictError
from versioned_zarr.repository.repository import Repository

pytestmark = pytest.mark.compat


@pytest.fixture
def repository(lakefs: LakefsServer) -> Repository:
    return lakefs.create()


@pytest.fixture
def others(lakefs: LakefsServer, repository: Repository) -> LakefsClient:
    return lakefs.client(repository.url.removeprefix("lakefs://"))


def part_ways(repository: Repository) -> None:
    """Let main and dev change, add and remove keys, none of them both."""
    with repository.session(message="begin") as session:
        session.mapping.update({f"a/{number}": b"old" for number in range(60)})
    repository.branches.create("dev", "main")
    with repository.session("dev", message="on dev") as session:
        session.mapping.update({f"a/{number}": b"of dev" for number in range(45)})
        session.mapping["b/new"] = b"new"
        del session.mapping["a/59"]
    with repository.session("main", message="on main") as session:
        session.mapping["a/50"] = b"of main"
        session.mapping["c"] = b"main's own"


def parents(others: LakefsClient, branch: str) -> tuple[str, ...]:
    return others.resolve(others.head(branch)).parents


def test_is_one_of_lakefs_where_no_key_was_changed_by_both(
    lakefs: LakefsServer, repository: Repository, others: LakefsClient
) -> None:
    part_ways(repository)
    memory = vz.create(f"memory://{uuid.uuid4()}")
    part_ways(memory)
    sides = others.head("main"), others.head("dev")
    before = repository.branches["main"].cid, repository.branches["dev"].cid
    with proxy(lakefs.endpoint) as between:
        there = vz.open(repository.url, **{**lakefs.options, "endpoint": between.url})
        made = there.merge("dev", "main", message="both", author="A <a@b>", metadata={"n": 1})
        assert len(between.requests) < 30, between.requests
    assert parents(others, "main") == sides
    assert made.parents == before
    assert (made.message, made.author, made.metadata) == ("both", "A <a@b>", {"n": 1})
    assert made.tree == memory.merge("dev", "main").tree
    assert repository.checkout("main").cid == memory.checkout("main").cid
    assert repository.branches["main"].cid == made.cid


def test_is_known_to_lakefs_and_read_the_same_elsewhere(
    lakefs: LakefsServer,
    repository: Repository,
    others: LakefsClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part_ways(repository)
    made = repository.merge("dev", "main")
    others.upload("dev", "b/later", b"later", {})
    others.commit("dev", "theirs", {})
    others.merge("dev", "main", "by lakectl", {})
    before, _ = parents(others, "main")
    assert [each.path for each in others.diff(before, "main")] == ["b/later"]
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
    there = vz.open(repository.url, verify="always", **lakefs.options)
    log = {commit.cid: commit for commit in there.log("main")}
    assert log[made.cid] == made
    assert there.checkout(made.cid).cid == repository.checkout(made.cid).cid
    assert dict(there.checkout(made.cid).mapping)["a/0"] == b"of dev"


def test_is_made_here_where_both_changed_a_key(
    repository: Repository, others: LakefsClient
) -> None:
    with repository.session(message="begin") as session:
        zarr.create_group(session.store, attributes={"title": "old", "history": "old"})
    repository.branches.create("dev", "main")
    for branch, name in (("dev", "title"), ("main", "history")):
        with repository.session(branch, message=branch) as session:
            zarr.open_group(session.store).attrs[name] = f"of {branch}"
    repository.merge("dev", "main")
    found = dict(zarr.open_group(repository.checkout("main").store, mode="r").attrs)
    assert found == {"title": "of dev", "history": "of main"}
    assert len(parents(others, "main")) == 1
    assert len(repository.branches["main"].parents) == 2


def test_conflicts_are_told_and_settled_as_everywhere(repository: Repository) -> None:
    part_ways(repository)
    with repository.session("main", message="too") as session:
        session.mapping["a/0"] = b"of main, too"
    before = repository.branches["main"].cid
    with pytest.raises(ConflictError, match="a/0"):
        repository.merge("dev", "main")
    assert repository.branches["main"].cid == before
    repository.merge("dev", "main", resolve="theirs")
    assert repository.checkout("main").mapping["a/0"] == b"of dev"
    assert repository.checkout("main").mapping["a/50"] == b"of main"


def test_of_a_folder_brings_nothing_from_outside(lakefs: LakefsServer) -> None:
    inside = lakefs.create("in/side")
    others = lakefs.client(inside.url.removeprefix("lakefs://").partition("/")[0])
    part_ways(inside)
    others.upload("dev", "outside", b"1", {})
    others.commit("dev", "theirs", {})
    inside.merge("dev", "main")
    assert inside.checkout("main").mapping["a/0"] == b"of dev"
    assert others.stat("main", "outside") is None


def test_leaves_no_branches_behind(repository: Repository, others: LakefsClient) -> None:
    part_ways(repository)
    repository.merge("dev", "main")
    assert {name for name, _ in others.branches(hidden=True)} == {"dev", "main"}


def ahead(repository: Repository) -> None:
    """Let dev have a commit that comes after main's."""
    repository.branches.create("dev", "main")
    with repository.session("dev", message="on dev") as session:
        session.mapping["a"] = b"of dev"


def test_goes_forward_on_a_branch_that_is_free(
    repository: Repository, others: LakefsClient
) -> None:
    ahead(repository)
    before = others.head("main")
    assert repository.merge("dev") == repository.branches["dev"]
    assert repository.branches["main"] == repository.branches["dev"]
    assert parents(others, "main") == (before, others.head("dev"))  # what the server compared


def test_hooks_are_asked_where_it_could_go_forward(
    repository: Repository, others: LakefsClient
) -> None:
    hook = (
        b"name: gate\non:\n  pre-merge:\n    branches: [main]\nhooks:\n"
        b"  - id: no\n    type: lua\n    properties:\n      script: |\n        "
    )
    others.upload("main", "_lakefs_actions/gate.yaml", hook + b"error('units are missing')\n", {})
    others.commit("main", "a hook", {})
    ahead(repository)
    before = others.head("main")
    with pytest.raises(vz.StorageError, match="units are missing"):
        repository.merge("dev")
    assert others.head("main") == before
    others.upload("dev", "_lakefs_actions/gate.yaml", hook + b"print('well')\n", {})
    others.commit("dev", "a hook that agrees", {})
    made = repository.merge("dev")
    assert parents(others, "main") == (before, others.head("dev"))
    assert made.message == "Merge 'dev' into 'main'"
    assert repository.checkout("main").cid == repository.checkout("dev").cid


def protect(others: LakefsClient, pattern: str, branch: str) -> None:
    """Have the server protect branches, and wait until it does: it looks at its rules at times."""
    path = others.within("/settings/branch_protection")
    others.ask("PUT", path, "protect branches", document=[{"pattern": pattern}])
    deadline = time.monotonic() + 30
    with suppress(RefusedError):
        while time.monotonic() < deadline:
            others.hard_reset(branch, others.head(branch))


def test_a_protected_branch_takes_merges_and_nothing_else(
    repository: Repository, others: LakefsClient
) -> None:
    ahead(repository)
    before = others.head("main")
    protect(others, "ma*", "main")
    repository.merge("dev")
    assert parents(others, "main") == (before, others.head("dev"))
    assert repository.checkout("main").cid == repository.checkout("dev").cid
    with repository.session(message="goes in by a merge") as session:
        session.mapping["b"] = b"1"
    with pytest.raises(RefusedError, match="protected branch"):
        repository.branches.move("main", "main~1")
    assert dict(repository.checkout("main").mapping) == {"a": b"of dev", "b": b"1"}
