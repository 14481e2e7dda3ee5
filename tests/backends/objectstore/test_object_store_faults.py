"""What is acknowledged on an object store is there, for everyone, whatever answer is lost.

Every request of a story is hit once: it never comes to the store, or is refused, repeated, or its
answer is lost or cut. Then a machine that knows nothing reads each commit that was acknowledged.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import versioned_zarr as vz
from tests.backends.test_lakefs_concurrency import check_a_storm, check_the_accounts
from tests.servers.fickle import OF_OBJECTS, Fickle, at, nothing, now_and_then
from tests.servers.versity import S3Server
from tests.torture import SEED, TIMES
from versioned_zarr.repository.repository import Repository

pytest.importorskip("obstore")

pytestmark = pytest.mark.compat

STRIDE = max(1, 13 // TIMES)
SHORT_STRIDE = max(1, 4 // TIMES)
SLOW = 1 if TIMES > 1 else 3
"""How much rarer what takes time is tried."""
LOSSES = ("lost before", "lost after", "500 after", "503 before", "repeated")
ONE_IN = 12
STORM = {"machines": 4, "commits": 8} if TIMES == 1 else {"machines": 8, "commits": 50}
BANK = {"machines": 3, "transfers": 5} if TIMES == 1 else {"machines": 6, "transfers": 15}
RETRIES = {
    "max_retries": 2,
    "backoff": {
        "init_backoff": timedelta(milliseconds=1),
        "max_backoff": timedelta(milliseconds=2),
        "base": 2,
    },
}


def options(server: S3Server, endpoint: str | None = None) -> dict[str, Any]:
    return {
        "storage_options": {
            "endpoint": endpoint or server.endpoint,
            "access_key_id": server.access_key_id,
            "secret_access_key": server.secret_access_key,
            "region": "us-east-1",
            "client_options": {"allow_http": True, "timeout": "1s"},
            "retry_config": RETRIES,
        }
    }


def new_url() -> str:
    return f"s3://bucket/{uuid.uuid4()}"


@contextmanager
def told(acknowledged: list[str]) -> Iterator[None]:
    """Let nothing but the errors of this package be raised, and note them."""
    try:
        yield
    except vz.VersionedZarrError as error:
        acknowledged.append(f"failed: {type(error).__name__}: {error}")


def story(repository: Repository, source: Repository, acknowledged: list[str]) -> None:
    """Commits, a branch, a merge, moves, a tag, a name that changes, pushes, and gc."""
    session = repository.session()
    session.write("b/0", b"2")
    session.write("b/1", b"3" * 2000)
    session.write("big", bytes(300 << 10))
    session.delete("a/9")
    acknowledged.append(session.commit("two").cid)
    repository.branches.create("dev", "main~1")
    with repository.session("dev") as other:
        other.write("c/0", b"4")
        acknowledged.append(other.commit("on dev").cid)
    acknowledged.append(repository.merge("dev").cid)
    repository.branches.create("next")
    repository.branches.move("next", "dev")
    repository.branches.rename("next", "later/on")
    repository.branches.delete("later/on")
    repository.tags.create("v1")
    assert list(repository.reflog("main"))
    with source.session(message="elsewhere") as another:
        another.write("d", b"5" * 3000)
    source.push(repository.url, "main:pushed")
    acknowledged.append(source.branches["main"].cid)
    assert bytes(repository.checkout("pushed").read("d")) == b"5" * 3000
    if TIMES > 1:  # as many requests again
        repository.branches.create("waste")
        with repository.session("waste", message="to be collected") as another:
            another.write("waste", uuid.uuid4().bytes * 1000)
        repository.branches.delete("waste")
        repository.gc(keep_reflog=timedelta(0))


def check_everyone_reads(fresh: Repository, acknowledged: list[str]) -> None:
    """Each acknowledged commit is reached, once, and all of its values can be read."""
    reached = set()
    for branch in fresh.branches:
        log = [commit.cid for commit in fresh.log(branch)]
        assert len(log) == len(set(log))
        reached |= set(log)
    for cid in acknowledged:
        if not cid.startswith("failed"):
            assert cid in reached
            assert dict(fresh.checkout(cid).mapping)
    messages = [commit.message for commit in fresh.log("main")]
    assert messages.count("two") <= 1
    assert messages.count("resumed") <= 1


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """From now on, this is a machine that knows nothing."""
    return lambda: monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / uuid.uuid4().hex))


@pytest.fixture
def environs(
    environment: Callable[[str], None], between: Fickle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `push` finds leads through the proxy."""
    environment(between.url)


@pytest.mark.torture
@pytest.mark.usefixtures("environs")
@pytest.mark.parametrize("kind", OF_OBJECTS)
def test_a_story_survives_whatever_becomes_of_an_answer(
    server: S3Server, between: Fickle, elsewhere: Callable[[], None], tmp_path: Path, kind: str
) -> None:
    stride = STRIDE * (SLOW if kind == "late" else 1)
    number = 1 + SEED % stride
    while True:
        url, acknowledged = new_url(), list[str]()
        between.begin(nothing)
        repository = vz.create(url, **options(server))
        with repository.session(message="one") as session:
            session.write("a/0", b"1")
            session.write("a/9", b"9")
        source = vz.create(tmp_path / f"{uuid.uuid4()}.vz")
        elsewhere()
        between.begin(at(number, kind))
        try:
            with told(acknowledged):
                story(vz.open(url, **options(server, between.url)), source, acknowledged)
            is_over = between.passed < number
            between.begin(nothing)
            check_afterwards(server, url, elsewhere, acknowledged)
        except BaseException as error:
            error.add_note(f"request {number}: {between.hit}: {acknowledged}")
            raise
        if is_over:
            assert len(acknowledged) == 4
            return
        number += stride


def check_afterwards(
    server: S3Server, url: str, elsewhere: Callable[[], None], acknowledged: list[str]
) -> None:
    """Sessions that were left go on here, and a machine that knows nothing reads all."""
    here = vz.open(url, **options(server))
    for info in here.sessions.values():
        session = here.resume(info.id)
        with suppress(vz.NothingToCommitError, vz.ConflictError):
            acknowledged.append(session.commit("resumed").cid)
        here.sessions.delete(info.id)
    elsewhere()
    fresh = vz.open(url, **options(server))
    check_everyone_reads(fresh, acknowledged)
    with fresh.session(message="goes on") as session:
        session.write("z", uuid.uuid4().bytes)
    assert fresh.fsck().is_clean


@pytest.mark.usefixtures("environs")
@pytest.mark.parametrize("kind", OF_OBJECTS)
def test_creating_and_cloning_survive_whatever_becomes_of_an_answer(
    server: S3Server, between: Fickle, elsewhere: Callable[[], None], tmp_path: Path, kind: str
) -> None:
    source = vz.create(tmp_path / "source.vz")
    with source.session(message="one") as session:
        session.write("a", b"1" * 3000)
    makes: list[Callable[[str], object]] = [
        lambda url: vz.create(url, **options(server, between.url)),
        lambda url: vz.clone(source.url, url),
    ]
    stride = SHORT_STRIDE * (SLOW if kind == "late" else 1)
    for make in makes:
        number = 1 + SEED % stride
        while True:
            url, said = new_url(), list[str]()
            elsewhere()
            between.begin(at(number, kind))
            try:
                with told(said):
                    make(url)
                is_over = between.passed < number
                between.begin(nothing)
                if said:  # it can be opened, or made again
                    try:
                        vz.open(url, **options(server))
                    except vz.RepositoryNotFoundError:
                        make(url)
                elsewhere()
                fresh = vz.open(url, **options(server))
                assert list(fresh.branches) == ["main"]
                assert len(list(fresh.log())) in {1, 2}
                assert fresh.fsck().is_clean
                with fresh.session(message="goes on") as session:
                    session.write("z", b"z")
            except BaseException as error:
                error.add_note(f"request {number}: {between.hit}: {said}")
                raise
            if is_over:
                break
            number += stride


@pytest.mark.usefixtures("environs")
@pytest.mark.parametrize("kind", OF_OBJECTS)
def test_a_clone_into_a_folder_survives_whatever_becomes_of_an_answer(
    server: S3Server, between: Fickle, elsewhere: Callable[[], None], tmp_path: Path, kind: str
) -> None:
    url = new_url()
    between.begin(nothing)
    repository = vz.create(url, **options(server))
    values = {f"a/{n}": bytes([n]) * 5000 for n in range(4)}
    with repository.session(message="one") as session:
        for key, value in values.items():
            session.write(key, value)
    stride = SHORT_STRIDE * (SLOW if kind == "late" else 1)
    number = 1 + SEED % stride
    while True:
        said: list[str] = []
        elsewhere()
        between.begin(at(number, kind))
        with told(said):
            there = vz.clone(url, tmp_path / f"{kind}{number}")
            assert dict(there.checkout().mapping) == values
        if between.passed < number:
            assert not said
            return
        number += stride


@pytest.mark.torture
@pytest.mark.parametrize("way", ["direct", "lossy"])
def test_no_acknowledged_commit_is_lost_in_a_storm(
    server: S3Server, between: Fickle, environment: Callable[[str], None], tmp_path: Path, way: str
) -> None:
    between.begin(nothing if way == "direct" else now_and_then(LOSSES, ONE_IN, SEED))
    environment(server.endpoint if way == "direct" else between.url)
    check_a_storm(vz.create(new_url()), tmp_path, **STORM)


@pytest.mark.torture
@pytest.mark.parametrize("way", ["direct", "lossy"])
def test_the_sum_of_all_accounts_never_changes(
    server: S3Server, between: Fickle, environment: Callable[[str], None], tmp_path: Path, way: str
) -> None:
    between.begin(nothing if way == "direct" else now_and_then(LOSSES, ONE_IN, SEED))
    environment(server.endpoint if way == "direct" else between.url)
    check_the_accounts(vz.create(new_url()), tmp_path, **BANK)
