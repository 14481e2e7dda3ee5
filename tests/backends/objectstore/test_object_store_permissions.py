"""The policy in docs/guides/object-stores.md suffices, and each part of it is needed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.servers.versity import S3Server, add_user, put_policy, s3_server

pytest.importorskip("obstore")

pytestmark = pytest.mark.compat

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "object-stores.md"
URL = "s3://bucket/climate"
PARTS = {
    "finder": {"Find"},
    "blind": {"Read"},
    "reader": {"Find", "Read"},
    "writer": {"Find", "Read", "Write"},
    "keeper": {"Find", "Read", "Write", "Delete"},
}
"""What each user has of the policy."""


def policy() -> dict[str, Any]:
    """The policy of the guide, with the users that have each part."""
    found = re.search(r"^```json policy\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None
    document: dict[str, Any] = json.loads(found[1])
    for statement in document["Statement"]:
        users = [user for user, parts in PARTS.items() if statement["Sid"] in parts]
        statement["Principal"] = {"AWS": users}
    return document


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def users(server: S3Server) -> dict[str, dict[str, Any]]:
    """The options of each user."""
    found = {name: {"storage_options": add_user(server, name).storage_options} for name in PARTS}
    put_policy(server, policy())
    return found


@pytest.fixture
def as_user(
    users: dict[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], vz.Repository]:
    """Opens the repository as a user, on a machine of their own."""

    def open_as(name: str) -> vz.Repository:
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / name))
        return vz.open(URL, **users[name])

    return open_as


def test_each_role_does_its_own_and_nothing_else(
    users: dict[str, dict[str, Any]], as_user: Callable[[str], vz.Repository]
) -> None:
    vz.create(URL, **users["writer"])
    repository = as_user("writer")
    repository.branches.create("dev")
    for branch in ("main", "dev"):
        for number in range(20):  # with a hint
            with repository.session(branch, message=f"{number}") as session:
                session.write(f"{branch}/c/{number}", bytes([number]) * 3000)
    repository.branches.create("waste")
    with repository.session("waste", message="to be collected") as session:
        session.write("waste", bytes(range(256)) * 100)
    repository.branches.delete("waste")
    repository.merge("dev")
    repository.branches.delete("dev")
    repository.tags.create("v1")
    assert repository.fsck().is_clean

    reader = as_user("reader")
    assert reader.checkout("v1").read("dev/c/7") == bytes([7]) * 3000
    assert len(list(reader.log())) == 42
    with pytest.raises(vz.ReadOnlyError, match=r"denies access .* 403 Forbidden; check the cred"):
        reader.branches.create("no")
    session = reader.session()
    session.write("a", b"1")
    with pytest.raises(vz.ReadOnlyError, match="denies access"):
        session.commit("no")

    with pytest.raises(vz.ReadOnlyError):
        as_user("writer").gc(keep_reflog=timedelta(0))
    with as_user("writer").session(message="after a gc that was refused") as session:
        session.write("main/c/0", b"1")
    keeper = as_user("keeper")
    assert keeper.gc(keep_reflog=timedelta(0)).removed_blocks > 0
    keeper.repack()
    assert as_user("reader").checkout("v1").read("main/c/3") == bytes([3]) * 3000
    assert as_user("writer").fsck().is_clean


def test_a_reader_needs_both_parts(
    users: dict[str, dict[str, Any]], as_user: Callable[[str], vz.Repository]
) -> None:
    with pytest.raises(vz.ReadOnlyError, match="denies access"):
        as_user("finder")
    with pytest.raises(vz.ReadOnlyError, match="denies access"):
        list(as_user("blind").branches)


def test_other_prefixes_stay_closed(users: dict[str, dict[str, Any]]) -> None:
    for url in ("s3://bucket/other", "s3://bucket/climate2", "s3://bucket"):
        with pytest.raises(vz.ReadOnlyError, match="denies access"):
            vz.open(url, **users["keeper"])
        with pytest.raises(vz.ReadOnlyError, match="denies access"):
            vz.create(url, **users["keeper"])
