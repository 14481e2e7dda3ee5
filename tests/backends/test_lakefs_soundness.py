"""What is acknowledged on lakeFS is there, for everyone, whatever answer is lost.

Every request of a story is hit once: its answer is lost after the server acted, or it never comes
to the server. Then a machine that knows nothing reads each commit that was acknowledged.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import versioned_zarr as vz
from tests.servers.fickle import KINDS, at, fickle, nothing
from tests.servers.lakefs import LakefsServer
from tests.servers.proxy import proxy
from tests.torture import SEED, TIMES
from versioned_zarr.backends.lakefs.api.api_errors import AnswerLostError
from versioned_zarr.backends.lakefs.api.client import LakefsClient
from versioned_zarr.repository.repository import Repository

pytestmark = pytest.mark.compat

STRIDE = max(1, 26 // TIMES)


@pytest.fixture
def repository(lakefs: LakefsServer) -> Repository:
    repository = lakefs.create()
    with repository.session(message="one") as session:
        session.write("a/0", b"1")
        session.write("a/9", b"9")
    return repository


@pytest.fixture
def others(lakefs: LakefsServer, repository: Repository) -> LakefsClient:
    return lakefs.client(repository.url.removeprefix("lakefs://"))


def by_way_of(between: str, lakefs: LakefsServer, url: str) -> Repository:
    return vz.open(url, **{**lakefs.options, "endpoint": between})


def elsewhere(
    lakefs: LakefsServer, url: str, monkeypatch: pytest.MonkeyPatch, path: Path
) -> Repository:
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(path / uuid.uuid4().hex))
    return vz.open(url, **lakefs.options)


def story(repository: Repository, source: Repository, acknowledged: list[vz.Commit]) -> None:
    """Writes, a deletion, commits, a branch, a merge, a move back and forth, a tag, pushes."""
    session = repository.session()
    session.write("b/0", b"2")
    session.write("b/1", b"3" * 2000)
    session.delete("a/9")
    acknowledged.append(session.commit("two"))
    repository.branches.create("dev", "main~1")
    with repository.session("dev") as other:
        other.write("c/0", b"4")
        acknowledged.append(other.commit("on dev"))
    acknowledged.append(repository.merge("dev"))
    repository.branches.create("next")
    repository.branches.move("next", "dev")
    repository.tags.create("v1")
    for number in range(2):
        with source.session(message=f"elsewhere {number}") as another:
            another.write(f"d/{number}", b"5" * 3000)
        source.push(repository.url, "main:pushed")
        acknowledged.append(source.branches["main"])


def try_story(
    between: str, lakefs: LakefsServer, url: str, path: Path, acknowledged: list[vz.Commit]
) -> None:
    source = vz.create(path / f"{uuid.uuid4()}.vz")
    with suppress(vz.VersionedZarrError):
        story(by_way_of(between, lakefs, url), source, acknowledged)


def check_everyone_reads(
    fresh: Repository, others: LakefsClient, acknowledged: list[vz.Commit]
) -> None:
    """Each branch holds on lakeFS what its commit says, and each acknowledged commit is reached."""
    reached = set()
    for branch in fresh.branches:
        reached |= {commit.cid for commit in fresh.log(branch)}
        snapshot = fresh.checkout(branch)
        held = {stat.path: others.read(branch, stat.path) for stat in others.list(branch)}
        assert {key: bytes(value) for key, value in snapshot.mapping.items()} == held
    for commit in acknowledged:
        assert commit.cid in reached
        snapshot = fresh.checkout(commit.cid)
        assert snapshot.cid == commit.tree
        assert dict(snapshot.mapping)


@pytest.mark.torture
@pytest.mark.usefixtures("lakefs_by_environment")
@pytest.mark.parametrize("kind", [*KINDS, "a commit between"])
def test_a_story_survives_whatever_becomes_of_an_answer(
    lakefs: LakefsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    number = 1 + SEED % STRIDE
    with fickle(lakefs.endpoint) as between:
        while True:
            repository = lakefs.create()
            with repository.session(message="one") as session:
                session.write("a/0", b"1")
                session.write("a/9", b"9")
            others = lakefs.client(repository.url.removeprefix("lakefs://"))
            theirs: list[str] = []

            def come_between(others: LakefsClient = others, theirs: list[str] = theirs) -> None:
                for branch in ("main", "dev", "next"):
                    with suppress(vz.VersionedZarrError):
                        others.upload(branch, f"theirs/{branch}", b"theirs", {})
                        theirs.append(others.commit(branch, "theirs", {}).id)

            acknowledged: list[vz.Commit] = []
            monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / uuid.uuid4().hex))
            is_theirs = kind == "a commit between"
            between.begin(at(number, kind, come_between if is_theirs else None))
            monkeypatch.setenv("LAKECTL_SERVER_ENDPOINT_URL", between.url)
            try_story(between.url, lakefs, repository.url, tmp_path, acknowledged)
            is_over = between.passed < number
            between.begin(nothing)
            try:
                check_afterwards(lakefs, repository.url, monkeypatch, tmp_path, acknowledged)
                reached = {
                    commit.id for branch, _ in others.branches() for commit in others.log(branch)
                }
                assert reached >= {*theirs}
            except BaseException as error:
                error.add_note(f"request {number}: {between.hit}")
                raise
            if is_over:
                assert len(acknowledged) == 5
                return
            number += STRIDE


def check_afterwards(
    lakefs: LakefsServer,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    acknowledged: list[vz.Commit],
) -> None:
    """A machine that knows nothing reads all, and goes on with what was left."""
    fresh = elsewhere(lakefs, url, monkeypatch, path)
    others = lakefs.client(url.removeprefix("lakefs://"))
    check_everyone_reads(fresh, others, acknowledged)
    for info in fresh.sessions.values():
        with suppress(vz.NothingToCommitError, vz.ConflictError):
            acknowledged.append(fresh.resume(info.id).commit("resumed"))
        fresh.sessions.delete(info.id)
    with fresh.session(message="goes on") as session:
        session.write("z", uuid.uuid4().bytes)
    check_everyone_reads(fresh, others, acknowledged)
    for _ in range(100):  # they are looked for beside the commit
        hidden = [name for name, _ in others.branches("vz-", hidden=True)]
        if not hidden:
            return
        time.sleep(0.05)
    raise AssertionError(f"left: {hidden}")


def lost(command: bytes, path: bytes) -> Callable[[bytes], bool]:
    """The answers to requests of a kind."""
    return lambda request: request.startswith(command) and path in request.split(b"\r\n", 1)[0]


def test_writes_whose_answers_are_lost_are_looked_at(
    lakefs: LakefsServer, repository: Repository, others: LakefsClient,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    is_losing = threading.Event()

    def loses(request: bytes) -> bool:
        return is_losing.is_set() and lost(b"", b"/objects")(request) and request[:3] != b"GET"

    with proxy(lakefs.endpoint, loses_answer=loses) as between:
        there = by_way_of(between.url, lakefs, repository.url)
        session = there.session()
        session.write("b/0", b"good")
        is_losing.set()
        session.write("b/1", b"its answer is lost")
        session.delete("a/9")
        session.clear("nothing")
        is_losing.clear()
        assert sorted(session.keys()) == ["a/0", "b/0", "b/1"]
        commit = session.commit("two")
        assert bytes(there.checkout().read("b/1")) == b"its answer is lost"
    fresh = elsewhere(lakefs, repository.url, monkeypatch, tmp_path)
    check_everyone_reads(fresh, others, [commit])


WORKER = """
import pickle, sys
session = pickle.loads(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))
print("ready", flush=True)
for line in sys.stdin.buffer:
    key, value = line.split()
    try:
        session.write(key.decode(), value)
        print("ok", flush=True)
    except Exception as error:
        print(type(error).__name__, flush=True)
"""


class Worker:
    """Another machine that writes into a session."""

    def __init__(self, session: vz.Session, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pickled = pickle.dumps(session)
        with monkeypatch.context() as patched:
            patched.setenv("VERSIONED_ZARR_HOME", str(home))
            self._process = subprocess.Popen(
                [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        self._say(b"%d\n" % len(pickled) + pickled)

    def _say(self, data: bytes) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()
        return self._process.stdout.readline().decode().strip()

    def write(self, key: str, value: str) -> str:
        return self._say(f"{key} {value}\n".encode())

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


def test_a_workers_write_during_the_commit_is_in_it_or_in_the_session(
    lakefs: LakefsServer, repository: Repository, others: LakefsClient,
    lakefs_by_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    worker: list[Worker] = []
    said: list[str] = []

    def writes_now(request: bytes) -> bool:
        first = request.split(b"\r\n", 1)[0]
        if worker and not said and b"/branches/vz-session" in first and b"/commits" in first:
            said.append(worker[0].write("b/late", "late"))
        return False

    with proxy(lakefs.endpoint, loses_answer=writes_now) as between:
        session = by_way_of(between.url, lakefs, repository.url).session()
        session.write("b/0", b"2")
        shared = vz.open(repository.url, **lakefs.options)._open_sessions.state_of
        worker.append(
            Worker(vz.Session(repository, shared(session.id)), tmp_path / "w", monkeypatch)
        )
        session._working.share()
        commit = session.commit("two")
    assert said == ["ok"]
    worker[0].close()
    fresh = elsewhere(lakefs, repository.url, monkeypatch, tmp_path)
    check_everyone_reads(fresh, others, [commit])
    in_commit = fresh.checkout().get("b/late") is not None
    assert in_commit or bytes(session.read("b/late")) == b"late"


def test_what_somebody_puts_on_a_sessions_branch_is_in_the_tree_that_is_declared(
    lakefs: LakefsServer, repository: Repository, others: LakefsClient,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    session = repository.session()
    session.write("b/0", b"2")
    (branch,) = (name for name, _ in others.branches(hidden=True) if name.startswith("vz-session"))
    others.upload(branch, "b/theirs", b"theirs", {})
    commit = session.commit("two")
    fresh = elsewhere(lakefs, repository.url, monkeypatch, tmp_path)
    check_everyone_reads(fresh, others, [commit])
    assert sorted(fresh.checkout().keys()) == ["a/0", "a/9", "b/0", "b/theirs"]


def test_a_session_whose_branch_somebody_emptied_says_so(
    repository: Repository, others: LakefsClient
) -> None:
    session = repository.session()
    session.write("b/0", b"2")
    (branch,) = (name for name, _ in others.branches(hidden=True) if name.startswith("vz-session"))
    others.delete(branch, "b/0")
    with pytest.raises(vz.StorageError, match=r"'b/0'.*write them again"):
        session.commit("two")
    session.write("b/0", b"2")
    session.commit("two")
    assert bytes(repository.checkout().read("b/0")) == b"2"


def test_no_clock_decides_whether_a_worker_knew(
    lakefs: LakefsServer, repository: Repository, lakefs_by_environment: None,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    session = repository.session()
    session.write("k", b"of the parent")
    first = Worker(session, tmp_path / "one", monkeypatch)
    second = Worker(session, tmp_path / "two", monkeypatch)
    assert first.write("k", "one") == "ok"  # it knows what was there before it came
    session._working.refresh()
    assert second.write("k", "two") == "ok"  # it does not know of the first
    first.close()
    second.close()
    with pytest.raises(vz.ConflictError, match="k"):
        session.commit("x")


@pytest.mark.parametrize("prefix", ["p%2523", "p%23q/x", "p%3Fq", "a%252Fb", "p%20q", "ü/é"])
def test_the_url_of_a_repository_names_its_folder(
    lakefs: LakefsServer, prefix: str, lakefs_by_environment: None
) -> None:
    name = f"t-{uuid.uuid4().hex}"
    repository = vz.create(f"lakefs://{name}/{prefix}", storage_namespace=f"local://{name}")
    with repository.session(message="one") as session:
        session.write("a/0", b"1")
    for again in (vz.open(repository.url), pickle.loads(pickle.dumps(repository))):
        assert again.url == repository.url
        assert list(again.checkout().keys()) == ["a/0"]


def test_a_repository_that_is_gone_is_told_as_such(
    lakefs: LakefsServer, repository: Repository, others: LakefsClient
) -> None:
    session = repository.session()
    session.write("b", b"1")
    others.ask("DELETE", others.within(""), "delete the repository")
    for act in (
        lambda: repository.checkout("main"),
        lambda: list(repository.branches),
        lambda: list(repository.log()),
        repository.session,
        lambda: vz.open(repository.url, **lakefs.options),
    ):
        with pytest.raises(vz.RepositoryNotFoundError):
            act()


def test_bytes_where_a_folder_is_marked_are_named(
    repository: Repository, others: LakefsClient
) -> None:
    others.upload("main", "a/", b"", {})
    others.commit("main", "a marker", {})
    assert sorted(repository.checkout().keys()) == ["a/0", "a/9"]
    others.upload("main", "b/", b"bytes", {})
    others.commit("main", "no marker", {})
    with pytest.raises(vz.InvalidKeyError, match="'b/'"):
        repository.checkout()


def test_a_key_that_lakefs_does_not_take_is_refused_by_name(repository: Repository) -> None:
    with pytest.raises(vz.InvalidKeyError, match="too long for lakeFS"):
        repository.session().write("/".join(["y" * 250] * 5), b"1")


def test_names_are_shared_by_branches_and_tags(repository: Repository) -> None:
    repository.branches.create("both")
    with pytest.raises(vz.AlreadyExistsError, match="a branch and a tag cannot share a name"):
        repository.tags.create("both")


def test_the_default_branch_is_renamed_or_not_renamed(repository: Repository) -> None:
    with pytest.raises(vz.StorageError, match="default branch"):
        repository.branches.rename("main", "trunk")
    assert list(repository.branches) == ["main"]
    repository.branches.create("dev")
    repository.branches.rename("dev", "next")
    assert sorted(repository.branches) == ["main", "next"]


def test_a_commit_whose_answer_is_lost_is_not_taken_for_the_one_after_it(
    repository: Repository,
    lakefs: LakefsServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    colleague = elsewhere(lakefs, repository.url, monkeypatch, tmp_path)
    merge = LakefsClient.merge
    client = repository._stores.refs._client  # type: ignore[attr-defined] # of lakeFS
    theirs: list[vz.Commit] = []

    def merge_and_lose(self: LakefsClient, *arguments: object, **keywords: object) -> str:
        made = merge(self, *arguments, **keywords)  # type: ignore[arg-type]
        if self is client and not theirs:
            session = colleague.session()
            session.write("b", b"theirs")
            theirs.append(session.commit("theirs"))
            raise AnswerLostError("the answer was lost")
        return made

    monkeypatch.setattr(LakefsClient, "merge", merge_and_lose)
    session = repository.session()
    session.write("c", b"ours")
    ours = session.commit("ours")
    assert ours.message == "ours"
    assert ours.cid != theirs[0].cid
    assert [commit.message for commit in repository.log()][:2] == ["theirs", "ours"]
