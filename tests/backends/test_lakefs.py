"""What is special about a repository on lakeFS: others work in it too, and their words count."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import pickle
import platform
import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import versioned_zarr as vz
from tests.servers.lakefs import LakefsServer, make_server, on_s3
from tests.servers.proxy import proxy
from tests.servers.versity import s3_server
from versioned_zarr.backends.lakefs import lakefs_names
from versioned_zarr.backends.lakefs.api.api_errors import PreconditionFailedError, RefusedError
from versioned_zarr.backends.lakefs.api.client import LakefsClient
from versioned_zarr.backends.lakefs.api.credentials import Connection, connection
from versioned_zarr.backends.lakefs.commits import hidden_branches
from versioned_zarr.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidInputError,
    InvalidRefError,
    NothingToCommitError,
    RepositoryNotFoundError,
    StorageError,
)
from versioned_zarr.history.ref_names import check_ref_name
from versioned_zarr.repository.repository import Repository

pytestmark = pytest.mark.compat


@pytest.fixture
def repository(lakefs: LakefsServer) -> Repository:
    return lakefs.create()


@pytest.fixture
def others(lakefs: LakefsServer, repository: Repository) -> LakefsClient:
    """How lakectl, Spark or a colleague work in the same repository."""
    return lakefs.client(repository.url.removeprefix("lakefs://"))


def elsewhere(
    lakefs: LakefsServer, repository: Repository, monkeypatch: pytest.MonkeyPatch, path: Path
) -> Repository:
    """The repository as a machine opens it that knows nothing of it."""
    monkeypatch.setenv("VERSIONED_ZARR_HOME", str(path / uuid.uuid4().hex))
    return vz.open(f"{repository.url}", cache_bytes=0, **lakefs.options)


class TestNames:
    @given(st.text(alphabet="ab-_x2/.é", min_size=1, max_size=8))
    def test_a_branch_and_a_tag_have_one_name_there_and_come_back(self, name: str) -> None:
        try:
            check_ref_name(name)
        except InvalidRefError:
            return
        assert lakefs_names.from_branch(lakefs_names.to_branch(name)) == name
        assert lakefs_names.from_tag(lakefs_names.to_tag(name)) == name
        assert set(lakefs_names.to_branch(name)) <= set(
            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
        )

    def test_no_two_names_come_to_the_same_branch(self) -> None:
        texts = map("".join, itertools.product("x-/2f", repeat=4))
        found: dict[str, str] = {}
        for text in texts:
            try:
                check_ref_name(text)
            except InvalidRefError:
                continue
            assert found.setdefault(lakefs_names.to_branch(text), text) == text
        assert len(found) > 100

    def test_a_branch_of_lakefs_keeps_its_name(self) -> None:
        for name in ("main", "dev-2", "a--b", "under_score", "x--zz"):
            assert lakefs_names.from_branch(name) == name
            assert lakefs_names.to_branch(name) == name


class TestTheHash:
    def test_is_that_of_every_other_backend(self, repository: Repository) -> None:
        memory = vz.create(f"memory://{uuid.uuid4()}")
        values = {"a/b": b"1", "a/c": b"", "large": bytes(3_000_000), "é/x": b"y" * 70_000}
        for each in (repository, memory):
            with each.session(message="same") as session:
                session.mapping.update(values)
        assert repository.checkout().cid == memory.checkout().cid

    def test_is_found_out_of_what_others_wrote(
        self, repository: Repository, others: LakefsClient
    ) -> None:
        values = {f"data/{number}": bytes([number]) * 1000 for number in range(50)}
        values["large"] = b"ab" * 900_000
        for path, data in values.items():
            others.upload("main", path, data, {})
        made = others.commit("main", "by hand", {"ticket": "17"})
        memory = vz.create(f"memory://{uuid.uuid4()}")
        with memory.session(message="same") as session:
            session.mapping.update(values)
        snapshot = repository.checkout()
        assert snapshot.cid == memory.checkout().cid
        assert {key: bytes(value) for key, value in snapshot.mapping.items()} == values
        commit = snapshot.commit
        assert commit is not None
        assert (commit.message, commit.metadata) == ("by hand", {"ticket": "17"})
        assert lakefs_names.to_id(vz.ipld.cid.from_text(commit.cid)) == made.id
        assert repository.checkout(made.id).cid == snapshot.cid
        assert repository.checkout(made.id[:12]).cid == snapshot.cid

    def test_hashing_tells_how_far_it_is_and_is_done_once(
        self, lakefs: LakefsServer, repository: Repository, others: LakefsClient
    ) -> None:
        with repository.session(message="ours") as session:
            session.mapping["ours"] = b"o" * 50
        for number in range(30):
            others.upload("main", f"theirs/{number}", bytes([number]) * 100, {})
        others.commit("main", "theirs", {})
        told: list[vz.Progress] = []
        options = {**lakefs.options, "progress": told.append}
        there = vz.open(repository.url, **options)
        snapshot = there.checkout()
        assert [(each.done, each.total) for each in told] == [
            (100 * done, 3000) for done in range(31)
        ]
        assert pickle.loads(pickle.dumps(there)).checkout().cid == snapshot.cid
        told.clear()
        assert vz.open(repository.url, **options).checkout().cid == snapshot.cid
        assert told == []

    def test_finds_its_commit_on_a_machine_that_knows_nothing(
        self,
        repository: Repository,
        lakefs: LakefsServer,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        cids = []
        for number in range(3):
            with repository.session(message=str(number)) as session:
                session.mapping["a"] = bytes([number]) * 10
                session.mapping["large"] = bytes([number]) * 2_500_000
            cids.append(repository.checkout().cid)
        commits = [commit.cid for commit in repository.log()]
        fresh = elsewhere(lakefs, repository, monkeypatch, tmp_path)
        for number, cid in enumerate(cids):
            snapshot = fresh.checkout(cid)
            assert bytes(snapshot.mapping["a"]) == bytes([number]) * 10
            assert bytes(snapshot.read("large", 1_500_000, 1_500_003)) == bytes([number]) * 3
        again = elsewhere(lakefs, repository, monkeypatch, tmp_path)
        assert [commit.cid for commit in again.log()] == commits
        assert again.checkout(commits[1]).cid == cids[1]

    def test_what_metadata_say_of_other_bytes_does_not_count(
        self,
        repository: Repository,
        others: LakefsClient,
        lakefs: LakefsServer,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        with repository.session(message="right") as session:
            session.mapping["a"] = b"right"
        stat = others.stat("main", "a")
        assert stat is not None
        others.upload("main", "a", b"wrong", stat.metadata)
        others.commit("main", "a lie", {})
        fresh = elsewhere(lakefs, repository, monkeypatch, tmp_path)
        for there in (fresh, repository):
            assert bytes(there.checkout().mapping["a"]) == b"wrong"
            assert [change.key for change in there.diff("main~1", "main")] == ["a"]


class TestBesideOthers:
    def test_a_commit_of_ours_reads_as_any_in_lakefs(
        self, repository: Repository, others: LakefsClient
    ) -> None:
        with repository.session(message="first\n\nmore") as session:
            zarr.create_array(session.store, shape=(4,), chunks=(2,), dtype="i4")[:] = 1
        found = others.resolve("main")
        assert found.message == "first\n\nmore"
        assert found.metadata["vz-tree"] == repository.checkout().cid
        paths = [stat.path for stat in others.list("main")]
        assert paths == sorted(repository.checkout().keys())
        assert list(others.branches(hidden=True)) == [("main", found.id)]

    def test_commits_of_both_make_one_history(
        self, repository: Repository, others: LakefsClient
    ) -> None:
        with repository.session(message="ours") as session:
            session.mapping["a"] = b"1"
        others.upload("main", "b", b"2", {})
        others.commit("main", "theirs", {})
        with repository.session(message="ours again") as session:
            session.mapping["c"] = b"3"
        messages = [commit.message for commit in repository.log()]
        assert messages == ["ours again", "theirs", "ours", "Repository created"]
        assert [commit.message for commit in repository.log(path="b")] == ["theirs"]
        changed = [change.key for change in repository.diff("main~2", "main").keys]
        assert changed == ["b", "c"]

    def test_a_commit_of_theirs_that_came_in_between_is_merged(
        self, repository: Repository, others: LakefsClient
    ) -> None:
        session = repository.session()
        session.mapping["a"] = b"1"
        others.upload("main", "b", b"2", {})
        others.commit("main", "theirs", {})
        session.commit("ours")
        assert dict(repository.checkout().mapping) == {"a": b"1", "b": b"2"}
        session.mapping["b"] = b"3"
        others.upload("main", "b", b"4", {})
        others.commit("main", "theirs again", {})
        with pytest.raises(ConflictError) as caught:
            session.commit("ours again")
        assert [conflict.path for conflict in caught.value.conflicts] == ["b"]
        assert bytes(session.mapping["b"]) == b"3"

    def test_a_dirty_target_is_said_in_the_servers_words(
        self, repository: Repository, others: LakefsClient
    ) -> None:
        others.upload("main", "unsaved", b"1", {})
        session = repository.session()
        session.mapping["a"] = b"1"
        with pytest.raises(StorageError, match="uncommitted changes"):
            session.commit("refused")
        others.delete("main", "unsaved")
        assert session.commit("taken").message == "taken"

    def test_a_failing_hook_keeps_the_branch_as_it_is(
        self, repository: Repository, others: LakefsClient
    ) -> None:
        hook = (
            b"name: gate\non:\n  pre-merge:\n    branches: [main]\nhooks:\n"
            b"  - id: no\n    type: lua\n    properties:\n"
            b"      script: |\n        error('units are missing')\n"
        )
        others.upload("main", "_lakefs_actions/gate.yaml", hook, {})
        others.commit("main", "a hook", {})
        before = others.head("main")
        session = repository.session()
        session.mapping["a"] = b"1"
        with pytest.raises(RefusedError, match="units are missing"):
            session.commit("refused")
        assert others.head("main") == before
        assert bytes(session.mapping["a"]) == b"1"

    def test_an_existing_repository_is_adopted_at_a_prefix(
        self, repository: Repository, others: LakefsClient, lakefs: LakefsServer
    ) -> None:
        others.upload("main", "data/old", b"1", {})
        others.commit("main", "old", {})
        with pytest.raises(AlreadyExistsError, match="data/old"):
            vz.create(f"{repository.url}/data", **lakefs.options)
        new = vz.create(f"{repository.url}/new", **lakefs.options)
        with new.session(message="new") as session:
            session.mapping["a"] = b"2"
        old = vz.open(f"{repository.url}/data", **lakefs.options)
        assert dict(old.checkout().mapping) == {"old": b"1"}
        assert dict(new.checkout().mapping) == {"a": b"2"}
        assert [stat.path for stat in others.list("main")] == ["data/old", "new/a"]


def write_in_child(session: bytes, key: str, value: bytes) -> None:
    pickle.loads(session).write(key, value)


class TestSharedSessions:
    def test_workers_write_into_one_commit(self, lakefs: LakefsServer) -> None:
        repository = lakefs.create()
        session = repository.session()
        session.mapping["a"] = b"0"
        handed = pickle.dumps(session)
        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=write_in_child, args=(handed, f"w/{number}", bytes([number])))
            for number in range(3)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        session.commit("all of it")
        assert dict(repository.checkout().mapping) == {
            "a": b"0",
            **{f"w/{number}": bytes([number]) for number in range(3)},
        }

    def test_two_that_wrote_one_key_unaware_are_told(self, lakefs: LakefsServer) -> None:
        repository = lakefs.create()
        session = repository.session()
        handed = pickle.dumps(session)
        context = multiprocessing.get_context("spawn")
        workers = []
        for value in (b"1", b"22"):
            worker = context.Process(target=write_in_child, args=(handed, "c/0", value))
            worker.start()
            worker.join(60)
            assert worker.exitcode == 0
            workers.append(f"process {worker.pid} on {platform.node()}")
        with pytest.raises(ConflictError, match="written twice") as caught:
            session.commit("which?")
        (conflict,) = caught.value.conflicts
        assert [write.writer for write in conflict.writes] == workers
        assert [write.size for write in conflict.writes] == [1, 2]

    def test_a_session_goes_on_from_another_machine(
        self,
        repository: Repository,
        lakefs: LakefsServer,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        session = repository.session(purpose="import")
        session.mapping["a"] = b"1"
        session.mapping["large"] = bytes(2_000_000)
        fresh = elsewhere(lakefs, repository, monkeypatch, tmp_path)
        (info,) = fresh.sessions.values()
        assert (info.id, info.purpose, info.keys) == (session.id, "import", 2)
        resumed = fresh.resume(info.id)
        resumed.mapping["b"] = b"2"
        resumed.commit("from elsewhere")
        assert sorted(fresh.checkout().keys()) == ["a", "b", "large"]


class TestCrashes:
    @pytest.fixture
    def server(self, tmp_path: Path) -> Iterator[LakefsServer]:
        folder = tmp_path / "server"
        folder.mkdir()
        server = make_server(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()

    def test_a_session_outlives_the_server(self, server: LakefsServer) -> None:
        repository = server.create()
        session = repository.session()
        for number in range(20):
            session.mapping[f"a/{number}"] = bytes([number])
        server.kill()
        with pytest.raises(StorageError, match="does not answer"):
            session.mapping["b"] = b"1"
        with pytest.raises(StorageError, match="does not answer"):
            session.commit("while it is down")
        server.start()
        assert [info.keys for info in repository.sessions.values()] == [20]
        session.mapping["b"] = b"1"
        session.commit("after all")
        assert len(repository.checkout().mapping) == 21

    @pytest.mark.parametrize("delay_s", [0, 0.01])
    def test_a_server_killed_in_a_commit_leaves_all_or_nothing(
        self, server: LakefsServer, monkeypatch: pytest.MonkeyPatch, delay_s: float
    ) -> None:
        monkeypatch.setattr(hidden_branches, "LEASE_S", 0.5)
        repository = server.create()
        before = repository.branches["main"].cid

        def kills(request: bytes) -> bool:
            if b"/merge/main" in request.split(b"\r\n", 1)[0]:
                threading.Timer(delay_s, server.kill).start()
            return False

        with proxy(server.endpoint, loses_answer=kills) as between:
            there = vz.open(repository.url, **{**server.options, "endpoint": between.url})
            session = there.session()
            for number in range(10):
                session.mapping[f"a/{number}"] = bytes([number])
            with contextlib.suppress(StorageError):
                session.commit("while it dies")
        while server.process is not None:
            time.sleep(0.01)
        server.start()
        log = [commit.message for commit in repository.log()]
        assert len(log) in (1, 2)
        if len(log) == 1:
            assert repository.branches["main"].cid == before
            assert list(repository.checkout().mapping) == []
        for left in repository.sessions.values():
            with contextlib.suppress(NothingToCommitError):
                repository.resume(left.id).commit("after all")
        log = [commit.message for commit in repository.log()]
        assert len(log) == 2
        values = {f"a/{number}": bytes([number]) for number in range(10)}
        assert dict(repository.checkout().mapping) == values


class TestTransfer:
    @pytest.fixture
    def source(self) -> Repository:
        """Branches, a merge, a tag, small values and one of several leaves."""
        source = vz.create(f"memory://{uuid.uuid4()}")
        for number in range(2):
            with source.session(message=str(number)) as session:
                session.mapping["a"] = bytes([number])
                session.mapping["large"] = bytes([number]) * 2_500_000
        source.branches.create("dev", "main~1")
        source.tags.create("v1.0")
        with source.session("dev", message="dev") as session:
            session.mapping["d"] = b"d"
        source.merge("dev")
        return source

    @staticmethod
    def assert_equal(one: Repository, other: Repository) -> None:
        for name in one.branches:
            assert [c.cid for c in one.log(name)] == [c.cid for c in other.log(name)]
            found, wanted = (dict(each.checkout(name).mapping) for each in (one, other))
            assert found == wanted
        assert dict(one.tags) == dict(other.tags)

    def test_a_clone_there_and_back_is_the_same(
        self,
        source: Repository,
        lakefs_by_environment: LakefsServer,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
    ) -> None:
        there = vz.clone(source.url, f"lakefs://c-{uuid.uuid4().hex}")
        self.assert_equal(source, there)
        fresh = elsewhere(lakefs_by_environment, there, monkeypatch, tmp_path)
        self.assert_equal(source, fresh)
        back = vz.clone(fresh.url, tmp_path / "back.vz")
        self.assert_equal(source, back)
        assert back.fsck().is_clean

    @pytest.mark.usefixtures("lakefs_by_environment")
    def test_push_sends_what_is_new_and_links_what_is_there(
        self, source: Repository, lakefs: LakefsServer
    ) -> None:
        target = lakefs.create()
        source.push(target.url)
        self.assert_equal(source, target)
        with source.session(message="the large one again") as session:
            session.mapping["copy"] = session.mapping["large"]
        done = source.push(target.url)
        assert done.values == 0
        self.assert_equal(source, target)
        others = lakefs.client(target.url.removeprefix("lakefs://"))
        stats = {stat.path: stat for stat in others.list("main")}
        # A local store writes the same address in two ways.
        assert stats["large"].physical_address.removeprefix("local://") in (
            stats["copy"].physical_address
        )

    @pytest.mark.usefixtures("lakefs_by_environment")
    def test_history_that_others_made_ends_at_the_border(
        self, repository: Repository, others: LakefsClient, tmp_path: Path
    ) -> None:
        others.upload("main", "a", b"1", {})
        others.commit("main", "theirs", {})
        folder = vz.create(tmp_path / "r.vz")
        with pytest.raises(InvalidInputError, match="allow_empty=True"):
            folder.fetch(repository.url)
        commit = repository.session().commit("ours", allow_empty=True)
        copy = vz.clone(repository.url, tmp_path / "copy.vz")
        assert [each.cid for each in copy.log()] == [commit.cid]
        assert dict(copy.checkout().mapping) == {"a": b"1"}
        assert copy.fsck().is_clean
        with copy.session(message="onwards") as session:
            session.mapping["b"] = b"2"
        copy.push(repository.url)
        assert [each.message for each in repository.log()][:3] == ["onwards", "ours", "theirs"]


class TestRequests:
    def test_one_chunk_of_many_costs_few(
        self, lakefs: LakefsServer, repository: Repository
    ) -> None:
        with repository.session(message="many") as session:
            for number in range(400):
                session.mapping[f"a/{number // 100}/{number % 100}"] = bytes([number % 251]) * 9
        with proxy(lakefs.endpoint) as before:
            options = {**lakefs.options, "endpoint": before.url}
            there = vz.open(repository.url, **options)
            assert len(there.checkout().mapping) == 400
            assert len(before.requests) < 30
            before.requests.clear()
            session = there.session()
            session.mapping["a/7/7"] = b"changed"
            session.commit("one")
            # Two of them once per process, for hidden branches that were left behind.
            assert len(before.requests) <= 14, before.requests

    def test_the_first_listing_costs_one_for_each_thousand_keys(
        self,
        lakefs: LakefsServer,
        repository: Repository,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with repository.session(message="many") as session:
            session.mapping.update({f"a/{number % 50}/{number}": b"x" for number in range(1500)})
        monkeypatch.setenv("VERSIONED_ZARR_HOME", str(tmp_path / "elsewhere"))
        with proxy(lakefs.endpoint) as before:
            there = vz.open(repository.url, **{**lakefs.options, "endpoint": before.url})
            assert len(there.checkout().mapping) == 1500
            assert len([each for each in before.requests if b"/objects/ls?" in each]) == 2
            assert len(before.requests) <= 7, before.requests


class TestDirectTransfer:
    def test_large_values_do_not_pass_through_lakefs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "s3").mkdir()
        (tmp_path / "lakefs").mkdir()
        large = random.Random(5).randbytes(3 << 20)
        with s3_server(tmp_path / "s3") as s3, proxy(s3.endpoint) as store:
            lakefs = on_s3(tmp_path / "lakefs", s3, store.url)
            lakefs.start()
            try:
                repository = lakefs.create()
                with proxy(lakefs.endpoint) as before:
                    options = {**lakefs.options, "endpoint": before.url}
                    ours = vz.open(repository.url, **options)
                    with ours.session(message="large and small") as session:
                        session.mapping["large"] = large
                        session.mapping["small"] = b"small"
                        assert session.mapping["large"] == large
                    assert before.passed_bytes < 100_000
                    assert store.passed_bytes > len(large)
                there = elsewhere(lakefs, repository, monkeypatch, tmp_path)
                asked = len(store.requests)
                assert dict(there.checkout().mapping) == {"large": large, "small": b"small"}
                assert len(store.requests) > asked
                store.close()  # from now on, only lakeFS itself reaches the objects
                blocked = elsewhere(lakefs, repository, monkeypatch, tmp_path)
                assert blocked.checkout().mapping["large"] == large
                with blocked.session(message="through lakeFS") as session:
                    session.mapping["more"] = large[::-1]
                assert there.checkout().mapping["more"] == large[::-1]
            finally:
                lakefs.stop()

    def test_a_key_is_set_once(self, tmp_path: Path) -> None:
        (tmp_path / "s3").mkdir()
        (tmp_path / "lakefs").mkdir()
        with s3_server(tmp_path / "s3") as s3:
            lakefs = on_s3(tmp_path / "lakefs", s3, s3.endpoint)
            lakefs.start()
            try:
                client = lakefs.client(lakefs.create().url.removeprefix("lakefs://"))
                large = bytes(2 << 20)
                client.upload("main", "a", large, {"vz-cid": "x"}, only_new=True)
                with pytest.raises(PreconditionFailedError):
                    client.upload("main", "a", large[::-1], {}, only_new=True)
                found = client.stat("main", "a")
                assert found is not None
                assert found.metadata == {"vz-cid": "x"}
            finally:
                lakefs.stop()

    def test_deletions_go_a_thousand_at_a_time(
        self, lakefs: LakefsServer, repository: Repository
    ) -> None:
        keys = [f"a/{number}" for number in range(2500)]
        session = repository.session()
        with ThreadPoolExecutor(16) as threads:
            list(threads.map(lambda key: session.mapping.__setitem__(key, b"x"), keys))
        session.commit("many")
        with proxy(lakefs.endpoint) as before:
            there = vz.open(repository.url, **{**lakefs.options, "endpoint": before.url})
            with there.session(message="none") as session:
                asyncio.run(session.store.delete_dir("a"))
                session.mapping["b"] = b"y"
            asked = [request for request in before.requests if b"/objects/delete" in request]
            assert len(asked) == 3
        assert dict(repository.checkout().mapping) == {"b": b"y"}

    def test_a_busy_server_is_asked_again(
        self, lakefs: LakefsServer, repository: Repository
    ) -> None:
        chance = random.Random(1)
        with proxy(lakefs.endpoint, is_busy=lambda request: chance.randrange(3) == 0) as busy:
            there = vz.open(repository.url, **{**lakefs.options, "endpoint": busy.url})
            for number in range(5):
                with there.session(message=str(number)) as session:
                    session.mapping[f"a/{number}"] = bytes([number])
            assert len(there.checkout().mapping) == 5
            assert busy.refused > 5
        assert [commit.message for commit in repository.log()][:5] == ["4", "3", "2", "1", "0"]


class TestLostAnswers:
    def test_no_commit_is_lost_or_made_twice(
        self,
        lakefs: LakefsServer,
        repository: Repository,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # A claim whose answer is lost is waited for.
        monkeypatch.setattr(hidden_branches, "LEASE_S", 0.5)
        chance = random.Random(0)

        def loses(request: bytes) -> bool:
            asks_to_change = request.startswith((b"POST", b"PUT", b"DELETE"))
            return asks_to_change and chance.randrange(4) == 0

        with proxy(lakefs.endpoint, loses_answer=loses) as between:
            options = {**lakefs.options, "endpoint": between.url}
            there = vz.open(repository.url, **options)
            made = []
            for number in range(12):
                session = there.session()
                session.mapping[f"a/{number}"] = bytes([number])
                made.append(session.commit(str(number)).cid)
            assert between.lost > 5
        assert [commit.cid for commit in repository.log()][:-1] == made[::-1]
        assert len(repository.checkout().mapping) == 12


class TestWhatIsWrong:
    def test_a_wrong_secret_is_refused_and_not_shown(self, lakefs: LakefsServer) -> None:
        options = {**lakefs.options, "secret_access_key": "not-the-secret"}
        with pytest.raises(RefusedError) as caught:
            vz.open("lakefs://anything", **options)
        assert "not-the-secret" not in str(caught.value)
        assert "the arguments" in str(caught.value)
        assert "not-the-secret" not in repr(connection("http://x", "id", "not-the-secret"))

    def test_a_repository_that_is_not_there(self, lakefs: LakefsServer) -> None:
        with pytest.raises(RepositoryNotFoundError):
            vz.open("lakefs://nothing-here", **lakefs.options)

    def test_a_server_that_is_not_there(self) -> None:
        reached = Connection("http://127.0.0.1:9", "id", "secret")
        with pytest.raises(StorageError, match="does not answer"):
            LakefsClient(reached, "any").exists()

    def test_credentials_come_from_where_lakectl_has_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "lakectl.yaml"
        file.write_text(
            "credentials:\n  access_key_id: from-file\n  secret_access_key: s1\n"
            "server:\n  endpoint_url: http://file/api/v1\n"
        )
        monkeypatch.setenv("LAKECTL_CONFIG_FILE", str(file))
        found = connection()
        assert (found.endpoint, found.access_key_id) == ("http://file", "from-file")
        monkeypatch.setenv("LAKECTL_CREDENTIALS_ACCESS_KEY_ID", "from-environment")
        assert connection().access_key_id == "from-environment"
        assert connection(access_key_id="passed").access_key_id == "passed"
        monkeypatch.setenv("LAKECTL_CONFIG_FILE", str(tmp_path / "none"))
        with pytest.raises(InvalidInputError, match="LAKECTL_SERVER_ENDPOINT_URL"):
            connection()


class TestZarr:
    def test_arrays_on_two_branches_differ(self, repository: Repository) -> None:
        with repository.session(message="main") as session:
            array = zarr.create_array(session.store, shape=(4, 4), chunks=(2, 2), dtype="f8")
            array[:] = np.arange(16).reshape(4, 4)
        repository.branches.create("dev")
        with repository.session("dev", message="dev") as session:
            zarr.open_array(session.store)[2, 2] = -1
        values = [
            zarr.open_array(repository.checkout(ref).store, mode="r")[2, 2]
            for ref in ("main", "dev")
        ]
        assert values == [10, -1]
        assert repository.merge("dev").tree == repository.checkout("dev").cid
